"""A decoder's steps as single calls, where its layers are ones that the kernel knows."""

import weakref
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.fused import FusedPost, FusedPre, are_one_kernel
from ..nn.kernels.decode import Decoder, Layer, Product, Records, Wiring, Workspace, kind, product
from ..nn.norm.layer import LayerNorm
from ..nn.placement import connection_class
from ..nn.plain import is_plain, is_watched
from .beams import Beams
from .fast_attention import FastAttention
from .layers import SkipDecoderLayer, retains_dropout
from .stacks import SkipDecoder

__all__ = ["Engine", "Unknown"]


class Unknown(Exception):
    """What about a decoder the kernel does not know."""


CONNECTIONS = [connection_class(placement, LayerNorm) for placement in (FusedPost, FusedPre)]


def _known(condition: bool, what: str) -> None:
    if not condition:
        raise Unknown(what)


def _is(module: nn.Module, *kinds: type[nn.Module], what: str) -> None:
    _known(is_plain(module, *kinds), f"its {what} {type(module).__name__}, or what was put into it")


def _wiring(connection: nn.Module) -> Wiring:
    _is(connection, *CONNECTIONS, what="connection")
    _is(connection.skip, type(connection.skip), what="skip")
    chain = connection.skip.chain()
    _known(chain is not None, f"its skip {type(connection.skip).__name__}")
    scale, norms = chain
    for norm in norms:
        _is(norm, LayerNorm, what="norm")
    _known(are_one_kernel([*norms, connection]), "its norms, which have no gain, no bias or several eps")
    if isinstance(connection, FusedPre):
        return Wiring([connection], True, scale)
    return Wiring([*norms, connection], False, scale)


def _norm(norm: nn.Module | None) -> Wiring:
    if norm is None:
        return Wiring()
    _is(norm, nn.LayerNorm, LayerNorm, what="norm")
    return Wiring([norm])


def _maps(*linears: nn.Module, form: str, rectified: bool = False) -> Product:
    for one in linears:
        _is(one, nn.Linear, what="map")
    return Product(linears, form, rectified)


def _layer(layer: nn.Module, form: str) -> Layer:
    _is(layer, SkipDecoderLayer, what="layer")
    itself, source = layer.self_attn, layer.encoder_attn
    for attention in (itself, source):
        _is(attention, FastAttention, what="attention")
    plain = layer.c_attn is None and layer.w_resid is None
    plain = plain and all(isinstance(one, nn.Identity) for one in (layer.attn_ln, layer.ffn_layernorm))
    _known(plain, "NormFormer's scales")
    _known(itself.causal, "cross-self-attention")
    _known(layer.activation_fn is F.relu, "its activation function, which is not ReLU")
    return Layer(
        _maps(itself.q_proj, itself.k_proj, itself.v_proj, form=form),
        _maps(itself.out_proj, form=form),
        _maps(source.q_proj, form=form),
        _maps(source.out_proj, form=form),
        _maps(layer.fc1, form=form, rectified=True),
        _maps(layer.fc2, form=form),
        *map(_wiring, (layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm)),
    )


