"""The equations once more, in float64 numpy, written from the paper and not from the package."""

import numpy as np


def layer_norm(v, weight, bias, eps=1e-5):
    centred = v - v.mean(-1, keepdims=True)
    return weight * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) + bias


def no_norm(v, *_):
    return v


def plain(x, f, norm):
    return norm(x + f)


def expanded(x, f, norm, scale):
    return norm(scale * x + f)


def recursive(x, f, norms):
    y = f
    for norm in norms:
        y = norm(x + y)
    return y
