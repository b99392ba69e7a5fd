"""The equations once more, in float64 numpy, written from the papers and not from the package.

A norm's oracle takes v (…, dim) and its numbers and returns the output; its ``_backward`` takes the output's
gradient g as well and returns v's gradient as the paper has it. In both, σ includes eps under its root.
"""

import numpy as np

EPS = 1e-5


def mean(v):
    return v.mean(-1, keepdims=True)


def standardised(v, eps=EPS):
    """(v − μ)/σ and σ."""
    centred = v - mean(v)
    deviation = np.sqrt(mean(centred**2) + eps)
    return centred / deviation, deviation


def layer_norm(v, weight, bias, eps=EPS):
    return weight * standardised(v, eps)[0] + bias


def layer_norm_backward(v, g, weight=1.0, bias=0.0, eps=EPS):
    y, deviation = standardised(v, eps)
    g = weight * g
    return (g - mean(g) - y * mean(g * y)) / deviation


def simple(v):
    return standardised(v)[0]


def detach_backward(v, g):
    return g / standardised(v)[1]


def detach_mean_backward(v, g):
    y, deviation = standardised(v)
    return (g - y * mean(g * y)) / deviation


def detach_deviation_backward(v, g):
    return (g - mean(g)) / standardised(v)[1]


def ada(v, scale, slope):
    y = simple(v)
    return scale * (1 - slope * y) * y


def ada_backward(v, g, scale, slope):
    return layer_norm_backward(v, scale * (1 - slope * simple(v)) * g)


def rms_backward(v, g, weight):
    root = np.sqrt(mean(v**2) + 1e-6)
    g = weight * g
    return g / root - v * mean(g * v) / root**3


def scale_backward(v, g, weight):
    length = np.sqrt((v**2).sum(-1, keepdims=True))
    unit = v / length
    return weight * (g - unit * (unit * g).sum(-1, keepdims=True)) / length


def dyt_backward(v, g, alpha, weight, bias):
    return weight * g * alpha / np.cosh(alpha * v) ** 2


def no_norm(v, *_):
    return v


def no_norm_backward(v, g):
    return g


def batch_norm(tokens, weight, bias):
    """Over the rows of (tokens, dim)."""
    return weight * simple(tokens.T).T + bias


def batch_norm_backward(tokens, g, weight):
    return layer_norm_backward(tokens.T, (weight * g).T).T


def plain(x, f, norm):
    return norm(x + f)


def expanded(x, f, norm, scale):
    return norm(scale * x + f)


def recursive(x, f, norms):
    y = f
    for norm in norms:
        y = norm(x + y)
    return y


def recursive_backward(x, f, norms, backwards, g):
    """Gradients of x and f, from the last step to the first."""
    sums, y = [], f
    for norm in norms:
        sums.append(x + y)
        y = norm(sums[-1])
    g_x = np.zeros_like(x)
    for total, backward in zip(reversed(sums), reversed(backwards), strict=True):
        g = backward(total, g)
        g_x = g_x + g
    return g_x, g


def bottom_to_top(x, branches, norm):
    """One layer: the outputs of its sub-layers are given, ``branches``; x is the layer's input."""
    bottom = x
    for f in branches[:-1]:
        x = norm(x + f)
    return norm(x + branches[-1] + bottom)


def dual(x, branches, norm, end):
    """A whole stack of ResiDual: p and d start as x."""
    p, d = x, x
    for f in branches:
        p, d = norm(p + f), d + f
    return p + end(d)


def highway(x, f, weight, bias):
    gate = 1 / (1 + np.exp(-(x @ weight.T + bias)))
    return (1 - gate) * x + gate * f


def rezero(x, branches, alphas):
    """A layer: the outputs of its sub-layers are given, and the α of each."""
    for f, alpha in zip(branches, alphas, strict=True):
        x = x + alpha * f
    return x


def rezero_backward(branches, g):
    """The gradient of each α; a shared one has their sum."""
    return [(g * f).sum() for f in branches]


def sub_ln(x, projections, norms):
    """A sub-layer ``x + W₂ N₂(W₁ N₁(x))``."""
    first, last = projections
    outer, inner = norms
    return x + inner(outer(x) @ first.T) @ last.T
