"""Bad data end a command in one line that names the file, with an exit status, and nothing written."""

import re
import shutil
import struct

import pytest

from tests.support.commands import SIZES, TRAIN, preprocess, run, run_isolated


def one_line(finished) -> str:
    """The only complaint of a refused command."""
    errors = [line for line in finished.output.splitlines() if "error:" in line]
    assert len(errors) == 1, finished.output
    assert errors[0].startswith("skipln_fairseq: error: ")
    assert "Traceback" not in finished.output, finished.output
    assert finished.status == 1
    return errors[0]


# Text for fairseq-preprocess


@pytest.fixture
def spoilt(tmp_path, texts):
    """A copy of the texts, to be spoilt."""
    return shutil.copytree(texts, tmp_path / "texts")


def spoil_length(folder):
    with (folder / "train.de").open("a") as text:
        text.write("Noch ein Satz.\n")


def spoil_encoding(folder):
    lines = (folder / "valid.de").read_bytes().splitlines(keepends=True)
    lines[4] = "schön\n".encode("latin-1")
    (folder / "valid.de").write_bytes(b"".join(lines))


SPOILT_TEXTS = {
    "train.en has 180 lines, but .*train.de 181": spoil_length,
    "valid.de, line 5: not valid UTF-8": spoil_encoding,
    "test.en is empty": lambda folder: (folder / "test.en").write_text(""),
    "test.de: No such file or directory": lambda folder: (folder / "test.de").unlink(),
    "valid.en: Is a directory": lambda folder: (
        (folder / "valid.en").unlink() or (folder / "valid.en").mkdir()
    ),
}


@pytest.mark.parametrize("message", SPOILT_TEXTS)
def test_spoilt_text_is_refused_before_anything_is_written(spoilt, tmp_path, message):
    SPOILT_TEXTS[message](spoilt)
    finished = preprocess(spoilt, tmp_path / "data", succeeds=False)
    assert re.search(message, one_line(finished))
    assert not (tmp_path / "data").exists()


def test_one_side_alone_and_several_validation_texts_are_checked_too(spoilt, tmp_path):
    spoil_encoding(spoilt)
    flags = ("-s", "en", "-t", "de", "--trainpref", spoilt / "train", "--destdir", tmp_path / "data")
    both = f"{spoilt / 'test'},{spoilt / 'valid'}"
    assert "line 5" in one_line(run("fairseq-preprocess", *flags, "--validpref", both, succeeds=False))
    german = ("--only-source", "--trainpref", spoilt / "valid.de", "--destdir", tmp_path / "data")
    assert "line 5" in one_line(run("fairseq-preprocess", *german, succeeds=False))
    assert not (tmp_path / "data").exists()


def test_a_folder_that_holds_data_already_is_not_touched(texts, tmp_path):
    preprocess(texts, tmp_path / "data")
    before = {file: file.read_bytes() for file in (tmp_path / "data").iterdir() if file.suffix != ".log"}
    assert "dict.en.txt exists already" in one_line(preprocess(texts, tmp_path / "data", succeeds=False))
    assert before == {file: file.read_bytes() for file in before}


@pytest.mark.parametrize("workers", [1, 3])
def test_empty_lines_are_sentences_of_no_words_and_shift_nothing(spoilt, tmp_path, workers):
    """fairseq's own rule, and it holds: one-sided, two-sided, at the end, trained on and translated."""
    for file, empty in (("en", (3, 10, 11)), ("de", (5, 10, 11))):
        for split in SIZES:
            lines = (spoilt / f"{split}.{file}").read_text().splitlines()
            lines = ["" if number in empty else line for number, line in enumerate(lines)]
            (spoilt / f"{split}.{file}").write_text("".join(f"{line}\n" for line in lines))
    preprocess(spoilt, tmp_path / "data", "--workers", workers)
    run("fairseq-train", tmp_path / "data", *TRAIN, "--save-dir", tmp_path / "run")
    path = tmp_path / "run" / "checkpoint_last.pt"
    finished = run("fairseq-generate", tmp_path / "data", "--path", path, "--cpu", "--max-len-b=20")
    for kind, language in (("S", "en"), ("T", "de")):
        sentences = dict(line.removeprefix(f"{kind}-").split("\t") for line in finished.lines(kind))
        assert len(sentences) == SIZES["test"]
        for number, line in enumerate((spoilt / f"test.{language}").read_text().splitlines()):
            assert len(sentences[str(number)].split()) == len(line.split())


# Binarised data, for the commands that read them


def cut(name, kept):
    def spoil(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:kept])

    return spoil


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def other_length(folder):
    """The training data get the shorter target side of the validation data."""
    for end in ("bin", "idx"):
        shutil.copy(folder / f"valid.en-de.de.{end}", folder / f"train.en-de.de.{end}")


def no_sentences(folder):
    (folder / "train.en-de.en.bin").write_bytes(b"")
    index = (folder / "train.en-de.en.idx").read_bytes()[:26]
    (folder / "train.en-de.en.idx").write_bytes(index[:18] + struct.pack("<Q", 0))


