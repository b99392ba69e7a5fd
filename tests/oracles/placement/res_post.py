"""Liu et al. 2021: x + N(F(x))."""


def wire(before, project, norm):
    return lambda x: norm(project(before(x))), lambda v: v
