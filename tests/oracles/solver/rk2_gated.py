"""Li et al. 2022: y + gF₁ + (1 − g)F₂, g = sigmoid(w · [F₁; F₂] + b)."""

import numpy as np


def solve(run, y, numbers):
    first = run(y)
    second = run(y + first)
    logits = np.concatenate([first, second], -1) @ numbers["weight"].T + numbers["bias"]
    gate = 1 / (1 + np.exp(-logits))
    return y + gate * first + (1 - gate) * second
