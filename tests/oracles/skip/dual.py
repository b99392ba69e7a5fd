"""Xie et al. 2023: p ← N(p + F(p)), d ← d + F(p), at the end p + N(d)."""

from itertools import chain


def stack(x, layers, end):
    p, d = x, x
    for sub_layer in chain(*layers):
        f = sub_layer.f(p)
        p, d = sub_layer.last(p + f), d + f
    return p + end(d)
