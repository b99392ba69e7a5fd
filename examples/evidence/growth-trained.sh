#!/usr/bin/env bash
# Trains a model with DLCL and one with Hyper-Connections, and probes them: the numbers of docs/growth.md.
#
#   python -m skipln_fairseq.recipes prepare multi30k-en-de
#   examples/evidence/growth-trained.sh FOLDER
#
# Checkpoints and picture come into FOLDER, the numbers into growth-trained/ beside this file. Run it in the
# repository's root.
set -euo pipefail
folder=${1:?usage: growth-trained.sh FOLDER}
numbers=$(dirname "$0")/growth-trained

train() { # NAME UPDATES ENCODER_LAYERS FLAGS…
  local name=$1 updates=$2 layers=$3
  shift 3
  fairseq-train runs/multi30k-en-de/binary --user-dir skipln_fairseq --arch transformer_rskip_tiny \
    --encoder-layers "$layers" --decoder-layers 2 --encoder-embed-dim 64 --decoder-embed-dim 64 \
    --encoder-ffn-embed-dim 256 --decoder-ffn-embed-dim 256 --share-all-embeddings --norm-placement pre "$@" \
    --dropout 0.1 --criterion fused_label_smoothed_cross_entropy --label-smoothing 0.1 \
    --optimizer adam --adam-betas '(0.9,0.98)' --lr 4e-3 --lr-scheduler polynomial_decay --warmup-updates 200 \
    --total-num-update "$updates" --max-update "$updates" --max-tokens 1024 --seed 1 --cpu --num-workers 0 \
    --validate-interval 1000 --no-epoch-checkpoints --save-dir "$folder/$name"
  cp "$folder/$name/checkpoint_last.pt" "$folder/$name.pt"
}

train DLCL 1200 12 --skip-type plain --depth-mixing dlcl
train Hyper-Connections 600 6 --skip-type hyper
python -m skipln_fairseq.probe --picture trained --path "$folder/DLCL.pt" "$folder/Hyper-Connections.pt" \
  --data runs/multi30k-en-de/binary --output "$folder/probe"
mkdir -p "$numbers"
cp "$folder/probe/probe.csv" "$folder/probe/probe-weights.csv" "$numbers"
