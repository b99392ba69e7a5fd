"""A model's encoder, and a step of its decoder, as programs of ``torch.export``.

    encoder, step = export_encoder(model), export_step(model)
    torch.export.save(encoder, "encoder.pt2")
    out, padding = encoder.module()(src_tokens)
    logits, cache = step.module()(words, out, padding, cache)

A program takes batches and sentences of other sizes than it was exported with, within the model's positions.
"""

import copy

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..common.errors import UserError
from .fast_attention import FastAttention
from .one_graph import encode, positions

__all__ = ["DecodingStep", "Encoding", "empty_cache", "export_encoder", "export_step"]

EXAMPLE = {"rows": 3, "source": 5, "before": 4}


def _plain(stack: nn.Module) -> nn.Module:
    """A copy of an encoder or decoder with fairseq's attention, which has no calls out of torch."""
    for flag, choice in stack.config.own_loop().items():
        raise UserError(f"torch.export: no {flag} {choice}")
    stack = copy.deepcopy(stack).eval().requires_grad_(False)
    for module in stack.modules():
        if isinstance(module, FastAttention):
            module.part()
            module.__class__ = MultiheadAttention
        if isinstance(module, MultiheadAttention):
            module.beam_size = 1  # one column of the source for each row
    return stack


class Encoding(nn.Module):
    """The encoder, without fairseq's questions about the values in a batch.

    Args:
        encoder: of one of our models; it is copied.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = _plain(encoder)

    def forward(self, src_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            src_tokens: (batch, src_len), padded.

        Returns:
            (src_len, batch, dim), and what is padding, (batch, src_len)
        """
        found = encode(self.encoder, src_tokens)
        return found["encoder_out"][0], found["encoder_padding_mask"][0]


class DecodingStep(nn.Module):
    """One step of the decoder; what it remembers is a tensor.

    Args:
        decoder: of one of our translation models with softmax attention; it is copied.

    Raises:
        UserError: for another one.
    """

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder = _plain(decoder)
        for layer in decoder.layers:
            for attention in (layer.self_attn, layer.encoder_attn):
                if type(attention) is not MultiheadAttention or layer.cross_self_attention:
                    raise UserError("torch.export of a decoding step: softmax attention to the source only")
        if decoder.adaptive_softmax is not None:
            raise UserError("torch.export of a decoding step: no adaptive softmax")

    def forward(
        self, words: Tensor, encoder_out: Tensor, encoder_padding: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            words: (rows, positions), all so far, without padding; the newest is read, and of the others how many.
            encoder_out: (src_len, rows, dim), of :class:`Encoding`.
            encoder_padding: (rows, src_len).
            cache: (layers, 2, rows, heads, positions − 1, dim of a head), keys and values; see :func:`empty_cache`.

        Returns:
            logits (rows, vocabulary), and the cache with this position
        """
        decoder, state, grown = self.decoder, {}, []
        x = self._embed(words).transpose(0, 1)
        for layer, (keys, values) in zip(decoder.layers, cache, strict=True):
            attention = layer.self_attn
            attention._set_input_buffer(state, {"prev_key": keys, "prev_value": values})
            x, _, _ = layer(x, encoder_out, encoder_padding, incremental_state=state)
            kept = attention._get_input_buffer(state)
            grown.append(torch.stack((kept["prev_key"], kept["prev_value"])))
        x = x if decoder.layer_norm is None else decoder.layer_norm(x)
        x = x if decoder.project_out_dim is None else decoder.project_out_dim(x)
        return decoder.output_layer(x[0]), torch.stack(grown)

    def _embed(self, words: Tensor) -> Tensor:
        """As fairseq's decoder embeds the newest word: (rows, 1, dim)."""
        decoder = self.decoder
        x = decoder.embed_scale * decoder.embed_tokens(words[:, -1:])
        x = x if decoder.quant_noise is None else decoder.quant_noise(x)
        x = x if decoder.project_in_dim is None else decoder.project_in_dim(x)
        if decoder.embed_positions is not None:
            x = x + positions(decoder.embed_positions, words)[:, -1:]
        return x if decoder.layernorm_embedding is None else decoder.layernorm_embedding(x)


def empty_cache(decoder: nn.Module, rows: int) -> Tensor:
    """The cache of :class:`DecodingStep` before the first word."""
    attention, like = decoder.layers[0].self_attn, next(decoder.parameters())
    return like.new_zeros(len(decoder.layers), 2, rows, attention.num_heads, 0, attention.head_dim)


@torch.no_grad()
def export_encoder(model: nn.Module) -> ExportedProgram:
    """The program of :class:`Encoding`, for any batch and source length.

    Args:
        model: one of our translation models, prepared for inference or not.
    """
    tokens = torch.full((EXAMPLE["rows"], EXAMPLE["source"]), model.encoder.padding_idx + 2)
    tokens[0, 0] = model.encoder.padding_idx
    sizes = {0: Dim("batch"), 1: Dim("src_len", max=model.encoder.max_source_positions)}
    return torch.export.export(Encoding(model.encoder), (tokens,), dynamic_shapes=(sizes,), strict=False)


@torch.no_grad()
def export_step(model: nn.Module) -> ExportedProgram:
    """The program of :class:`DecodingStep`, for any rows, source length and position.

    Args:
        model: one of our translation models, prepared for inference or not.

    Raises:
        UserError: for one whose attention is not softmax, or whose output is an adaptive softmax.
    """
    step, decoder = DecodingStep(model.decoder), model.decoder
    rows, src_len, before = EXAMPLE.values()
    attention, like = decoder.layers[0].self_attn, next(decoder.parameters())
    cache = like.new_zeros(len(decoder.layers), 2, rows, attention.num_heads, before, attention.head_dim)
    words = torch.full((rows, before + 1), decoder.padding_idx + 2)
    width = decoder.layers[0].encoder_attn.kdim
    example = (words, like.new_zeros(src_len, rows, width), words.new_zeros(rows, src_len).bool(), cache)
    row, source = Dim("rows"), Dim("src_len")
    past = Dim("before", min=0, max=decoder.max_target_positions - 1)
    shapes = ({0: row, 1: past + 1}, {0: source, 1: row}, {0: row, 1: source}, {2: row, 4: past})
    return torch.export.export(step, example, dynamic_shapes=shapes, strict=False)
