"""A model as CTranslate2 describes one, where it can."""

from typing import Any

from torch import nn

from ..common.errors import UserError
from ..models.config import StackConfig
from ..models.stacks import SkipDecoder, SkipEncoder

__all__ = ["check", "specification"]

ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_accurate": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "swish": "SWISH",
}

# its sentences end in a language, with which the target begins
OTHER_ENDS = ("translation_from_pretrained_bart",)


def _refuse(what: str) -> None:
    raise UserError(
        f'CTranslate2 has no {what}; fairseq-generate --user-dir "$(python -m skipln_fairseq)" decodes this model'
    )


def _check_side(side: str, config: StackConfig) -> None:
    if config.qk_norm != "none":
        _refuse(f"norm of queries, keys or values, as in the {side}")
    if config.value != "none":
        _refuse(f"{config.value} value residual, as in the {side}")
    if config.source != "last":
        _refuse(f"{config.source} source of the attention to the encoder")
    if config.by_layer:
        _refuse(f"layers of one stack that differ, as in the {side}")
    connections = (config.self_attn, config.ffn, *((config.cross_attn,) if side == "decoder" else ()))
    for connection in connections:
        plain = connection.skip == "plain" or dict(connection.options).get("order") == 1
        if not plain:
            _refuse(f"{connection.skip} skip, as in the {side}")
        if connection.norm != "layer":
            _refuse(f"{connection.norm} norm, as in the {side}")
        if connection.placement not in ("post", "pre"):
            _refuse(f"norms placed {connection.placement}, as in the {side}")
        if connection.mixing != "none":
            _refuse(f"{connection.mixing} mixing of depths, as in the {side}")
        if connection.solver != "none":
            _refuse(f"{connection.solver} solver, as in the {side}")
    for attention in (config.attention, config.cross_attention):
        if attention.type != "softmax":
            _refuse(f"{attention.type} attention")


def check(model: nn.Module, args: Any) -> None:
    """Refuse what CTranslate2 cannot express.

    Raises:
        UserError: saying what that is.
    """
    encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
    if not isinstance(encoder, SkipEncoder) or not isinstance(decoder, SkipDecoder):
        raise UserError(f"{type(model).__name__} is no encoder and decoder of skipln_fairseq")
    _check_side("encoder", encoder.config)
    _check_side("decoder", decoder.config)
    if encoder.config.ffn.placement != decoder.config.ffn.placement:
        _refuse("placements that differ between the sides")
    if args.encoder_attention_heads != args.decoder_attention_heads:
        _refuse("numbers of heads that differ between the sides")
    if encoder.config.embedding != "none":
        _refuse(f"word vectors of the kind {encoder.config.embedding}")
    if args.activation_fn not in ACTIVATIONS:
        _refuse(f"activation {args.activation_fn}")
    for side, stack in (("encoder", encoder), ("decoder", decoder)):
        if not len(stack.layers):
            _refuse(f"{side} without layers")
        if stack.quant_noise is not None:
            _refuse(f"linear map after the embedding, as --quant-noise-pq puts it into the {side}")
    if args.task in OTHER_ENDS:
        _refuse(f"sentences that end as those of --task {args.task}")
    for name in (
        "lang_tok_replacing_bos_eos",
        "no_cross_attention",
        "cross_self_attention",
        "no_decoder_final_norm",
        "adaptive_softmax_cutoff",
    ):
        if getattr(args, name, None):
            _refuse(f"counterpart of --{name.replace('_', '-')}")
    if decoder.project_in_dim is not None or decoder.project_out_dim is not None:
        _refuse("embeddings of another width than the layers")
    if args.no_token_positional_embeddings:
        _refuse("model without positions")


def specification(model: nn.Module, args: Any, source: Any, target: Any) -> Any:
    """CTranslate2's description of a model, with its parameters.

    Args:
        model: that :func:`check` lets through.
        args: its flags.
        source, target: dictionaries.
    """
    from ctranslate2.converters import fairseq
    from ctranslate2.specs import common_spec, transformer_spec

    found = transformer_spec.TransformerSpec.from_config(
        (len(model.encoder.layers), len(model.decoder.layers)),
        args.encoder_attention_heads,
        pre_norm=model.encoder.config.ffn.placement == "pre",
        activation=getattr(common_spec.Activation, ACTIVATIONS[args.activation_fn]),
        layernorm_embedding=model.encoder.layernorm_embedding is not None,
    )
    model.eval().requires_grad_(False)
    fairseq.set_transformer_encoder(found.encoder, model.encoder)
    fairseq.set_transformer_decoder(found.decoder, model.decoder)
    words = [
        ["<blank>" if word == one.pad_word else word for word in one.symbols] for one in (source, target)
    ]
    found.register_source_vocabulary(words[0])
    found.register_target_vocabulary(words[1])
    found.config.decoder_start_token = found.config.eos_token
    found.config.add_source_eos = True
    return found
