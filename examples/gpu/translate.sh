#!/usr/bin/env bash
# A toy corpus, a training, translations and BLEU by fairseq's own commands:
#
#   examples/gpu/translate.sh FOLDER DEVICE TYPE
#
# DEVICE  cuda or cpu
# TYPE    fp16, bf16 or fp32
set -euo pipefail
folder=$1 device=$2 type=$3
plugin=(--user-dir skipln_fairseq)
[[ $device == cuda ]] || plugin+=(--cpu)
[[ $type == fp32 ]] || plugin+=("--$type")
size=iwslt_de_en updates=300
[[ $device == cuda ]] || size=tiny updates=20

mkdir -p "$folder"
python3 - "$folder" <<'END'
import sys
from itertools import islice
from pathlib import Path

from skipln_fairseq.recipes.generator import generate

pairs = iter(generate(21000, seed=1))
for split, size in (("train", 20000), ("valid", 500), ("test", 500)):
    for language, side in zip(("en", "de"), zip(*islice(pairs, size))):
        Path(sys.argv[1], f"{split}.{language}").write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
END
fairseq-preprocess -s en -t de --trainpref "$folder/train" --validpref "$folder/valid" \
  --testpref "$folder/test" --joined-dictionary --destdir "$folder/data"
fairseq-train "$folder/data" "${plugin[@]}" --arch "transformer_rskip_$size" --skip-type plain \
  --optimizer adam --lr 0.0007 --lr-scheduler inverse_sqrt --warmup-updates 100 --max-tokens 4096 \
  --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --max-update "$updates" --log-interval 50 \
  --save-dir "$folder/checkpoints"
fairseq-generate "$folder/data" "${plugin[@]}" --path "$folder/checkpoints/checkpoint_last.pt" \
  --batch-size 64 --quiet
