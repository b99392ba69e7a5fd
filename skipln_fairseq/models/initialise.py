"""The first weights of embeddings; those of layers are set where a layer is built."""

from collections.abc import Mapping

from torch import nn

from .config import StackConfig

__all__ = ["initialise_embeddings"]


def initialise_embeddings(model: nn.Module, stacks: Mapping[str, StackConfig], args) -> nn.Module:
    """Let each side's initialisation change its input embedding, once where both sides share one.

    What was read from a file (``--encoder-embed-path``) stays, and so do embeddings that are no plain table.
    """
    seen: set[int] = set()
    for side, config in stacks.items():
        table = getattr(model, side).embed_tokens
        read = getattr(args, f"{side}_embed_path", None)
        if isinstance(table, nn.Embedding) and not read and id(table) not in seen:
            layers = dict(zip(("encoder", "decoder"), config.depth, strict=True))[side]
            config.make_start().embedding(table.weight, table.padding_idx, max(layers, 1))
            seen.add(id(table))
    return model
