"""A checkpoint of every n updates, wherever an epoch ends: an epoch of the tests' data has 12 updates."""

import pytest

from tests.support.commands import TRAIN, run


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), ["1_12", "1_6", "2_18", "2_24"]),
        (("--keep-interval-updates=1",), ["2_24"]),
        (("--keep-interval-updates=1", "--keep-interval-updates-pattern=12"), ["1_12", "2_18", "2_24"]),
    ],
)
def test_every_interval_is_kept(data, tmp_path, flags, kept):
    run(
        "fairseq-train",
        data,
        *TRAIN,
        "--max-epoch=2",
        "--save-interval-updates=6",
        *flags,
        "--save-dir",
        tmp_path,
    )
    found = sorted(path.stem.removeprefix("checkpoint_") for path in tmp_path.glob("checkpoint_*_*.pt"))
    assert found == kept
