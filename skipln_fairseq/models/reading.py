"""What the kernels know of a model's modules, as the kernels are told."""

import torch
from fairseq.modules import LearnedPositionalEmbedding, SinusoidalPositionalEmbedding
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.fused import FusedPost, FusedPre, are_one_kernel
from ..nn.kernels.decode import Product, Wiring, kind
from ..nn.norm.layer import LayerNorm
from ..nn.placement import connection_class
from ..nn.plain import is_plain, is_watched
from .fast_attention import FastAttention
from .layers import retains_dropout

__all__ = [
    "Positions",
    "Unknown",
    "check_layer",
    "check_stack",
    "is_known",
    "known",
    "maps",
    "norm",
    "wiring",
]


class Unknown(Exception):
    """What about a stack the kernels do not know."""


CONNECTIONS = [connection_class(placement, LayerNorm) for placement in (FusedPost, FusedPre)]


def known(condition: bool, what: str) -> None:
    """Refuse what is not.

    Raises:
        Unknown: with these words.
    """
    if not condition:
        raise Unknown(what)


def is_known(module: nn.Module, *kinds: type[nn.Module], what: str) -> None:
    """Refuse a module of another class, or in which something has been changed."""
    known(is_plain(module, *kinds), f"its {what} {type(module).__name__}, or what was put into it")


def wiring(connection: nn.Module) -> Wiring:
    """How a sub-layer is connected."""
    is_known(connection, *CONNECTIONS, what="connection")
    is_known(connection.skip, type(connection.skip), what="skip")
    chain = connection.skip.chain()
    known(chain is not None, f"its skip {type(connection.skip).__name__}")
    scale, norms = chain
    for one in norms:
        is_known(one, LayerNorm, what="norm")
    known(are_one_kernel([*norms, connection]), "its norms, which have no gain, no bias or several eps")
    if isinstance(connection, FusedPre):
        return Wiring([connection], True, scale)
    return Wiring([*norms, connection], False, scale)


def norm(module: nn.Module | None) -> Wiring:
    """A norm alone, or none."""
    if module is None:
        return Wiring()
    is_known(module, nn.LayerNorm, LayerNorm, what="norm")
    return Wiring([module])


def maps(*linears: nn.Module, form: str, rectified: bool = False) -> Product:
    """Linear maps of one input as one product."""
    for one in linears:
        is_known(one, nn.Linear, what="map")
    return Product(linears, form, rectified)


def check_layer(layer: nn.Module, of: type[nn.Module], *attentions: FastAttention) -> None:
    """Refuse a layer that is more than attention, feed-forward with ReLU, and their connections."""
    is_known(layer, of, what="layer")
    for attention in attentions:
        is_known(attention, FastAttention, what="attention")
    known(layer.activation_fn is F.relu, "its activation function, which is not ReLU")


def check_stack(stack: nn.Module, of: type[nn.Module]) -> None:
    """Refuse an encoder or decoder whose loop over layers is another one, or that is no float32 on the CPU."""
    known(kind() is not None, "a machine without a C compiler")
    like = next(stack.parameters())
    known(like.dtype == torch.float32 and like.device.type == "cpu", "its type or device")
    known(stack.quant_noise is None, "its embedding layer")
    known(not retains_dropout(stack), "retained dropout")
    known(not any(map(is_watched, stack.modules())), "hooks")
    own_loop = stack.config.own_loop()
    known(not own_loop, ", ".join(map(" ".join, own_loop.items())))
    is_known(stack, of, what="class")
    known(not any(one.training for one in stack.modules()), "modules in training mode")
    is_known(stack.embed_tokens, nn.Embedding, what="embedding")
    known(len(stack.layers) > 0, "a stack without layers")


class Positions:
    """What is added to the embeddings of the first word, the second and so on, computed once.

    Args:
        module: fairseq's, or None.
        padding: the word that is none.
    """

    def __init__(self, module: nn.Module | None, padding: int):
        if module is not None:
            is_known(module, LearnedPositionalEmbedding, SinusoidalPositionalEmbedding, what="positions")
        self.module, self.padding = module, padding
        self.known: Tensor | None = None

    def first(self, number: int) -> Tensor | None:
        """(number at least, dim), or None where nothing is added."""
        if self.module is None:
            return None
        found = self.known
        if found is None or len(found) < number:
            words = torch.full((1, number), self.padding + 1)
            self.known = found = self.module(words)[0].detach().contiguous()
        return found
