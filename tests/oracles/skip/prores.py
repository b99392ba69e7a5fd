"""Chen et al. 2026: x + αF(x), α = min(t/(T l), 1), l from 1."""


def stack(x, layers, end, steps):
    for number, layer in enumerate(layers, start=1):
        for sub_layer in layer:
            alpha = min(sub_layer.numbers["updates"] / (steps * number), 1)
            x = sub_layer.last(x + alpha * sub_layer.f(x))
    return end(x)
