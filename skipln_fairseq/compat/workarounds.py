"""All workarounds, in the order in which they are put in place."""

import functools

from skipln_fairseq.common.errors import print_user_errors_in_one_line
from skipln_fairseq.compat import tensorboard_advice  # acts at its import, since those below import fairseq

# isort: split
from skipln_fairseq.compat import (
    alignments,
    architecture_flag,
    best_checkpoints,
    best_metric,
    best_so_far,
    bfloat16,
    binarised,
    checkpoints,
    commands,
    data_folders,
    decoding_flags,
    dictionaries,
    diverse_beams,
    evaluated,
    finished,
    interrupted,
    interval_checkpoints,
    kept_layers,
    last_batch,
    lost_workers,
    need_attn,
    numpy2,
    old_parameters,
    optimizer_state,
    plain_text,
    preprocess_progress,
    pretrained_embeddings,
    printed_words,
    repeated_ngrams,
    restore_file,
    same_batches,
    saves_at_signal,
    sharding,
    skipped_blocks,
    slurm,
    stand_in_batches,
    stored_flags,
    subsets,
    tokens_per_update,
    too_long,
    torchrun,
    training_flags,
    user_dir,
    valid_steps,
    whole_files,
)

__all__ = ["WORKAROUNDS", "apply"]


WORKAROUNDS = (
    evaluated,
    stored_flags,
    checkpoints,
    user_dir,
    too_long,
    torchrun,
    sharding,
    slurm,
    lost_workers,
    same_batches,
    stand_in_batches,
    last_batch,
    diverse_beams,
    numpy2,
    old_parameters,
    optimizer_state,
    skipped_blocks,
    bfloat16,
    binarised,
    dictionaries,
    plain_text,
    preprocess_progress,
    interval_checkpoints,
    kept_layers,
    repeated_ngrams,
    decoding_flags,
    training_flags,
    best_metric,
    best_checkpoints,
    subsets,
    valid_steps,
    best_so_far,
    printed_words,
    alignments,
    need_attn,
    architecture_flag,
    pretrained_embeddings,
    whole_files,
    data_folders,
    finished,
    tokens_per_update,  # so that `interrupted` acts before it
    interrupted,
    restore_file,
    saves_at_signal,
    tensorboard_advice,
    commands,
)


@functools.cache  # once per process: each would wrap itself again
def apply() -> None:
    """Put all workarounds in place, and let a command print a ``UserError`` as one line."""
    print_user_errors_in_one_line()
    for workaround in WORKAROUNDS:
        workaround.apply()
