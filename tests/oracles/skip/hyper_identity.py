"""mHC with the identity for H_res: σ reads, 2σ writes, a stream is only added to."""

from itertools import chain

import numpy as np

from .mhc import merged, sigmoid, three_maps


def stack(x, layers, end, streams, **_):
    rows = np.stack([x] * streams, -2)
    for sub_layer in chain(*layers):
        reads, writes, _ = three_maps(rows, sub_layer.numbers)
        f = sub_layer.f((sigmoid(reads)[..., None] * rows).sum(-2))
        rows = rows + 2 * sigmoid(writes)[..., None] * f[..., None, :]
    return end(merged(rows, end))
