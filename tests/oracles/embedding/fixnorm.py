"""Nguyen & Salazar 2019: each row over its length."""

import numpy as np


def vectors(table):
    return table / np.sqrt((table**2).sum(-1, keepdims=True))
