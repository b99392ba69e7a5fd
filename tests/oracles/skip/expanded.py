"""Liu et al. 2020: λx + F(x)."""

from itertools import chain


def stack(x, layers, end, scale):
    for sub_layer in chain(*layers):
        x = sub_layer.last(scale * x + sub_layer.f(x))
    return end(x)
