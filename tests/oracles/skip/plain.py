"""He et al. 2016: x + F(x)."""

from itertools import chain


def stack(x, layers, end):
    for sub_layer in chain(*layers):
        x = sub_layer.last(x + sub_layer.f(x))
    return end(x)
