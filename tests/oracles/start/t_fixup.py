"""Huang et al. 2020: Xavier times 0.67 N^(−¼) in the encoder, (9M)^(−¼) in the decoder; not queries and keys."""

import math


def bound(kind, side, block, depth, d_in, d_out):
    xavier = math.sqrt(6 / (d_in + d_out))
    if kind in ("q_proj", "k_proj"):
        return xavier / math.sqrt(2)  # as fairseq has it, in the authors' code too
    encoder_layers, decoder_layers = depth
    return xavier * (0.67 / encoder_layers**0.25 if side == "encoder" else 1 / (9 * decoder_layers) ** 0.25)


def embedding(words, dim, layers):
    return dim**-0.5 / (9 * layers) ** 0.25
