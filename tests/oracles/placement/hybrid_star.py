"""Zhuo et al. 2025: HybridNorm, its first layer x + F(N(x))."""

from . import hybrid


def wire(before, project, norm, slot, side, layer):
    if layer == 0:
        return lambda x: project(before(norm(x))), lambda v: v
    return hybrid.wire(before, project, norm, slot, side)
