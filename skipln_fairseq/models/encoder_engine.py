"""An encoder in one call, where its layers are ones that the kernel knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn

from ..nn.kernels.decode import Encoder, EncoderLayer, Space
from .layers import SkipEncoderLayer
from .one_graph import as_fairseq
from .reading import Positions, activation, check_layer, check_stack, maps, norm, same_in_all, wiring
from .stacks import SkipEncoder

__all__ = ["EncoderEngine"]


def _layer(layer: nn.Module, form: str) -> EncoderLayer:
    check_layer(layer, SkipEncoderLayer, layer.self_attn)
    itself = layer.self_attn
    return EncoderLayer(
        maps(itself.q_proj, itself.k_proj, itself.v_proj, form=form),
        maps(itself.out_proj, form=form),
        maps(layer.fc1, form=form, rectified=activation(layer) == "relu"),
        maps(layer.fc2, form=form),
        wiring(layer.self_attn_layer_norm, itself.out_proj),
        wiring(layer.final_layer_norm, layer.fc2),
    )


class EncoderEngine:
    """As :class:`.Engine` for a decoder: the same layers, and what they are made of is read once.

    Args:
        encoder: of a model that is prepared for inference.
        form: of products, see :class:`.Product`.

    Raises:
        Unknown: for another encoder.
    """

    def __init__(self, encoder: SkipEncoder, form: str):
        check_stack(encoder, SkipEncoder)
        same_in_all(encoder.layers, lambda layer: (layer.embed_dim, layer.fc1.out_features), "widths")
        self.encoder = encoder
        self.kernel = Encoder(
            [_layer(layer, form) for layer in encoder.layers],
            same_in_all(encoder.layers, lambda layer: layer.self_attn.num_heads, "heads"),
            encoder.embed_tokens.weight.detach(),
            encoder.embed_scale,
            encoder.padding_idx,
            norm(encoder.layernorm_embedding),
            norm(encoder.layer_norm),
            same_in_all(encoder.layers, activation, "activation functions"),
        )
        self.positions = Positions(encoder.embed_positions, encoder.padding_idx)
        self.spare: list[Space] = []
        self.reference = encoder.forward
        encoder.forward = self.forward  # of this encoder only: TorchScript compiles its class's

    def take_back(self) -> None:
        """Let the encoder be as it was."""
        # nobody has put another one in its place
        if self.encoder.__dict__.get("forward") == self.forward:
            del self.encoder.forward

    def packed(self) -> list[Tensor]:
        """What is held besides the encoder's parameters."""
        return [one.packed for one in self.kernel.products]

    def held(self) -> int:
        """Bytes that batches have left to the next ones."""
        return sum(space.held() for space in self.spare)

    @contextmanager
    def space(self) -> Iterator[Space]:
        """Memory for a batch, which one that is over has left."""
        try:
            space = self.spare.pop()
        except IndexError:  # tried and not asked before: another thread may take the last one
            space = Space()
        try:
            yield space
        finally:
            self.spare.append(space)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
    ) -> dict[str, list[Tensor]]:
        """As the encoder's; the states of padding are zero."""
        if torch.is_grad_enabled() or return_all_hiddens or token_embeddings is not None:
            return self.reference(src_tokens, src_lengths, return_all_hiddens, token_embeddings)
        padding = src_tokens.eq(self.encoder.padding_idx)
        with self.space() as space:
            out = self.kernel.encode(src_tokens.long(), self.positions.first(src_tokens.size(1)), space)
        embedded = self.encoder.embed_scale * self.encoder.embed_tokens(src_tokens)
        return as_fairseq(out, padding, embedded, [])
