"""The probe's numbers during training, in fairseq's log and ``--tensorboard-logdir``: ``--probe-interval N``."""

from typing import Any

import torch
from fairseq.logging import metrics
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..common.errors import UserError
from .watch import SubLayer, watch

__all__ = ["ProbedModel", "add_probe_args", "log_sub_layers", "probed"]


def add_probe_args(parser) -> None:
    """Add ``--probe-interval``."""
    parser.add_argument(
        "--probe-interval",
        metavar="N",
        help="every N updates log each sub-layer's activation norm, gradient norm and x : F ratios; 0: never",
    )


def log_sub_layers(model: nn.Module) -> list[RemovableHandle]:
    """Log every sub-layer of every forward and backward pass, until the handles are removed.

    The names are ``activation_norm/encoder.0.ffn`` and so on, with the quantities of
    :data:`.watch.QUANTITIES`; tensorboard shows each quantity as one group. The gradient is that of the loss
    summed over the target tokens of this worker's batch, divided by their number, in nats. fairseq's fp16 and amp
    modes scale the loss before the backward; there the gradient norms include that scale, which fairseq logs as
    ``loss_scale``.
    """
    tokens = torch.ones(())

    def count(decoder: nn.Module, inputs: tuple) -> None:
        nonlocal tokens
        tokens = inputs[0].ne(decoder.padding_idx).sum().clamp(min=1)

    def report(place: SubLayer, quantity: str, value: Tensor) -> None:
        if quantity == "gradient_norm":
            value = value / tokens
        # digits, not decimals: a vanishing gradient is no zero, and the log's lines are long enough
        metrics.log_scalar(f"{quantity}/{place}", float(f"{value.item():.4g}"), priority=2000)

    # both of fairseq's model classes hand the decoder the target's tokens as its first argument
    return [model.decoder.register_forward_pre_hook(count), *watch(model, report)]


class ProbedModel:
    """Mixed into a model: logs its sub-layers in each N-th update.

    fairseq announces an update right before its forward pass. Hooks are there during that update only: a model that
    is not trained has none, and TorchScript, which cannot compile them, never sees one.
    """

    probe_interval = 0

    def set_num_updates(self, num_updates: int) -> None:
        """``num_updates``: updates made so far."""
        super().set_num_updates(num_updates)
        for handle in self.__dict__.pop("probe_handles", ()):
            handle.remove()
        if self.probe_interval and (num_updates + 1) % self.probe_interval == 0:
            self.__dict__["probe_handles"] = log_sub_layers(self)


def probed(model: ProbedModel, args: Any) -> ProbedModel:
    """The model, told its ``--probe-interval``.

    Raises:
        UserError: for anything but a whole number from 0.
    """
    value = getattr(args, "probe_interval", None) or 0
    try:
        model.probe_interval = int(value)
    except ValueError:
        model.probe_interval = -1
    if model.probe_interval < 0:
        raise UserError(f"--probe-interval {value}: valid is a whole number of at least 0")
    return model
