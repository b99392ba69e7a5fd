"""Touvron et al. 2021: x + s ⊙ F(N(x))."""

from itertools import chain


def stack(x, layers, end, scale):
    for sub_layer in chain(*layers):
        x = sub_layer.last(x + sub_layer.numbers["scale"] * sub_layer.f(x))
    return end(x)
