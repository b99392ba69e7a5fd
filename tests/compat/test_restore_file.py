"""``--restore-file`` names a checkpoint that is there, or that a first start has not written yet."""

import pytest

from tests.support.commands import TRAIN, run


def test_a_missing_one_ends_in_one_line(data, tmp_path):
    flags = ("--save-dir", tmp_path / "run", "--restore-file", tmp_path / "missing.pt")
    finished = run("fairseq-train", data, *TRAIN, *flags, succeeds=False)
    said = finished.output.splitlines()[-1]
    assert said.startswith(f"skipln_fairseq: error: --restore-file {tmp_path / 'missing.pt'}: no such file")
    assert "Traceback" not in finished.output
    assert not list((tmp_path / "run").iterdir())


def test_one_that_is_there_is_gone_on_from(data, trained, tmp_path):
    flags = ("--save-dir", tmp_path / "run", "--restore-file", trained.checkpoint)
    finished = run("fairseq-train", data, *TRAIN, *flags)  # for an epoch, which it has had
    assert f"Loaded checkpoint {trained.checkpoint}" in finished.output
    assert not finished.losses()


@pytest.mark.parametrize(
    "spelling", ["checkpoint_last.pt", "{}/checkpoint_last.pt", "{}/../run/checkpoint_last.pt"]
)
def test_a_first_start_has_no_last_one(data, tmp_path, spelling):
    folder = tmp_path / "run"
    flags = (
        "--save-dir",
        folder,
        "--max-update=1",
        "--disable-validation",
        "--restore-file",
        spelling.format(folder),
    )
    finished = run("fairseq-train", data, *TRAIN, *flags)
    assert [update for update, _ in finished.losses()] == ["1"]
    assert (folder / "checkpoint_last.pt").exists()
