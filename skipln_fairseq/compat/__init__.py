"""Workarounds for what fairseq 0.12 does on today's Python, torch and machines: one file each.

| file | without it | can go when |
|---|---|---|
| `checkpoints` | no checkpoint loads on torch ≥ 2.6 | fairseq allow-lists its types |
| `user_dir` | a second spelling of `--user-dir` is "not globally unique" | fairseq compares resolved paths |
| `torchrun` | `torchrun … --cpu` trains N copies, `--cpu` beside GPUs fails | fairseq counts no GPUs on a CPU |
| `same_batches` | a resumed run sees other batches | fairseq seeds them without the epoch |
| `stand_in_batches` | a worker without a batch repeats one into BatchNorm's statistics | fairseq tells the model |
| `last_batch` | up to a batch of sentences is left out | fairseq keeps the last batch, issue 5036 |
| `diverse_beams` | `--diverse-beam-groups` fails on a second batch | fairseq indexes by place in the batch |
| `long_integers` | language models do not generate on numpy ≥ 2 | fairseq asks numpy for no `long` |
| `bfloat16` | `--cpu --bf16` dies in search of a TPU | fairseq trains in bfloat16 on CPUs |
| `binarised` | a damaged data folder gives tracebacks or garbage | fairseq checks sizes as it opens files |
| `plain_text` | `fairseq-preprocess` writes half a folder from bad text | fairseq checks before it writes |
| `whole_files` | a kill, a power cut or a full disk damages checkpoints | fairseq writes beside and renames |
| `interrupted` | a damaged or older last checkpoint stops or sets back a training | fairseq looks for a whole one |
| `commands` | a wrong path or encoding gives a traceback | fairseq reports it in one line |

The encoder fast path of fairseq 0.12.2, which leaves out the residual connection, is switched off where it
is chosen: by the encoder layer.
"""

import functools

from skipln_fairseq.compat import (
    bfloat16,
    binarised,
    checkpoints,
    commands,
    diverse_beams,
    interrupted,
    last_batch,
    long_integers,
    plain_text,
    same_batches,
    stand_in_batches,
    torchrun,
    user_dir,
    whole_files,
)
from skipln_fairseq.errors import print_user_errors_in_one_line

__all__ = ["apply"]


WORKAROUNDS = (
    checkpoints,
    user_dir,
    torchrun,
    same_batches,
    stand_in_batches,
    last_batch,
    diverse_beams,
    long_integers,
    bfloat16,
    binarised,
    plain_text,
    whole_files,
    interrupted,
    commands,
)


@functools.cache  # once per process: each would wrap itself again
def apply() -> None:
    """Put all workarounds in place, and let a command print a ``UserError`` as one line."""
    print_user_errors_in_one_line()
    for workaround in WORKAROUNDS:
        workaround.apply()
