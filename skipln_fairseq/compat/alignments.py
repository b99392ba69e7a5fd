"""Alignments are of the layer and heads that were supervised, and are supervised where that is asked for.

fairseq prints those of the last layer's heads all together, trains without a word where it finds no alignments, and
takes a layer that does not exist.
"""

import contextlib
import functools
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from fairseq import checkpoint_utils, options
from fairseq.models.transformer_align import TransformerAlignModel
from fairseq.sequence_generator import EnsembleModelWithAlignment

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Check flags and data of a training; hand the model's layer and heads to its decoder (fairseq issue 4688)."""

    @around(options, "parse_args_and_arch")
    def parse_args_and_arch(stock, *args: Any, **kwargs: Any) -> Any:
        parsed = stock(*args, **kwargs)
        flags: Namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if hasattr(flags, "max_epoch"):
            _refuse_what_does_nothing(flags)
        return parsed

    @around(checkpoint_utils, "load_checkpoint")
    def load_checkpoint(stock, cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        loaded = stock(cfg, trainer, **kwargs)
        subset = trainer.cfg.dataset.train_subset
        if (
            getattr(trainer.cfg.task, "load_alignments", False)
            and getattr(trainer.task.dataset(subset), "align_dataset", True) is None
        ):
            raise UserError(
                f"--load-alignments: the data hold none of {subset!r}; fairseq-preprocess --align-suffix takes them"
            )
        return loaded

    @around(EnsembleModelWithAlignment, "forward_decoder")
    def forward_decoder(stock, ensemble: EnsembleModelWithAlignment, *args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for model in ensemble.models:
                if isinstance(model, TransformerAlignModel):
                    stack.enter_context(_attending_where_supervised(model))
            return stock(ensemble, *args, **kwargs)


def _refuse_what_does_nothing(flags: Namespace) -> None:
    loads, learns = getattr(flags, "load_alignments", False), "alignment" in flags.criterion
    if loads != learns:
        raise UserError(
            "--load-alignments and --criterion label_smoothed_cross_entropy_with_alignment act only together"
        )
    layer, heads = getattr(flags, "alignment_layer", None), getattr(flags, "alignment_heads", None)
    if learns and layer is not None and not 0 <= layer < flags.decoder_layers:
        raise UserError(
            f"--alignment-layer {layer}: valid is 0 to {flags.decoder_layers - 1}, the last layer's"
        )
    if learns and heads is not None and not 1 <= heads <= flags.decoder_attention_heads:
        raise UserError(
            f"--alignment-heads {heads}: valid is 1 to --decoder-attention-heads, {flags.decoder_attention_heads}"
        )


@contextlib.contextmanager
def _attending_where_supervised(model: TransformerAlignModel) -> Iterator[None]:
    """As the model's own ``forward`` does, which an ensemble passes by."""
    decoder, before = model.decoder, vars(model.decoder).get("forward")
    decoder.forward = functools.partial(
        decoder.forward, alignment_layer=model.alignment_layer, alignment_heads=model.alignment_heads
    )
    try:
        yield
    finally:
        del decoder.forward
        if before:
            decoder.forward = before
