"""Li et al. 2022: y + ½(F₁ + F₂)."""


def solve(run, y, numbers):
    first = run(y)
    return y + first / 2 + run(y + first) / 2
