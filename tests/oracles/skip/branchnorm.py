"""Liu et al. 2023: N(x + αF(x)), α = min(1, t/T)."""


def stack(x, layers, end, steps):
    for layer in layers:
        for sub_layer in layer:
            alpha = min(1, sub_layer.numbers["updates"] / steps)
            x = sub_layer.last(x + alpha * sub_layer.f(x))
    return end(x)
