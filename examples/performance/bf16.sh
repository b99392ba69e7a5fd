#!/usr/bin/env bash
# Train rSkip order 2 on Multi30k in float32 and in bfloat16, three seeds each, on one CPU thread, and print the
# validation loss after the same updates:
#   examples/performance/bf16.sh DATA WORK    DATA as the recipe multi30k-en-de leaves it (runs/multi30k-en-de/binary); WORK gets the logs
set -euo pipefail
data=$1 work=$2
mkdir -p "$work"
export OMP_NUM_THREADS=1
for seed in 1 2 3; do
  for precision in fp32 bf16; do
    log=$work/$precision-$seed.log
    fairseq-train "$data" --user-dir skipln_fairseq --cpu $([[ $precision = bf16 ]] && echo --bf16) --seed "$seed" \
      --arch transformer_rskip_iwslt_de_en --share-all-embeddings --dropout 0.1 \
      --encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --encoder-layers 3 \
      --decoder-embed-dim 256 --decoder-ffn-embed-dim 1024 --decoder-layers 3 \
      --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1 --lr 1e-3 --lr-scheduler inverse_sqrt \
      --warmup-updates 200 --max-update 600 --max-tokens 2048 --validate-interval-updates 200 \
      --criterion fused_label_smoothed_cross_entropy --label-smoothing 0.1 \
      --no-save --log-format simple --log-interval 100 >"$log" 2>&1
    echo "$precision seed $seed $(grep -o 'valid on.*' "$log" | tail -1)"
  done
done
