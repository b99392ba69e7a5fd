"""Li et al. 2024: y + α(1 − α)F₁ + αF₂."""


def solve(run, y, numbers, per_block):
    alpha = numbers["alpha"]
    first = run(y)
    return y + alpha * (1 - alpha) * first + alpha * run(y + first)
