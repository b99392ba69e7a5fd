"""Vaswani et al. 2017: N(x + F(x))."""


def wire(before, project, norm):
    return lambda x: project(before(x)), norm
