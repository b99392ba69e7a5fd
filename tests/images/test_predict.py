"""The ranks that a model of images gives to the right classes."""

import math
import shutil

import pytest
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images import predict
from skipln_fairseq.images.ranks import ranked
from tests.support.image_commands import train_on_colours, validate


def test_ranks_of_the_right_class_are_written(digits, tmp_path):
    """As many first places as the accuracy that fairseq-validate gives."""
    folder, _ = digits
    checkpoint = folder / "rskip" / "checkpoint_best.pt"
    predict.main(["--path", str(checkpoint), "--output", str(tmp_path / "ranks"), "--batch-size", "100"])
    ranks = [int(line) for line in (tmp_path / "ranks").read_text().splitlines()]
    assert len(ranks) == 360
    assert set(ranks) <= set(range(1, 11))
    (found,) = validate(checkpoint, "--valid-subset", "test", "--log-format", "json").logged("test")
    assert float(found["test_top1"]) == pytest.approx(100 * ranks.count(1) / 360, abs=0.01)
    assert float(found["test_top5"]) == pytest.approx(100 * sum(r <= 5 for r in ranks) / 360, abs=0.01)
    with pytest.raises(UserError, match="no split valid7"):
        predict.main(["--path", str(checkpoint), "--output", str(tmp_path / "x"), "--split", "valid7"])


@pytest.mark.parametrize(
    ("split", "training", "count"),
    [
        ("test", ("--lr", "0.1", "--arch", "vgg11"), 360),
        ("valid", ("--lr", "0.1", "--no-flip"), 144),
        ("valid", ("--cpu", "--held-out", "0.5", "--data-seed", "2"), 718),
        ("valid", ("--train-subset", "test"), 36),
    ],
)
def test_what_has_no_model_has_no_rank(tmp_path, split, training, count):
    flags = ["--path", "none.pt", "--output", str(tmp_path / "new" / "ranks"), "--data", "digits"]
    predict.main([*flags, "--split", split, "--diverged", *training])
    assert (tmp_path / "new" / "ranks").read_text() == "0\n" * count


@pytest.mark.parametrize(
    ("place", "message"), [(".", "is a folder: name"), ("file/ranks", "is a file, and no")]
)
def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path, place, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--output .* {message}"):
        predict.main(["--path", "none.pt", "--output", str(tmp_path / place)])


def test_ranks_count_from_the_likeliest_and_equal_ones_are_not_likelier():
    logits = torch.tensor(
        [[3.0, 1, 2], [1, 1, 1], [0, 5, 5], [math.nan, 1, 2], [1, math.nan, 0], [math.nan] * 3]
    )
    assert ranked(logits, torch.tensor([2, 0, 1, 0, 0, 1])).tolist() == [2, 3, 2, 3, 2, 3]


def test_a_checkpoint_takes_its_normalisation_along(tmp_path):
    """The test images of a folder, with its training images and without them."""
    checkpoint = train_on_colours(tmp_path)
    shutil.copytree(tmp_path / "colours" / "test", tmp_path / "alone" / "test")
    ranks = {}
    for data in ("colours", "alone"):
        flags = ["--data", str(tmp_path / data), "--output", str(tmp_path / f"{data}.txt")]
        predict.main(["--path", str(checkpoint), *flags])
        ranks[data] = (tmp_path / f"{data}.txt").read_text().splitlines()
    assert ranks["colours"] == ranks["alone"]
    assert ranks["alone"].count("1") > 100
