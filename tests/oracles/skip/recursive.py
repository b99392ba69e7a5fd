"""Liu et al. 2020: y₁ = N₁(x + F(x)), yₖ = Nₖ(x + yₖ₋₁)."""

from itertools import chain


def stack(x, layers, end, order, share):
    for sub_layer in chain(*layers):
        y = sub_layer.f(x)
        for step in range(order - 1):
            y = (sub_layer.last if share else sub_layer.norms[step])(x + y)
        x = sub_layer.last(x + y)
    return end(x)
