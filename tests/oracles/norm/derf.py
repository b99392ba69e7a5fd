"""Chen et al. 2025: w ⊙ erf(αv + s) + b."""

import math

import numpy as np


def norm(v, alpha, shift, weight, bias):
    return weight * np.vectorize(math.erf)(alpha * v + shift) + bias
