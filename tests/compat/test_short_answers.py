"""What a user can put right in a training or a translation ends in one line."""

from tests.support.commands import TRAIN, run


def only_error(finished) -> str:
    assert "Traceback" not in finished.output
    (line,) = (line for line in finished.output.splitlines() if "error:" in line)
    return line


def test_no_architecture(data, tmp_path):
    flags = [flag for flag in TRAIN if flag not in ("--arch", "transformer_rskip_tiny")]
    finished = run("fairseq-train", data, *flags, "--save-dir", tmp_path, succeeds=False)
    assert "no --arch: name an architecture" in only_error(finished)


def test_embeddings_of_another_width(data, tmp_path):
    (tmp_path / "vectors").write_text("2 3\nder 1 2 3\ndie 1 2 3\n")
    train = ("fairseq-train", data, *TRAIN, "--save-dir", tmp_path / "run", "--encoder-embed-path")
    finished = run(*train, tmp_path / "vectors", succeeds=False)
    assert "the pretrained embedding of 'der' has 3 numbers, the model's 128" in only_error(finished)
    (tmp_path / "words").write_text("no vectors\na b c\n")
    assert "then a word and its numbers" in only_error(run(*train, tmp_path / "words", succeeds=False))


def test_a_sentence_longer_than_the_positions(data, trained):
    finished = run("fairseq-interactive", data, "--path", trained.checkpoint, "--cpu", stdin=b"a " * 2000 + b"\n",
        succeeds=False)  # fmt: skip
    assert "S-0 has 2001 words, and the model takes (1024, 1024)" in only_error(finished)


def test_files_in_the_place_of_folders(data, trained, texts, tmp_path):
    (tmp_path / "file").touch()
    finished = run("fairseq-generate", data, "--path", trained.checkpoint, "--cpu", "--results-path",
        tmp_path / "file", succeeds=False)  # fmt: skip
    assert f"File exists: '{tmp_path / 'file'}'" in only_error(finished)
    finished = run("fairseq-preprocess", "-s", "en", "-t", "de", "--trainpref", texts / "train", "--destdir",
        tmp_path / "file", succeeds=False)  # fmt: skip
    assert f"File exists: '{tmp_path / 'file'}'" in only_error(finished)
