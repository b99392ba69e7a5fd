"""Export a model with the plain skip to CTranslate2, which decodes without fairseq or torch.

    python -m skipln_fairseq.to_ctranslate2 --path CHECKPOINT --data DIR --output-dir DIR [--quantization int8]

What CTranslate2 cannot express is refused: other skips and norms, placements other than post and pre or different ones
on the two sides, FAVOR+ attention. Needs ``pip install '.[ctranslate2]'``.
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from torch import nn

from .compat.checkpoints import explain_refusal
from .errors import UserError
from .files import whole
from .models.config import StackConfig
from .models.stacks import SkipDecoder, SkipEncoder

__all__ = ["check", "main", "specification"]

ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_accurate": "GELUTanh",
    "gelu_fast": "GELUTanh",
    "swish": "SWISH",
}
QUANTIZATIONS = ("int8", "int8_float32", "int16", "float16", "bfloat16", "float32")


def _refuse(what: str) -> None:
    raise UserError(
        f"CTranslate2 has no {what}; fairseq-generate --user-dir skipln_fairseq decodes this model"
    )


def _check_side(side: str, config: StackConfig) -> None:
    if config.qk_norm != "none":
        _refuse(f"norm of queries and keys, as in the {side}")
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
    if args.activation_fn not in ACTIVATIONS:
        _refuse(f"activation {args.activation_fn}")
    for name in (
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


def _load(path: Path, data: Path) -> tuple[nn.Module, Any, Any]:
    if not path.is_file():
        raise UserError(f"--path {path} does not exist")
    if not data.is_dir():
        raise UserError(f"--data {data} is no folder")
    with explain_refusal(str(path)):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], arg_overrides={"data": str(data)}
        )
    return models[0], cfg.model, task


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.to_ctranslate2",
        description="Export a model with the plain skip to CTranslate2.",
    )
    parser.add_argument("--path", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="binarised data, for its dictionaries")
    parser.add_argument(
        "--output-dir", type=Path, required=True, help="the folder to write, which must not exist"
    )
    parser.add_argument(
        "--quantization", metavar="TYPE", help=f"{', '.join(QUANTIZATIONS)}; as trained unless given"
    )
    args = parser.parse_args(argv)
    if find_spec("ctranslate2") is None:
        raise UserError("ctranslate2 is not installed: pip install '.[ctranslate2]'")
    if args.quantization not in (None, *QUANTIZATIONS):
        raise UserError(f"--quantization {args.quantization}: valid are {', '.join(QUANTIZATIONS)}")
    if args.output_dir.exists():
        raise UserError(f"--output-dir {args.output_dir} exists")
    if not args.output_dir.parent.is_dir():
        raise UserError(f"--output-dir {args.output_dir}: no such folder")
    model, flags, task = _load(args.path, args.data)
    check(model, flags)
    found = specification(model, flags, task.source_dictionary, task.target_dictionary)
    found.validate()
    found.optimize(quantization=args.quantization)
    with whole(args.output_dir) as folder:
        folder.mkdir()
        found.save(str(folder))
    print(
        f"{args.output_dir}: source and target are the pieces that fairseq reads, one sentence a list of them"
    )


if __name__ == "__main__":
    main()
