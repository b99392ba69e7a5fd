"""Menghani et al. 2024, LR: F(x) + BAx + x."""


def stack(x, layers, end, rank):
    for layer in layers:
        for sub_layer in layer:
            a, b = sub_layer.numbers["down"], sub_layer.numbers["up"]
            assert a.shape[0] == rank
            x = sub_layer.last(sub_layer.f(x) + x @ (b @ a).T + x)
    return end(x)
