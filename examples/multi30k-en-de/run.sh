#!/usr/bin/env bash
# Multi30k en→de, from text to BLEU on test2016, with 1.4 M parameters and a fixed number of updates.
#
#   examples/multi30k-en-de/run.sh TEXT WORK NAME FLAG…
#
# TEXT, WORK  as for prepare.sh; the sub-words and binarised data in WORK are shared by all runs
# NAME  of this run: checkpoints and logs go to WORK/NAME; an interrupted run resumes
# FLAG  the model: --arch transformer_rskip_tiny, or --arch transformer with the same dimensions
#
# Run it in the repository with the environment of `make install` on the PATH.
set -euo pipefail

text=${1:?TEXT is missing} work=${2:?WORK is missing} name=${3:?NAME is missing}
shift 3
run=$work/$name
mkdir -p "$run"
export OMP_NUM_THREADS=1

"$(dirname "$0")/prepare.sh" "$text" "$work"

fairseq-train "$work/binary" --user-dir skipln_fairseq "$@" --share-all-embeddings --cpu --seed 1 \
  --optimizer adam --adam-betas '(0.9,0.98)' --lr 4e-3 --lr-scheduler polynomial_decay \
  --warmup-updates 400 --total-num-update 3600 --max-update 3600 --max-tokens 2048 \
  --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --dropout 0.1 \
  --no-epoch-checkpoints --log-format simple --log-interval 100 --save-dir "$run" | tee -a "$run/train.log"

fairseq-generate "$work/binary" --user-dir skipln_fairseq --path "$run/checkpoint_best.pt" --gen-subset test \
  --beam 5 --batch-size 128 --remove-bpe sentencepiece --cpu > "$run/generate.log"
grep '^D-' "$run/generate.log" | sort -V | cut -f 3 > "$run/test2016.hypotheses.de"
sacrebleu "$work/test2016.de" -i "$run/test2016.hypotheses.de" -m bleu chrf --width 2
