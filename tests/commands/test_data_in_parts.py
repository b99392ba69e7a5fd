"""``fairseq-train DATA1:DATA2``: data in several folders, one for each epoch in turn."""

import pytest

from tests.support.commands import TRAIN, preprocess, run

PAIRS = (96, 48)  # six batches and three


@pytest.fixture(scope="module")
def parts(texts, data, tmp_path_factory):
    """Two folders with one dictionary; the first also has what is validated on."""
    folders, begin = [], 0
    for number, size in enumerate(PAIRS):
        text, folder = (tmp_path_factory.mktemp(f"{kind}-{number}") for kind in ("text", "part"))
        for file in texts.iterdir():
            lines = file.read_text("utf-8").splitlines(keepends=True)
            lines = lines[begin : begin + size] if file.stem == "train" else lines
            (text / file.name).write_text("".join(lines), "utf-8")
        preprocess(text, folder, "--srcdict", data / "dict.en.txt")
        folders.append(str(folder))
        begin += size
    return ":".join(folders)


def train(parts, folder, *flags):
    flags = ("--max-epoch=4", "--dropout=0", "--lr-scheduler=fixed", *flags, "--save-dir", folder)
    return run("fairseq-train", parts, *TRAIN, *flags)


def test_each_epoch_has_the_next_part(parts, tmp_path):
    told = [int(entry["train_num_updates"]) for entry in train(parts, tmp_path).logged("train")]
    assert told == [6, 9, 15, 18]


@pytest.mark.parametrize("stop", [3, 8, 9, 17])
def test_a_run_that_stops_within_a_part_goes_on_there(parts, tmp_path, stop):
    whole = train(parts, tmp_path / "whole").losses()
    save = ("--save-interval-updates=1", "--keep-interval-updates=1")
    before = train(parts, tmp_path / "run", f"--max-update={stop}", *save).losses()
    after = train(parts, tmp_path / "run", *save).losses()
    assert before + after == whole
