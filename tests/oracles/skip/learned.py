"""λ ⊙ x + F(x)."""

from itertools import chain


def stack(x, layers, end, scale, vector):
    for sub_layer in chain(*layers):
        assert sub_layer.numbers["scale"].size == (x.shape[-1] if vector else 1)
        x = sub_layer.last(sub_layer.numbers["scale"] * x + sub_layer.f(x))
    return end(x)
