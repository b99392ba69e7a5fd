"""Xu et al. 2020: U(±1/√d_in), embeddings U(±√(2/(V + d)))."""


def bound(kind, side, block, depth, d_in, d_out):
    return d_in**-0.5


def embedding(words, dim, layers):
    return (2 / (words + dim)) ** 0.5 / 3**0.5  # the deviation of that uniform distribution
