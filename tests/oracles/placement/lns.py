"""Sun et al. 2025: x + F(N(x)/√l), l from 1; as a gain, N's own number holds the factor."""

import math


def wire(before, project, norm, layer, gain):
    factor = 1 if gain else 1 / math.sqrt(layer + 1)
    return lambda x: project(before(factor * norm(x))), lambda v: v
