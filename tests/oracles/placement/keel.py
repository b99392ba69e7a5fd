"""Chen & Wei 2026: N(αx + F(N₁(x)))."""


def wire(before, project, norm, entry):
    return lambda x: project(before(entry(x))), norm
