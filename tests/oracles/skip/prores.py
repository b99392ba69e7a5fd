"""Chen et al. 2026: x + αF(x), α = min(t/(T l), 1), l from 1."""

from itertools import chain


def stack(x, layers, end, steps):
    for sub_layer in chain(*layers):
        alpha = min(sub_layer.numbers["updates"] / (steps * (sub_layer.layer + 1)), 1)
        x = sub_layer.last(x + alpha * sub_layer.f(x))
    return end(x)
