#!/usr/bin/env bash
# Multi30k en→de from text to binarised data: one table of 4,000 sub-words. Done once; a second call does nothing.
#
#   examples/multi30k-en-de/prepare.sh TEXT WORK
#
# TEXT  folder with train, valid and test2016 as .en.gz and .de.gz: Multi30k task 1, raw text, whose public
#       files call the latter two val and test_2016_flickr
# WORK  folder for everything made; the data are in WORK/binary
#
# Run it in the repository with the environment of `make install` on the PATH.
set -euo pipefail

text=${1:?TEXT is missing} work=${2:?WORK is missing}
mkdir -p "$work"

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
