#!/usr/bin/env bash
# Which connections train without warm-up? Multi30k en→de, 6 + 6 layers of dimension 128, the learning rate 0.002 from
# the first update on and falling to 0; one more Post-LN with warm-up, for comparison.
#
#   examples/no-warm-up/run.sh WORK [NAME]
#
# WORK  as `python -m skipln_fairseq.recipes prepare multi30k-en-de --work-dir WORK` leaves it; logs go to WORK/no-warm-up
# NAME  of the one variant to train (all unless given); one that has been trained is left alone
#
# Run it in the repository with the environment of `make install` on the PATH; then draw.py makes the figure.
set -euo pipefail

work=${1:?WORK is missing} only=${2:-}
here=$(dirname "$0") logs=$work/no-warm-up
mkdir -p "$logs"
export OMP_NUM_THREADS=1

while IFS='|' read -r name warmup flags; do
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  [ ! -e "$logs/$name.log" ] || continue
  # shellcheck disable=SC2086  # the flags are words
  fairseq-train "$work/binary" --user-dir skipln_fairseq --arch transformer_rskip_tiny $flags \
    --encoder-layers 6 --decoder-layers 6 --share-all-embeddings --dropout 0.1 --cpu --seed 1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --lr 2e-3 --lr-scheduler polynomial_decay \
    --warmup-updates "$warmup" --total-num-update 900 --max-update 900 --max-tokens 2048 --num-workers 0 \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --no-save \
    --log-format json --log-interval 10 --validate-interval-updates 150 > "$logs/$name.partial" 2>&1
  mv "$logs/$name.partial" "$logs/$name.log"
done < "$here/variants.txt"
