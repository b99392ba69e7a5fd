"""Nguyen & Salazar 2019: g v/‖v‖."""

import numpy as np


def norm(v, weight):
    return weight * v / np.sqrt((v**2).sum(-1, keepdims=True))
