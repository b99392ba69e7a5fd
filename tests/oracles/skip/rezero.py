"""Bachlechner et al. 2020: x + αF(x), the α of a layer being that of its first sub-layer."""


def stack(x, layers, end):
    for layer in layers:
        for sub_layer in layer:
            x = sub_layer.last(x + layer[0].numbers["scale"] * sub_layer.f(x))
    return end(x)
