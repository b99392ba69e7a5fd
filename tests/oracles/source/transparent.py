"""Bapna et al. 2018, without dropout: for each block of the decoder a sum of all outputs with weights of softmax."""

import numpy as np


def sources(outputs, end, numbers):
    exponential = np.exp(numbers["weight"])
    shares = exponential / exponential.sum(0)
    assert len(shares) == len(outputs)
    return [sum(share * y for share, y in zip(column, outputs, strict=True)) for column in shares.T]
