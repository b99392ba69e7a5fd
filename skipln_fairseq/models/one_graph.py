"""Encoder and decoder while ``torch.compile`` or ``torch.export`` traces them: no question about values in the batch.

fairseq asks whether there is any padding, and how long sentences are, in ways that end a graph. Here the mask of the
padding is always made and used, which changes no number: a mask without padding leaves all as it is.
"""

from typing import Any, Optional

import torch
from torch import Tensor, nn

__all__ = ["as_fairseq", "decode", "encode", "is_traced", "positions"]


def is_traced(stack: nn.Module, incremental_state: Optional[Any] = None) -> bool:
    """Whether a stack of fairseq's own loop is being traced, with whole sentences."""
    return (
        (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        and incremental_state is None
        and not stack.config.own_loop()
        and stack.quant_noise is None
    )


def positions(module: nn.Module, tokens: Tensor) -> Tensor:
    """fairseq's learned or sinusoidal positions, by their table."""
    table = module.weights if hasattr(module, "weights") else module.weight
    real = tokens.ne(module.padding_idx).long()
    return nn.functional.embedding(real.cumsum(1) * real + module.padding_idx, table)


def _embed(stack: nn.Module, tokens: Tensor, embedded: Tensor) -> Tensor:
    """(length, batch, dim): with positions, norm and dropout."""
    x = embedded if stack.embed_positions is None else embedded + positions(stack.embed_positions, tokens)
    x = x if stack.layernorm_embedding is None else stack.layernorm_embedding(x)
    return stack.dropout_module(x).transpose(0, 1)


def encode(
    encoder: nn.Module,
    src_tokens: Tensor,
    return_all_hiddens: bool = False,
    token_embeddings: Optional[Tensor] = None,
) -> dict[str, list[Tensor]]:
    """As fairseq's encoder.

    Args:
        encoder: of one of our models.
        src_tokens: (batch, src_len), padded.
        return_all_hiddens: whether ``encoder_states`` are wanted, the embedding and each layer's output.
        token_embeddings: (batch, src_len, dim), instead of the words' own.
    """
    padding = src_tokens.eq(encoder.padding_idx)
    words = encoder.embed_tokens(src_tokens) if token_embeddings is None else token_embeddings
    embedded = encoder.embed_scale * words
    x = _embed(encoder, src_tokens, embedded)
    x = x.masked_fill(padding.t().unsqueeze(-1), 0.0)
    states = [x]
    for layer in encoder.layers:
        x = layer(x, encoder_padding_mask=padding)
        states.append(x)
    x = x if encoder.layer_norm is None else encoder.layer_norm(x)
    return as_fairseq(x, padding, embedded, states if return_all_hiddens else [])


def as_fairseq(
    out: Tensor, padding: Tensor, embedded: Tensor, states: list[Tensor]
) -> dict[str, list[Tensor]]:
    """What fairseq's encoders return: (src_len, batch, dim), (batch, src_len), (batch, src_len, dim), all states."""
    return {
        "encoder_out": [out],
        "encoder_padding_mask": [padding],
        "encoder_embedding": [embedded],
        "encoder_states": states,
        "fc_results": [],
        "src_tokens": [],
        "src_lengths": [padding.logical_not().sum(1, dtype=torch.int32).unsqueeze(1)],
    }


def decode(
    decoder: nn.Module,
    words: Tensor,
    encoder_out: Optional[dict[str, list[Tensor]]],
    full_context_alignment: bool = False,
    alignment_layer: Optional[int] = None,
    alignment_heads: Optional[int] = None,
) -> tuple[Tensor, dict[str, Any]]:
    """As fairseq's ``extract_features`` of whole sentences.

    Args:
        decoder: of one of our models.
        words: (batch, tgt_len), padded.
        encoder_out: the encoder's, or None.
        full_context_alignment: whether each word attends to later ones too.
        alignment_layer: whose attention to the source is given; without it the last.
        alignment_heads: how many heads are averaged; without it all.
    """
    kept = {name: one[0] for name, one in (encoder_out or {}).items() if one}
    embedded = decoder.embed_scale * decoder.embed_tokens(words)
    x = _embed(decoder, words, decoder.project_in_dim(embedded) if decoder.project_in_dim else embedded)
    later = None if full_context_alignment else decoder.buffered_future_mask(x)
    chosen = decoder.num_layers - 1 if alignment_layer is None else alignment_layer
    attention, states = None, [x]
    for number, layer in enumerate(decoder.layers):
        x, weights, _ = layer(
            x,
            kept.get("encoder_out"),
            kept.get("encoder_padding_mask"),
            self_attn_mask=later,
            self_attn_padding_mask=words.eq(decoder.padding_idx),
            need_attn=number == chosen,
            need_head_weights=number == chosen,
        )
        states.append(x)
        attention = weights.float().to(x) if number == chosen and weights is not None else attention
    if attention is not None:
        attention = attention[:alignment_heads].mean(0)
    x = x if decoder.layer_norm is None else decoder.layer_norm(x)
    x = x.transpose(0, 1)
    x = x if decoder.project_out_dim is None else decoder.project_out_dim(x)
    return x, {"attn": [attention], "inner_states": states}
