"""Wang et al. 2022, figure 2: N(αx + F(x)), α by hand for the test's two encoder and five decoder layers."""

from itertools import chain

ALPHA = {"encoder": 0.81 * (2**4 * 5) ** 0.0625, "decoder": 15**0.25}


def stack(x, layers, end):
    for sub_layer in chain(*layers):
        x = sub_layer.last(ALPHA[sub_layer.side] * x + sub_layer.f(x))
    return end(x)
