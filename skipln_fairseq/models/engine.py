"""A decoder's steps as single calls, where its layers are ones that the kernel knows."""

import weakref
from typing import Any, Optional

import torch
from torch import Tensor, nn

from ..nn.kernels.decode import Decoder, Layer, Records, Workspace, product
from .beams import Beams
from .layers import SkipDecoderLayer
from .reading import Positions, activation, check_layer, check_stack, known, maps, norm, same_in_all, wiring
from .stacks import SkipDecoder

__all__ = ["Engine"]


def _layer(layer: nn.Module, form: str) -> Layer:
    itself, source = layer.self_attn, layer.encoder_attn
    check_layer(layer, SkipDecoderLayer, itself, source)
    plain = layer.c_attn is None and layer.w_resid is None
    plain = plain and all(isinstance(one, nn.Identity) for one in (layer.attn_ln, layer.ffn_layernorm))
    known(plain, "NormFormer's scales")
    known(itself.causal, "cross-self-attention")
    return Layer(
        maps(itself.q_proj, itself.k_proj, itself.v_proj, form=form),
        maps(itself.out_proj, form=form),
        maps(source.q_proj, form=form),
        maps(source.out_proj, form=form),
        maps(layer.fc1, form=form, rectified=activation(layer) == "relu"),
        maps(layer.fc2, form=form),
        wiring(layer.self_attn_layer_norm, itself.out_proj),
        wiring(layer.encoder_attn_layer_norm, source.out_proj),
        wiring(layer.final_layer_norm, layer.fc2),
    )


def _heads(layer: nn.Module) -> int:
    return same_in_all((layer.self_attn, layer.encoder_attn), lambda one: one.num_heads, "heads")


class Engine:
    """The steps of a decoder's incremental decoding, each in one call.

    For float32 on CPUs, softmax attention and every connection that is a chain (:func:`.reading.wiring`). What it is
    made of is read once, when it is made: :class:`.Preparation` makes another one when that has changed.

    Args:
        decoder: of a model that is prepared for inference.
        form: of products, see :class:`.Product`.

    Raises:
        Unknown: for another decoder.
    """

    def __init__(self, decoder: SkipDecoder, form: str):
        check_stack(decoder, SkipDecoder)
        rest = (decoder.adaptive_softmax, decoder.project_in_dim, decoder.project_out_dim)
        known(all(one is None for one in rest), "its embedding or output layer")
        known(all(layer.encoder_attn is not None for layer in decoder.layers), "a decoder without a source")
        projection = maps(decoder.output_projection, form=form)
        known(
            projection.outputs <= decoder.embed_tokens.num_embeddings, "words that are none of its embedding"
        )
        same_in_all(decoder.layers, lambda layer: (layer.embed_dim, layer.fc1.out_features), "widths")
        layers = [_layer(layer, form) for layer in decoder.layers]
        sources = [
            one for layer in decoder.layers for one in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
        ]
        self.decoder = decoder
        self.source_maps = maps(*sources, form=form)
        self.kernel = Decoder(
            layers,
            same_in_all(decoder.layers, _heads, "heads"),
            decoder.embed_tokens.weight.detach(),
            decoder.embed_scale,
            projection,
            norm(decoder.layernorm_embedding),
            norm(decoder.layer_norm),
            same_in_all(decoder.layers, activation, "activation functions"),
        )
        self.reference = decoder.forward
        # of this decoder only: TorchScript compiles its class's
        decoder.forward, decoder.advance = self.forward, self.advance
        self.spare: list[Workspace] = []
        self.positions = Positions(decoder.embed_positions, decoder.padding_idx)

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
        positions = self.positions.first(step + 1)
        position = None if positions is None else positions[step]
        return self.kernel.step(
            *(words.contiguous(), position, records.addresses, beams.table.contiguous()),
            *(source.addresses, beams.source_table(len(source)), space),
        )

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
