"""Workarounds for what fairseq 0.12 does on today's Python, torch and machines: one file each.

| file | without it | can go when |
|---|---|---|
| `evaluated` | flags, also those of a checkpoint, run any code | fairseq reads them as literals |
| `stored_flags` | the name of an unknown task, model or encoder gives a traceback | fairseq reports it in one line |
| `checkpoints` | no checkpoint loads on torch ≥ 2.6 | fairseq allow-lists its types |
| `old_parameters` | checkpoints up to 0.8 load without a norm, or not at all | fairseq renames all of them |
| `optimizer_state` | an optimizer that does not fit gives a traceback | fairseq reports it in one line |
| `kept_layers` | pruned checkpoints are pruned again, one side alone loses the other | fairseq prunes once |
| `too_long` | long sentences vanish unnamed, a set of nothing else gives a traceback | fairseq says which |
| `user_dir` | a second spelling of `--user-dir` is "not globally unique" | fairseq compares resolved paths |
| `torchrun` | `torchrun … --cpu` trains N copies, `--cpu` beside GPUs fails | fairseq counts no GPUs on a CPU |
| `sharding` | `--ddp-backend fully_sharded` needs fairscale and GPUs | fairseq shards by torch |
| `slurm` | `srun … --cpu` trains N copies, or nothing | fairseq counts tasks on a CPU |
| `lost_workers` | a lost process: the others wait half an hour, or crash | fairseq hands on `--heartbeat-timeout` |
| `same_batches` | a resumed run sees other batches | fairseq seeds them without the epoch |
| `stand_in_batches` | a worker without a batch repeats one into BatchNorm's statistics | fairseq tells the model |
| `last_batch` | up to a batch of sentences is left out | fairseq keeps the last batch, issue 5036 |
| `diverse_beams` | `--diverse-beam-groups` fails on a second batch | fairseq indexes by place in the batch |
| `numpy2` | language models do not generate, batches are not bucketed | fairseq asks nothing removed of numpy |
| `skipped_blocks` | a perplexity leaves out what is too long | fairseq-eval-lm skips nothing |
| `bfloat16` | `--cpu --bf16` dies in search of a TPU | fairseq trains in bfloat16 on CPUs |
| `binarised` | a damaged data folder gives tracebacks or garbage | fairseq checks what it maps |
| `dictionaries` | a damaged or another dictionary gives a traceback | fairseq names the line, or the size |
| `plain_text` | `fairseq-preprocess` writes half a folder from bad text | fairseq checks before it writes |
| `preprocess_progress` | `fairseq-preprocess` is silent for minutes or hours | fairseq says how far it is |
| `interval_checkpoints` | no checkpoint of an update that ends an epoch | fairseq saves it |
| `repeated_ngrams` | `--no-repeat-ngram-size` blocks nothing | fairseq reads the words that are written |
| `decoding_flags` | decoding flags do nothing, or end in an assertion | fairseq checks them |
| `training_flags` | flags of training do nothing, or end in an error later | fairseq checks them |
| `best_metric` | a metric that is not measured ends the run before it saves | fairseq looks it up before |
| `best_checkpoints` | `--keep-best-checkpoints` keeps too few | fairseq compares with the worst kept, issue 2195 |
| `subsets` | parts as valid and valid1 can be neither joined nor named | fairseq repeats none -1 times |
| `valid_steps` | `--max-valid-steps` N validates N + 1 batches | fairseq counts from 0 |
| `best_so_far` | `--patience` counts anew after a start; a best is compared across metrics | fairseq saves both |
| `printed_words` | a language model fails on a word that it printed | fairseq adds no word for print |
| `alignments` | alignments are of another layer, or of none | fairseq hands on and checks the model's |
| `need_attn` | what `from_pretrained` has made cannot be scripted | fairseq sets no None |
| `architecture_flag` | no `--arch`, no `--task` gives an empty traceback | fairseq names it |
| `pretrained_embeddings` | a wrong width gives a traceback | fairseq checks it |
| `whole_files` | a kill, a power cut or a full disk damages checkpoints | fairseq writes beside and renames |
| `data_folders` | a kill leaves half a data folder, which is not filled again | fairseq writes dictionaries last |
| `restore_file` | `--restore-file` of a missing file trains from scratch | fairseq refuses it |
| `finished` | a run that is started again after its last update makes one more | fairseq counts before |
| `tokens_per_update` | elastic torchrun goes on with half the tokens in an update | fairseq compares them |
| `interrupted` | a damaged or older last checkpoint stops or sets back a training | fairseq looks for a whole one |
| `saves_at_signal` | a signal before a time limit kills without a save | fairseq saves at a signal |
| `tensorboard_advice` | each tool says first that tensorboardX is to be installed | fairseq says it where it is used |
| `commands` | a wrong path or encoding gives a traceback | fairseq reports it in one line |

The encoder fast path of fairseq 0.12.2, which leaves out the residual connection, is switched off where it
is chosen: by the encoder layer.
"""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .workarounds import WORKAROUNDS, apply

__all__ = ["WORKAROUNDS", "apply"]
