"""Li et al. 2024: the first ⌊aL⌋ layers N(x + F(x)), the others x + F(N(x))."""

import math


def wire(before, project, norm, layer, layers, part):
    if layer + 1 <= math.floor(part * layers):
        return lambda x: project(before(x)), norm
    return lambda x: project(before(norm(x))), lambda v: v
