"""The registered language model: fairseq's ``transformer_lm`` with our decoder stack."""

import ast

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer_lm import (
    DEFAULT_MAX_TARGET_POSITIONS,
    TransformerLanguageModel,
    TransformerLanguageModelConfig,
)
from fairseq.modules import AdaptiveInput, CharacterTokenEmbedder
from fairseq.utils import eval_str_list
from torch import nn

from ..common.errors import UserError
from ..probe.log import ProbedModel, probed
from .admin import ProfiledModel
from .attention import number_draws
from .flags import connections, remember_depth
from .inference import InferenceModel, with_inference_type
from .initialise import initialise_embeddings
from .kernels import with_kernels
from .mixing import stack_classes
from .parser import add_connection_args
from .presets import LM_PRESETS
from .refuse import join_kept_layers, refuse
from .word_vectors import with_word_vectors

__all__ = ["SkipTransformerLanguageModel"]

CHARACTERS = ("character_filters", "character_embedding_dim", "char_embedder_highway_layers")


@register_model("transformer_lm_rskip")
class SkipTransformerLanguageModel(InferenceModel, ProfiledModel, ProbedModel, TransformerLanguageModel):
    """fairseq's ``transformer_lm`` whose skip connections and norms are chosen by flags.

    NormFormer's ``--scale-fc``, ``--scale-attn``, ``--scale-heads`` and ``--scale-resids`` work as in fairseq.
    With ``--skip-type plain`` and no placement it is fairseq's Pre-LN model up to rounding, with ``--kernels
    reference`` bit for bit.
    """

    @classmethod
    def add_args(cls, parser):
        gen_parser_from_dataclass(parser, TransformerLanguageModelConfig(), delete_default=True)
        add_connection_args(parser, sides=("decoder",))

    @classmethod
    def build_model(cls, args, task):
        LM_PRESETS["transformer_lm_rskip"](args)  # fills what a checkpoint of an older release does not hold
        refuse(args)
        remember_depth(args)
        join_kept_layers(args)
        if args.decoder_layers_to_keep:
            args.decoder_layers = len(args.decoder_layers_to_keep.split(","))
        if getattr(args, "max_target_positions", None) is None:
            args.max_target_positions = getattr(args, "tokens_per_sample", DEFAULT_MAX_TARGET_POSITIONS)
        cfg = TransformerConfig.from_namespace(args)
        embed_tokens = cls.embed(args, task.source_dictionary)
        config = connections(args)["decoder"]
        _, stack = stack_classes(config)
        decoder = stack(cfg, task.target_dictionary, embed_tokens, config, no_encoder_attn=True)
        number_draws(decoder)
        model = with_word_vectors(initialise_embeddings(cls(decoder), {"decoder": config}, args), args)
        return probed(with_inference_type(with_kernels(model, args), args), args)

    @classmethod
    def embed(cls, args, dictionary) -> nn.Module:
        """The input embedding that the flags ask for: of characters, adaptive, or one row a token."""
        if args.character_embeddings:
            # fairseq's architectures do not fill these: where they were not given, its dataclass's defaults hold
            filters, dim, highway_layers = (
                getattr(args, name, getattr(TransformerLanguageModelConfig, name)) for name in CHARACTERS
            )
            return CharacterTokenEmbedder(
                dictionary, ast.literal_eval(filters), dim, args.decoder_embed_dim, highway_layers
            )
        if not args.adaptive_input:
            if args.tie_adaptive_weights:
                raise UserError("--tie-adaptive-weights needs --adaptive-input")
            return cls.build_embedding(args, dictionary, args.decoder_input_dim)
        ties = [
            (getattr(args, f"adaptive_input_{x}"), getattr(args, f"adaptive_softmax_{x}"))
            for x in ("factor", "cutoff")
        ]
        ties.append((args.decoder_input_dim, args.decoder_output_dim))
        if args.tie_adaptive_weights and any(of_input != of_output for of_input, of_output in ties):
            raise UserError(
                "--tie-adaptive-weights: factor, cut-off and dimension of adaptive input and softmax must be equal"
            )
        return AdaptiveInput(
            len(dictionary),
            dictionary.pad(),
            args.decoder_input_dim,
            args.adaptive_input_factor,
            args.decoder_embed_dim,
            eval_str_list(args.adaptive_input_cutoff, type=int),
            args.quant_noise_pq,
            args.quant_noise_pq_block_size,
        )
