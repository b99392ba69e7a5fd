#!/usr/bin/env bash
# Multi30k en→de, from text to BLEU on test2016, with 1.4 M parameters and a fixed number of updates.
#
#   examples/multi30k-en-de/run.sh TEXT WORK NAME FLAG…
#
# TEXT  folder with train, valid and test2016 as .en.gz and .de.gz: Multi30k task 1, raw text, whose public
#       files call the latter two val and test_2016_flickr
# WORK  folder for everything made; the sub-words and binarised data in it are shared by all runs
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

if [ ! -e "$work/binary" ]; then
  for part in train valid test2016; do
    for lang in en de; do
      gzip -dc "$text/$part.$lang.gz" > "$work/$part.$lang"
    done
  done
  python - "$work" <<'PYTHON'
import sys
from pathlib import Path

import sentencepiece

work = Path(sys.argv[1])
sentencepiece.SentencePieceTrainer.train(
    input=f"{work}/train.en,{work}/train.de", model_prefix=f"{work}/subwords", vocab_size=4000,
    model_type="bpe", character_coverage=1.0, minloglevel=2,
)
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{work}/subwords.model")
for part in ("train", "valid", "test2016"):
    for lang in ("en", "de"):
        lines = (work / f"{part}.{lang}").read_text("utf-8").removesuffix("\n").split("\n")
        encoded = (" ".join(line) + "\n" for line in pieces.encode(lines, out_type=str))
        (work / f"pieces.{part}.{lang}").write_text("".join(encoded), "utf-8")
PYTHON
  rm -rf "$work/binary.partial"
  fairseq-preprocess --user-dir skipln_fairseq --source-lang en --target-lang de --joined-dictionary \
    --trainpref "$work/pieces.train" --validpref "$work/pieces.valid" --testpref "$work/pieces.test2016" \
    --destdir "$work/binary.partial" > "$work/preprocess.log"
  mv "$work/binary.partial" "$work/binary"
fi

fairseq-train "$work/binary" --user-dir skipln_fairseq "$@" --share-all-embeddings --cpu --seed 1 \
  --optimizer adam --adam-betas '(0.9,0.98)' --lr 4e-3 --lr-scheduler polynomial_decay \
  --warmup-updates 400 --total-num-update 3600 --max-update 3600 --max-tokens 2048 \
  --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --dropout 0.1 \
  --no-epoch-checkpoints --log-format simple --log-interval 100 --save-dir "$run" | tee -a "$run/train.log"

fairseq-generate "$work/binary" --user-dir skipln_fairseq --path "$run/checkpoint_best.pt" --gen-subset test \
  --beam 5 --batch-size 128 --remove-bpe sentencepiece --cpu > "$run/generate.log"
grep '^D-' "$run/generate.log" | sort -V | cut -f 3 > "$run/test2016.hypotheses.de"
sacrebleu "$work/test2016.de" -i "$run/test2016.hypotheses.de" -m bleu chrf --width 2