SPOILT_DATA = {
    "No such file or directory: .*data": shutil.rmtree,
    "data holds no data of a language pair": lambda folder: [file.unlink() for file in folder.iterdir()],
    "No such file or directory: .*dict.de.txt": remove("dict.de.txt"),
    "Dataset not found: train": remove(
        *(f"train.en-de.{e}" for e in ("en.bin", "en.idx", "de.bin", "de.idx"))
    ),
    "train.en-de.en.bin is missing": remove("train.en-de.en.bin"),
    "train.en-de.en.idx is missing": remove("train.en-de.en.idx"),
    "train.en-de.de.bin is missing": remove("train.en-de.de.bin"),
    "no target side": remove("train.en-de.de.bin", "train.en-de.de.idx"),
    "train.en-de.en.bin has 100 bytes instead of": cut("train.en-de.en.bin", 100),
    "train.en-de.de.bin has 0 bytes instead of": cut("train.en-de.de.bin", 0),
    "train.en-de.en.idx has 1000 bytes instead of": cut("train.en-de.en.idx", 1000),
    "train.en-de.en.idx is no index .*, or cut short": cut("train.en-de.en.idx", 20),
    "train.en-de.en holds 180 sentences, but .*train.en-de.de 12": other_length,
    "train.en-de.en.bin holds no sentences": no_sentences,
}


@pytest.mark.parametrize("message", SPOILT_DATA)
def test_training_refuses_spoilt_data(tmp_path, data, message):
    folder = shutil.copytree(data, tmp_path / "data")
    SPOILT_DATA[message](folder)
    finished = run("fairseq-train", folder, *TRAIN, "--save-dir", tmp_path / "run", succeeds=False)
    assert re.search(message, one_line(finished))
    assert not list(tmp_path.glob("run/*.pt"))


NO_FOLDER = ("No such file or directory", shutil.rmtree)
NO_DICTIONARY = ("No such file or directory: .*dict.de.txt", remove("dict.de.txt"))
CUT = ("valid.en-de.en.bin has 100 bytes instead of", cut("valid.en-de.en.bin", 100))


@pytest.mark.parametrize(
    ("command", "flags", "spoilt"),
    [
        *(("generate", ["--gen-subset=valid"], spoilt) for spoilt in (NO_FOLDER, NO_DICTIONARY, CUT)),
        *(("validate", ["--batch-size=4"], spoilt) for spoilt in (NO_FOLDER, NO_DICTIONARY, CUT)),
        *(("interactive", [], spoilt) for spoilt in (NO_FOLDER, NO_DICTIONARY)),
    ],
)
def test_the_other_commands_refuse_spoilt_data(tmp_path, data, trained, command, flags, spoilt):
    folder = shutil.copytree(data, tmp_path / "data")
    message, spoil = spoilt
    spoil(folder)
    flags = [folder, "--task=translation", "--path", trained.checkpoint, "--cpu", *flags]
    assert re.search(message, one_line(run(f"fairseq-{command}", *flags, succeeds=False)))


def test_data_without_targets_can_still_be_translated(tmp_path, data, trained):
    folder = shutil.copytree(data, tmp_path / "data")
    remove("test.en-de.de.bin", "test.en-de.de.idx")(folder)
    flags = ("-s", "en", "-t", "de", "--path", trained.checkpoint, "--cpu", "--max-len-b=20")
    assert len(run("fairseq-generate", folder, *flags).lines("H")) == SIZES["test"]


@pytest.mark.parametrize("command", ["generate", "validate"])
def test_a_missing_model_is_named(data, tmp_path, command):
    flags = (data, "--task=translation", "--path", tmp_path / "no.pt", "--cpu", "--batch-size=4")
    assert "Model file not found: " in one_line(run(f"fairseq-{command}", *flags, succeeds=False))


# Text for fairseq-interactive


def interactive(data, trained, text: bytes, *more, run=run, **how):
    flags = ("--path", trained.checkpoint, "--cpu", "--max-len-b=20", *more)
    return run("fairseq-interactive", data, *flags, stdin=text, **how)


def test_interactive_translates_empty_lines_and_no_lines(data, trained):
    finished = interactive(data, trained, b"The cat .\n\n   \nThe dog .\n", "--buffer-size=3")
    assert [line.split("\t")[0] for line in finished.lines("H")] == ["H-0", "H-1", "H-2", "H-3"]
    assert interactive(data, trained, b"").lines("H") == []


def test_interactive_refuses_invalid_utf8(data, trained, tmp_path):
    (tmp_path / "text").write_bytes(b"The cat .\nThe d\xffog .\n")
    finished = interactive(data, trained, b"", "--input", tmp_path / "text", succeeds=False)
    assert "text in the wrong encoding, UTF-8 is expected" in one_line(finished)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    finished = interactive(data, trained, b"The d\xffog .\n", run=run_isolated, env=strict, succeeds=False)
    assert "text in the wrong encoding, UTF-8 is expected" in one_line(finished)


def test_finetuning_from_a_checkpoint_that_is_not_there(data, tmp_path):
    missing = tmp_path / "missing.pt"
    flags = ("--finetune-from-model", missing, "--save-dir", tmp_path)
    failed = run("fairseq-train", data, *TRAIN, *flags, succeeds=False)
    last = failed.output.strip().splitlines()[-1]
    assert last == f"skipln_fairseq: error: --finetune-from-model {missing} does not exist"
    assert "Traceback" not in failed.output
    failed = run("fairseq-train", data, *TRAIN, *flags, "--reset-optimizer", succeeds=False)
    assert "can not be set together with either --reset-optimizer" in one_line(failed)
    failed = run("fairseq-train", data, *TRAIN, "--restore-file", "other.pt", *flags, succeeds=False)
    assert one_line(failed).endswith("can not be specified together")


def test_a_run_resumes_when_the_checkpoint_it_was_finetuned_from_is_gone(data, trained, tmp_path):
    shutil.copy(trained.checkpoint, tmp_path)
    flags = ("--finetune-from-model", tmp_path / "missing.pt", "--save-dir", tmp_path, "--max-epoch=3")
    resumed = run("fairseq-train", data, *TRAIN, *flags)
    assert "Loaded checkpoint" in resumed.output
