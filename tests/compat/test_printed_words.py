"""A language model reads a word again that fairseq-interactive joined for print."""

from tests.support.commands import SIZES, run


def test_a_word_that_was_printed(texts, tmp_path):
    sides = [f"--{split}pref={texts / split}.en" for split in SIZES]
    run("fairseq-preprocess", "--only-source", *sides, "--destdir", tmp_path / "data")
    run("fairseq-train", tmp_path / "data", "--task=language_modeling", "--arch=transformer_lm_rskip_tiny",
        "--optimizer=adam", "--lr=0.002", "--cpu", "--batch-size=16", "--max-update=2", "--sample-break-mode=eos",
        "--tokens-per-sample=64", "--num-workers=0", "--save-dir", tmp_path)  # fmt: skip
    interactive = ("fairseq-interactive", tmp_path / "data", "--task=language_modeling", "--cpu", "--max-len-b=5",
        "--path", tmp_path / "checkpoint_last.pt", "--remove-bpe=sentencepiece")  # fmt: skip
    printed = run(*interactive, stdin=b"the dog\n").lines("H")[0].split("\t")[2]
    lines = run(*interactive, stdin=f"the dog\n{printed}\n".encode()).lines("S")
    assert lines == ["S-0\tthedog", "S-1\t<unk>"]
