"""The registered models: fairseq's ``transformer`` and ``transformer_align`` with our stacks."""

from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig, TransformerModel
from fairseq.models.transformer_align import TransformerAlignModel

from ..probe.log import ProbedModel, probed
from .admin import ProfiledModel
from .attention import number_draws
from .flags import connections, remember_depth
from .inference import InferenceModel, with_inference_type
from .initialise import initialise_embeddings
from .kernels import with_kernels
from .mixing import stack_classes
from .parser import add_connection_args
from .presets import ALIGN_PRESETS, PRESETS
from .refuse import join_kept_layers, refuse
from .word_vectors import with_word_vectors

__all__ = ["SkipTransformerAlignModel", "SkipTransformerModel"]


@register_model("transformer_rskip")
class SkipTransformerModel(InferenceModel, ProfiledModel, ProbedModel, TransformerModel):
    """fairseq's ``transformer`` whose skip connections and norms are chosen by flags.

    All of stock's flags and checkpoints work. With ``--skip-type plain`` the parameters have stock's names and the
    outputs and gradients are stock's up to rounding, with ``--kernels reference`` bit for bit.
    """

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        add_connection_args(parser)

    @classmethod
    def build_model(cls, args, task):
        PRESETS["transformer_rskip"](args)  # fills what a checkpoint of an older release does not hold
        refuse(args)
        remember_depth(args)
        join_kept_layers(args)
        model = initialise_embeddings(super().build_model(args, task), connections(args), args)
        number_draws(with_word_vectors(model, args))
        return probed(with_inference_type(with_kernels(model, args), args), args)

    @classmethod
    def build_encoder(cls, args, src_dict, embed_tokens):
        cfg = TransformerConfig.from_namespace(args)
        config = connections(cfg)["encoder"]
        return stack_classes(config)[0](cfg, src_dict, embed_tokens, config)

    @classmethod
    def build_decoder(cls, args, tgt_dict, embed_tokens):
        cfg = TransformerConfig.from_namespace(args)
        config = connections(cfg)["decoder"]
        return stack_classes(config)[1](
            cfg, tgt_dict, embed_tokens, config, no_encoder_attn=cfg.no_cross_attention
        )


@register_model("transformer_align_rskip")
class SkipTransformerAlignModel(InferenceModel, ProfiledModel, ProbedModel, TransformerAlignModel):
    """fairseq's ``transformer_align`` (Garg et al. 2019, arXiv:1909.02074) with our connections."""

    @staticmethod
    def add_args(parser):
        TransformerAlignModel.add_args(parser)
        add_connection_args(parser)

    @classmethod
    def build_model(cls, args, task):
        ALIGN_PRESETS["transformer_align_rskip"](args)
        model = SkipTransformerModel.build_model(args, task)
        return probed(with_inference_type(cls(model.encoder, model.decoder, args), args), args)
