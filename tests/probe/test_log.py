"""``--probe-interval``: what a training logs."""

import argparse

import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics
from fairseq.models.transformer import TransformerModelBase

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.probe.log import ProbedModel, add_probe_args, probed
from skipln_fairseq.probe.measure import measure
from skipln_fairseq.probe.streams import STREAM_QUANTITIES
from skipln_fairseq.probe.watch import QUANTITIES, sub_layers
from tests.support.build import batch, build_connection_model
from tests.support.commands import TRAIN, run


class Watched(ProbedModel, TransformerModelBase):
    """fairseq's model of any two stacks, with the log mixed in."""


def watched(interval, name="rskip-2", *flags):
    model = build_connection_model(name, *flags)
    given = type("Args", (), {"probe_interval": interval} if interval is not None else {})
    return probed(Watched(model.cfg, model.encoder, model.decoder), given)


def train_step(model, update):
    """What fairseq's task does in one update, the loss summed as its criteria do; what was logged."""
    model.train()
    with metrics.aggregate(new_root=True) as logged:
        model.set_num_updates(update)
        source, lengths, target = batch()
        logits, _ = model(source, lengths, target)
        F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=1, reduction="sum").backward()
    return logged.get_smoothed_values()


@pytest.mark.parametrize("flags", [(), ("--checkpoint-activations",)])
def test_training_logs_what_the_tool_measures(flags):
    model = watched("2", "rskip-2", *flags, "--dropout", "0")
    assert train_step(model, 0) == {}
    logged = train_step(model, 1)
    assert train_step(model, 2) == {}
    asked = QUANTITIES.keys() - STREAM_QUANTITIES.keys()
    assert set(logged) == {f"{quantity}/{place}" for quantity in asked for place in sub_layers(model)}

    def loss(model):
        source, lengths, target = batch()
        logits, _ = model(source, lengths, target)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=1)

    for reading in measure(model, loss):
        for quantity in asked:
            assert logged[f"{quantity}/{reading.place}"] == pytest.approx(
                getattr(reading, quantity), rel=1e-3
            )


def test_evaluation_logs_nothing_and_an_unlogged_model_has_no_hook():
    model = watched("1")
    train_step(model, 0)
    with metrics.aggregate(new_root=True) as logged, torch.no_grad():
        model.eval()(*batch())
    assert logged.get_smoothed_values() == {}
    for interval in (None, "0", 0):
        model = watched(interval)
        assert train_step(model, 0) == {}
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_logging_changes_no_gradient():
    flags = ("--dropout", "0", "--kernels", "reference")
    first, second = watched("1", "rskip-2", *flags), watched(None, "rskip-2", *flags)
    for model in (first, second):
        train_step(model, 0)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.grad.equal(other.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_logged_model_still_scripts():
    model = watched("2").eval()
    model.set_num_updates(2)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(*batch())[0], model(*batch())[0])


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_a_bad_interval_is_refused(value):
    with pytest.raises(UserError, match=f"--probe-interval {value}: valid is a whole number of at least 0"):
        watched(value)


def test_the_flag_is_absent_unless_given():
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    add_probe_args(parser)
    assert not hasattr(parser.parse_args([]), "probe_interval")
    assert parser.parse_args(["--probe-interval", "7"]).probe_interval == "7"


def test_training_with_the_flag_logs_to_tensorboard(data, tmp_path):
    """Through fairseq-train: each sub-layer's quantities, in the log and as tensorboard's scalars."""
    flags = ("--max-update", "2", "--probe-interval", "2", "--tensorboard-logdir", tmp_path / "board")
    done = run("fairseq-train", data, *TRAIN, *flags, "--save-dir", tmp_path / "checkpoints")
    first, second = done.logged("train_inner")
    name = "gradient_norm/decoder.1.cross_attn"
    assert name not in first
    assert float(second[name]) > 0
    events = b"".join(file.read_bytes() for file in (tmp_path / "board" / "train_inner").iterdir())
    assert name.encode() in events
