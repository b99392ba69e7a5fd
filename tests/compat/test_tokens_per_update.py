"""torchrun does not go on with other tokens in an update because it has other processes."""

import pytest
import torch
from omegaconf import OmegaConf

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.tokens_per_update import check
from tests.support.commands import TRAIN, run


def flags(processes, frequency, tokens=None, sentences=None):
    return {
        "distributed_training": {"distributed_world_size": processes},
        "optimization": {"update_freq": [frequency]},
        "dataset": {"max_tokens": tokens, "batch_size": sentences},
    }


@pytest.fixture
def checkpoint(tmp_path):
    """Saves these flags as a checkpoint does."""

    def save(then):
        torch.save({"cfg": then}, tmp_path / "checkpoint_last.pt")
        return tmp_path / "checkpoint_last.pt"

    return save


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (flags(2, 1, 400), flags(1, 1, 400)),
        (flags(1, 1, sentences=16), flags(8, 1, sentences=16)),
        (flags(2, 1, 400), flags(1, 1, 200)),
    ],
)
def test_other_tokens_with_other_processes_are_refused(then, now, checkpoint):
    with pytest.raises(
        UserError, match=r"an update had \d+ with \d processes .* give --update-freq \d+, or "
    ):
        check(checkpoint(then), OmegaConf.create(now))


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (flags(2, 1, 400), flags(1, 2, 400)),
        (flags(8, 1, 400), flags(7, 1, 400)),
        (flags(2, 1, 400), flags(2, 4, 400)),  # on purpose: the processes are the same
    ],
)
def test_what_the_user_wants_goes_on(then, now, checkpoint):
    check(checkpoint(then), OmegaConf.create(now))


def test_only_torchrun_is_refused(data, tmp_path):
    """Elsewhere a user who changes the number of processes does so by hand."""
    line = (data, *TRAIN, "--save-dir", tmp_path, "--no-epoch-checkpoints")
    run("fairseq-train", *line, "--max-update", "2")
    last = tmp_path / "checkpoint_last.pt"
    state = torch.load(last, weights_only=True)
    state["cfg"]["distributed_training"]["distributed_world_size"] = 2
    torch.save(state, last)
    elastic = {"TORCHELASTIC_RUN_ID": "x"}
    refused = run("fairseq-train", *line, env=elastic, succeeds=False).output.splitlines()[-1]
    assert "error: tokens or sentences: an update had 32 with 2 processes and has 16 with 1" in refused
    assert f"give --update-freq 2, or --restore-file {last}" in refused
    assert run("fairseq-train", *line, "--max-update", "4", "--restore-file", last, env=elastic).losses()
    state["cfg"]["distributed_training"]["distributed_world_size"] = 3
    torch.save(state, last)
    assert run("fairseq-train", *line, "--max-update", "6").losses()
