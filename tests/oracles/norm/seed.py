"""Cai et al. 2025: [tanh(v βᵀ) α + γ] ⊙ v/RMS(v), β, α and γ rows of d numbers."""

import numpy as np


def norm(v, weight, alpha, beta):
    dynamic = np.tanh(v @ beta)[..., None] * alpha
    return (dynamic + weight) * v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-6)
