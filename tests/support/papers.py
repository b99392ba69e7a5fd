"""Models, batches and slopes for what papers prove or measure, said of our layers (``tests/models/papers``).

Where a statement has assumptions, the layers are brought under them: parameters overwritten, eps set to 0, dropout off.
Measured numbers in the docstrings are those of the seeds used.
"""

import torch

from tests.support.build import build


def model_of(*flags, layers=(2, 2), width=32, hidden=None, seed=1):
    """An encoder-decoder without dropout, as wide on both sides, in training."""
    sizes = []
    for side, depth in zip(("encoder", "decoder"), layers, strict=True):
        sizes += [f"--{side}-layers", str(depth), f"--{side}-embed-dim", str(width)]
        sizes += [f"--{side}-ffn-embed-dim", str(hidden or 2 * width)]
    return build("transformer_rskip", *sizes, "--dropout", "0", *flags, seed=seed).train()


def tokens(seed, sentences, length):
    """Source, its lengths, shifted target and random target, without padding."""
    generator = torch.Generator().manual_seed(seed)
    source, shifted, target = torch.randint(4, 44, (3, sentences, length), generator=generator)
    return source, torch.full((sentences,), length), shifted, target


def slope(xs, ys):
    """Of the line through the points with the least squares."""
    x, y = torch.tensor(xs, dtype=torch.float64), torch.tensor(ys, dtype=torch.float64)
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
