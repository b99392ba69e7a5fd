"""SpanNorm, 2601.22580: y = N(x + Attn(x)), and N(x + FFN(y)) with the layer's own x."""


def stack(x, layers, end):
    for layer in layers:
        y = x
        for sub_layer in layer[:-1]:
            y = sub_layer.last(y + sub_layer.f(y))
        x = layer[-1].last(x + layer[-1].f(y))
    return end(x)