class Engine:
    """The steps of a decoder's incremental decoding, each in one call.

    For LayerNorm with plain, expanded, DeepNorm and recursive skips, Post- and Pre-LN, softmax attention and ReLU, in
    float32 on CPUs; what it is made of is read once, when it is made: :class:`.Preparation` makes another one when that
    has changed.

    Args:
        decoder: of a model that is prepared for inference.
        form: of products, see :class:`.Product`.

    Raises:
        Unknown: for another decoder.
    """

    def __init__(self, decoder: SkipDecoder, form: str):
        _known(kind() is not None, "a machine without a C compiler")
        like = next(decoder.parameters())
        _known(like.dtype == torch.float32 and like.device.type == "cpu", "its type or device")
        rest = (
            decoder.adaptive_softmax,
            decoder.project_in_dim,
            decoder.project_out_dim,
            decoder.quant_noise,
        )
        _known(all(one is None for one in rest), "its embedding or output layer")
        _known(not retains_dropout(decoder), "retained dropout")
        _known(not any(map(is_watched, decoder.modules())), "hooks")
        own_loop = decoder.config.own_loop()
        _known(not own_loop, ", ".join(map(" ".join, own_loop.items())))
        _is(decoder, SkipDecoder, what="class")
        _known(not any(one.training for one in decoder.modules()), "modules in training mode")
        _is(decoder.embed_tokens, nn.Embedding, what="embedding")
        _known(len(decoder.layers) > 0, "a decoder without layers")
        _known(all(layer.encoder_attn is not None for layer in decoder.layers), "a decoder without a source")
        layers = [_layer(layer, form) for layer in decoder.layers]
        sources = [
            one for layer in decoder.layers for one in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
        ]
        self.decoder = decoder
        self.source_maps = _maps(*sources, form=form)
        self.kernel = Decoder(
            layers,
            decoder.layers[0].self_attn.num_heads,
            decoder.embed_tokens.weight.detach(),
            decoder.embed_scale,
            _maps(decoder.output_projection, form=form),
            _norm(decoder.layernorm_embedding),
            _norm(decoder.layer_norm),
        )
        self.reference = decoder.forward
        # of this decoder only: TorchScript compiles its class's
        decoder.forward, decoder.advance = self.forward, self.advance
        self.spare: list[Workspace] = []
        self.positions: dict[int, Tensor] = {}

    def take_back(self) -> None:
        """Let the decoder be as it was."""
        for name, ours in (("forward", self.forward), ("advance", self.advance)):
            if self.decoder.__dict__.get(name) == ours:  # and nobody has put another one in its place
                delattr(self.decoder, name)

    def packed(self) -> list[Tensor]:
        """What is held besides the decoder's parameters."""
        return [one.packed for one in (self.source_maps, *self.kernel.products)]

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: Optional[dict[str, list[Tensor]]] = None,
        incremental_state: Optional[dict[str, Any]] = None,
        **more: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """As the decoder's: the logits of the newest position, (rows, 1, words), with an incremental state."""
        if incremental_state is None or torch.is_grad_enabled() or any(more.values()):
            return self.reference(prev_output_tokens, encoder_out, incremental_state, **more)
        step = prev_output_tokens.size(1) - 1
        logits, weights = self.advance(prev_output_tokens[:, -1], step, encoder_out, incremental_state)
        return logits[:, None].clone(), {"attn": [weights[:, None]], "inner_states": None}

    def advance(
        self,
        words: Tensor,
        step: int,
        encoder_out: dict[str, list[Tensor]],
        incremental_state: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`.SkipDecoder.advance`."""
        rows = len(words)
        beams = Beams.of(incremental_state)
        padding = words.eq(self.decoder.padding_idx)[:, None]
        beams.advance(rows, padding if padding.any() else None)
        records = beams.memories.setdefault("steps", Records(0, 0))
        space = self.workspace(beams)
        width = 3 * self.kernel.layers * self.kernel.dim
        records.append(space.take(f"records {len(records)}", rows * width).view(rows, width))
        source = beams.memories.get("source") or self.read_source(beams, encoder_out, rows)
        return self.kernel.step(
            *(words.contiguous(), self.position(words, step), records.addresses, beams.table.contiguous()),
            *(source.addresses, beams.source_table(len(source)), space),
        )

    def position(self, words: Tensor, step: int) -> Optional[Tensor]:
        """What is added to the embeddings in a step; computed once."""
        if self.decoder.embed_positions is None:
            return None
        if step not in self.positions:
            before = words[:1, None].expand(-1, step + 1)  # of which the shape is read
            found = self.decoder.embed_positions(before, incremental_state={})
            self.positions[step] = found[0, -1].contiguous()
        return self.positions[step]

    def workspace(self, beams: Beams) -> Workspace:
        """Memory of a decoding, which one that is over leaves to the next: fresh pages cost more than what is written
        to them."""
        if beams.workspace is None:
            try:
                beams.workspace = self.spare.pop()
            except IndexError:  # tried and not asked before: another thread may take the last one
                beams.workspace = Workspace()
            weakref.finalize(beams, self.spare.append, beams.workspace)
        return beams.workspace

    def read_source(self, beams: Beams, encoder_out: dict[str, list[Tensor]], rows: int) -> Records:
        """Compute the keys and values of all layers, once a sentence."""
        masks = encoder_out["encoder_padding_mask"]
        beam_size = self.decoder.layers[0].encoder_attn.beam_size
        source = beams.columns(encoder_out["encoder_out"][0], masks[0] if masks else None, rows, beam_size)
        records = beams.memories["source"] = Records(0, 0)
        for position in product(source, self.source_maps):
            records.append(position)
        return records
