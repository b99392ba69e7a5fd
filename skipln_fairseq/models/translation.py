"""The registered models: fairseq's ``transformer`` and ``transformer_align`` with our stacks."""

from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig, TransformerModel
from fairseq.models.transformer_align import TransformerAlignModel
from omegaconf import DictConfig

from ..errors import UserError
from ..nn import ConnectionConfig
from .flags import SIDES, add_connection_args, connections
from .presets import ALIGN_PRESETS, PRESETS
from .stacks import SkipDecoder, SkipEncoder

__all__ = ["SkipTransformerAlignModel", "SkipTransformerModel"]


def _refuse_hydra(args) -> None:
    # Its configuration knows no flag of ours, and answers None for what is not in it, so that no preset could
    # fill anything: it would train another model without a word. Hydra shows any Exception with a traceback.
    if isinstance(args, DictConfig):
        raise SystemExit(
            "skipln_fairseq: error: fairseq-hydra-train knows neither presets nor flags of this plugin "
            "(nor of fairseq's transformer): use fairseq-train --arch"
        )


def _join_kept_layers(args) -> None:
    # fairseq's parser makes a list of --encoder-layers-to-keep 0,2; everything behind it splits a string.
    for side in SIDES:
        kept = getattr(args, f"{side}_layers_to_keep", None)
        if isinstance(kept, list):
            setattr(args, f"{side}_layers_to_keep", ",".join(map(str, kept)))


def _refuse_base_layers(args) -> None:
    # BASE layers bring their own x + F(LN(x)), which our flags would not reach.
    if getattr(args, "base_layers", 0) and connections(args)["decoder"] != ConnectionConfig():
        raise UserError(
            "--base-layers: a BASE layer has its own connection; valid only with --skip-type plain"
        )


@register_model("transformer_rskip")
class SkipTransformerModel(TransformerModel):
    """fairseq's ``transformer`` whose skip connections and norms are chosen by flags.

    All of stock's flags and checkpoints work. With ``--skip-type plain`` the parameters have
    stock's names and the outputs and gradients are stock's bit for bit.
    """

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        add_connection_args(parser)

    @classmethod
    def build_model(cls, args, task):
        _refuse_hydra(args)
        PRESETS["transformer_rskip"](args)  # fills what a checkpoint of an older release does not hold
        _join_kept_layers(args)
        _refuse_base_layers(args)
        return super().build_model(args, task)

    @classmethod
    def build_encoder(cls, args, src_dict, embed_tokens):
        cfg = TransformerConfig.from_namespace(args)
        return SkipEncoder(cfg, src_dict, embed_tokens, connections(cfg)["encoder"])

    @classmethod
    def build_decoder(cls, args, tgt_dict, embed_tokens):
        cfg = TransformerConfig.from_namespace(args)
        return SkipDecoder(
            cfg, tgt_dict, embed_tokens, connections(cfg)["decoder"], no_encoder_attn=cfg.no_cross_attention
        )


@register_model("transformer_align_rskip")
class SkipTransformerAlignModel(TransformerAlignModel):
    """fairseq's ``transformer_align`` (Garg et al. 2019, arXiv:1909.02074) with our connections."""

    @staticmethod
    def add_args(parser):
        TransformerAlignModel.add_args(parser)
        add_connection_args(parser)

    @classmethod
    def build_model(cls, args, task):
        _refuse_hydra(args)
        ALIGN_PRESETS["transformer_align_rskip"](args)
        model = SkipTransformerModel.build_model(args, task)
        return cls(model.encoder, model.decoder, args)
