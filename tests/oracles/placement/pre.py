"""Xiong et al. 2020: x + F(N(x))."""


def wire(before, project, norm):
    return lambda x: project(before(norm(x))), lambda v: v
