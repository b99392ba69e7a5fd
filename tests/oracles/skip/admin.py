"""Liu et al. 2020: N(ω ⊙ x + F(x)), ω being what was measured and what was learned since."""

from itertools import chain


def stack(x, layers, end):
    for sub_layer in chain(*layers):
        omega = sub_layer.numbers["profile"] + sub_layer.numbers["shift"]
        x = sub_layer.last(omega * x + sub_layer.f(x))
    return end(x)
