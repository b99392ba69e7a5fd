"""Schedules: a branch that comes in over the first updates, through checkpoints and resumed runs."""

import pytest
import torch

from skipln_fairseq.nn import build_connection
from tests.support.build import batch, build, wiring
from tests.support.commands import TRAIN, run

SCHEDULES = {
    "branchnorm": ("--skip-type", "branchnorm", "--branchnorm-updates", "5"),
    "prores": ("--skip-type", "prores", "--prores-updates", "2"),
}


def logits(model):
    return model.eval()(*batch())[0]


@pytest.mark.parametrize(
    ("skip", "placement", "last"), [("branchnorm", "post", 5), ("prores", "pre", 4), ("prores", "post", 4)]
)
def test_it_is_the_plain_skip_once_all_branches_are_in(skip, placement, last):
    """Bit for bit, and not a update before; at first nothing of F counts."""
    flags = ("--norm-placement", placement, "--kernels", "reference")
    plain = build("transformer_rskip", "--skip-type", "plain", *flags)
    model = build("transformer_rskip", *SCHEDULES[skip], *flags)
    state = {name: value for name, value in model.state_dict().items() if name.endswith("updates")}
    model.load_state_dict(plain.state_dict() | state)
    expected = logits(plain)
    for updates, equal in ((0, False), (last - 1, False), (last, True), (100 * last, True)):
        model.set_num_updates(updates)
        assert torch.equal(logits(model), expected) == equal
    model.set_num_updates(0)
    before = logits(model)
    for layer in model.decoder.layers:
        torch.nn.init.normal_(layer.fc2.weight)
    assert torch.equal(logits(model), before)


def test_layers_follow_each_other_in_prores():
    """After t updates α is min(t/(T l), 1) in layer l from 1, that of the whole model."""
    found = []
    for layer in range(4):
        skip = build_connection(
            4, wiring("prores", placement="pre", steps=10), layer=layer, depth=(4, 4)
        ).skip
        skip.set_num_updates(20)
        found.append(float(skip.alpha()))
    assert found == pytest.approx([1, 1, 2 / 3, 1 / 2])


@pytest.mark.parametrize("skip", SCHEDULES)
def test_a_resumed_run_equals_an_uninterrupted_one(skip, data, tmp_path):
    """Whose counter stands in the checkpoint, so that it is decoded with the α that it was validated with."""
    flags = (*TRAIN[:-4], "--log-format", "json", "--log-interval", "1", *SCHEDULES[skip])
    whole = run("fairseq-train", data, *flags, "--max-update", "4", "--save-dir", tmp_path / "whole").losses()
    first = run("fairseq-train", data, *flags, "--max-update", "2", "--save-dir", tmp_path / "parts").losses()
    rest = run("fairseq-train", data, *flags, "--max-update", "4", "--save-dir", tmp_path / "parts").losses()
    assert first + rest == whole
    states = [
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("whole", "parts")
    ]
    counts = {int(value) for name, value in states[0].items() if name.endswith("skip.updates")}
    assert counts == {3}  # what the last update was told
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
