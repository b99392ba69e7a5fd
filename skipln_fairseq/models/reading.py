"""Reads a model's modules into what the decoding kernels are given, and refuses what they do not cover."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from fairseq.modules import LearnedPositionalEmbedding, SinusoidalPositionalEmbedding, gelu, gelu_accurate
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.kernels.chain import Norming, Part
from ..nn.kernels.decode import Product, Shape, Wiring, kind
from ..nn.norm import NORMS
from ..nn.norm.bhyt import BoundedTanh
from ..nn.norm.derf import DynamicErf
from ..nn.norm.dyt import DynamicTanh
from ..nn.norm.scale import ScaleNorm
from ..nn.norm.seed import SeeDNorm
from ..nn.placement.hybrid import Sum
from ..nn.placement.keel import Keel
from ..nn.placement.lns import LayerNormScaling
from ..nn.placement.post import Post
from ..nn.placement.pre import Pre
from ..nn.placement.res_post import ResPost
from ..nn.placement.sandwich import Sandwich
from ..nn.placement.sub import NormedLinear, Sub
from ..nn.plain import is_plain, is_watched
from ..nn.skip import SKIPS
from .connected import retains_dropout
from .fast_attention import FastAttention

__all__ = [
    "Positions",
    "Unknown",
    "activation",
    "check_layer",
    "check_stack",
    "is_known",
    "known",
    "maps",
    "norm",
    "same_in_all",
    "wiring",
]

T = TypeVar("T")


class Unknown(Exception):
    """What about a stack the kernels do not know."""


def known(condition: bool, what: str) -> None:
    """Refuse what is not.

    Raises:
        Unknown: with these words.
    """
    if not condition:
        raise Unknown(what)


def is_known(module: nn.Module, *kinds: type[nn.Module], what: str) -> None:
    """Refuse a module of another class, or in which something has been changed."""
    known(is_plain(module, *kinds), f"its {what} {type(module).__name__}, or a change to it")


def wiring(connection: nn.Module, last: nn.Linear) -> Wiring:
    """How a sub-layer is connected whose last map this is."""
    parts = vars(type(connection)).get("parts", ())
    is_known(connection, *([type(connection)] if parts else []), what="connection")
    is_known(connection.skip, *SKIPS.values(), what="skip")
    placement = next((one for one in BEFORE if one in parts), None)
    known(placement is not None, f"where its norms stand in {type(connection).__name__}")
    links = connection.chain()
    known(links is not None, f"its skip {type(connection.skip).__name__}")
    links = [one._replace(norm=norm(one.norm, connection)) for one in links]
    inside = norm(last.norm) if type(last) is NormedLinear else None
    return Wiring(links, BEFORE[placement](connection), inside)


def _nothing(connection: nn.Module) -> None:
    return None


def _own(connection: nn.Module) -> Norming | None:
    return norm(connection, connection)


def _entry(connection: nn.Module) -> Norming | None:
    return norm(connection.entry)


def _scaled(connection: nn.Module) -> Norming:
    one, factor = norm(connection, connection), connection.depth_factor
    gain = torch.ones(()) if one.weight is None else one.weight
    bias, gate = (None if part is None else factor * part for part in (one.bias, one.gate))
    return one._replace(weight=factor * gain, bias=bias, gate=gate)


BEFORE = {
    **dict.fromkeys((Post, ResPost, Sum), _nothing),
    **dict.fromkeys((Pre, Sub), _own),
    **dict.fromkeys((Sandwich, Keel), _entry),
    LayerNormScaling: _scaled,
}
"""Of each placement the norm of what F is given."""


def norm(module: nn.Module | None, connection: nn.Module | None = None) -> Norming | None:
    """A norm, or none; that of the connection itself is known if the connection is."""
    if module is None:
        return None
    if module is not connection:
        is_known(module, *NORMS.values(), nn.LayerNorm, what="norm")
    of = vars(type(module))["parts"][-1] if module is connection else type(module)
    found = SHAPES[of](module) if of in SHAPES else module.norming()
    known(found is not None, f"its norm {of.__name__}")
    return found


def _length(one: ScaleNorm) -> Norming:
    return Norming(Shape.LENGTH, one.eps, one.weight)


def _tanh(one: DynamicTanh) -> Norming:
    return Norming(Shape.TANH, 0.0, one.weight, one.bias, one.alpha.item(), 0.0)


def _erf(one: DynamicErf) -> Norming:
    return Norming(Shape.ERF, 0.0, one.weight, one.bias, one.alpha.item(), one.shift.item())


def _bounded(one: BoundedTanh) -> Norming:
    scale = one.gain.item() / one.kappa
    return Norming(Part.RMS | Shape.TANH, one.eps, one.weight, scale=scale)


def _gated(one: SeeDNorm) -> Norming:
    return Norming(Part.RMS | Shape.GATED, one.eps, one.weight, gate=one.alpha, along=one.beta)


def _layer_norm(one: nn.LayerNorm) -> Norming:
    return Norming(Part.LAYER, one.eps, one.weight, one.bias)


SHAPES = {
    ScaleNorm: _length,
    DynamicTanh: _tanh,
    DynamicErf: _erf,
    BoundedTanh: _bounded,
    SeeDNorm: _gated,
    nn.LayerNorm: _layer_norm,
}
"""Norms that training's kernels do not know, and fairseq's own."""


def activation(layer: nn.Module) -> str:
    """What stands between the feed-forward's maps."""
    found = {F.relu: "relu", gelu: "gelu", gelu_accurate: "gelu_accurate", torch.tanh: "tanh"}
    known(layer.activation_fn in found, "its activation function")
    return found[layer.activation_fn]


def maps(*linears: nn.Module, form: str, rectified: bool = False) -> Product:
    """Linear maps of one input as one product."""
    for one in linears:
        is_known(one, nn.Linear, NormedLinear, what="map")
    return Product(linears, form, rectified)


def check_layer(layer: nn.Module, of: type[nn.Module], *attentions: FastAttention) -> None:
    """Refuse a layer that is more than attention, feed-forward, and their connections."""
    is_known(layer, of, what="layer")
    for attention in attentions:
        is_known(attention, FastAttention, what="attention")


def check_stack(stack: nn.Module, of: type[nn.Module]) -> None:
    """Refuse an encoder or decoder whose loop over layers is another one, or that is no float32 on the CPU."""
    known(kind() is not None, "a machine without a C compiler")
    like = next(stack.parameters())
    known(like.dtype == torch.float32 and like.device.type == "cpu", f"{like.dtype} on {like.device.type}")
    known(stack.quant_noise is None, "its embedding layer")
    known(not retains_dropout(stack), "retained dropout")
    known(not any(map(is_watched, stack.modules())), "hooks")
    own_loop = stack.config.own_loop()
    known(not own_loop, ", ".join(map(" ".join, own_loop.items())))
    is_known(stack, of, what="class")
    known(not any(one.training for one in stack.modules()), "modules in training mode")
    is_known(stack.embed_tokens, nn.Embedding, what="embedding")
    known(len(stack.layers) > 0, "a stack without layers")


def same_in_all(layers: Sequence[nn.Module], read: Callable[[nn.Module], T], what: str) -> T:
    """What must be the same in all layers."""
    found = {read(layer) for layer in layers}
    known(len(found) == 1, f"layers of which {what} differ")
    return found.pop()


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
