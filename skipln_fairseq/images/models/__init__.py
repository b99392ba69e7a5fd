"""Models of images, registered with fairseq."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import Tensor, nn

from ...common.changes import Changes
from ...common.errors import UserError
from ...nn.norm.statistics import SingleStatistics
from ..weight_mean import RULES, centre_, centre_masters_
from .connection import add_connection_args, connection_config
from .normalisation import NORMALISATIONS, Normalisation
from .preact import PreActResNet
from .resnet import ResNet18
from .vgg import VGG11

__all__ = ["ImageModel", "PreActResNetModel", "ResNetModel", "VGGModel"]


class ImageModel(SingleStatistics, BaseFairseqModel):
    """A network from images to logits, as fairseq's trainer takes it.

    Pixels are normalised by the mean and deviation of what it was first trained on, which the checkpoint holds.

    Args:
        net: (N, C, H, W) to (N, classes).
        channels: C.
        weight_mean: the rule by which the means of filters are taken out (:mod:`..weight_mean`), or None.
    """

    def __init__(self, net: nn.Module, channels: int, weight_mean: str | None = None):
        super().__init__()
        self.net = net
        self.weight_mean = weight_mean
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        if weight_mean is not None:
            centre_(self, weight_mean)

    def normalise_by(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Take other numbers, (C) each, of pixels from 0 to 1."""
        for buffer, values in ((self.mean, mean), (self.deviation, deviation)):
            buffer.copy_(torch.tensor(values).view_as(buffer))

    def after_step(self, optimizer: Any) -> None:
        """What follows a step of the optimiser, on every worker alike."""
        if self.weight_mean is not None and not centre_masters_(optimizer, self, self.weight_mean):
            centre_(self, self.weight_mean)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        found = super().load_state_dict(*args, **kwargs)
        if self.weight_mean is not None:
            centre_(self, self.weight_mean, rounded=True)
        return found

    @staticmethod
    def changes(stored_args: Namespace, args: Namespace) -> Changes:
        """In what two sets of flags differ."""
        network = [
            f"{name} {before} → {after}"
            for name, before, after in _pairs(_network(stored_args), _network(args))
        ]
        if network:
            return Changes((), network)
        # none is retyped: of the image skips the recursive one alone has parameters
        pairs = _pairs(_choices(stored_args), _choices(args))
        return Changes([f"{name} {before} → {after}" for name, before, after in pairs])

    def forward(self, image: Tensor) -> Tensor:
        """Pixels from 0 to 255 (N, C, H, W) to logits (N, classes)."""
        v = (image.to(self.mean.dtype) / 255 - self.mean) / self.deviation
        v = v.to(next(self.net.parameters()).dtype)
        # channels innermost in memory: to the connections a position's channels are its features
        return self.net(v.contiguous(memory_format=torch.channels_last))

    def max_positions(self) -> None:
        """Images have none."""
        return None


def _pairs(stored: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What differs, before and after."""
    for name in {**stored, **current}:
        before, after = stored.get(name), current.get(name)
        if before != after:
            yield name, before, after


def _network(args: Namespace) -> dict[str, Any]:
    """What decides on all but the connections."""
    model = next((name for name, presets in PRESETS.items() if args.arch in presets), args.arch)
    flags = ("depth", "normalisation", "no_shortcut_scalar", "classifier_width")
    return {"model": model, **{name: getattr(args, name, None) or DEFAULTS.get(name) for name in flags}}


def _choices(args: Namespace) -> dict[str, Any]:
    config, over = connection_config(args)
    choices = asdict(config)
    options = dict(choices.pop("options"))
    over = None if config.norm == "none" else over
    _, rule = _normalisation(args)
    return {**choices, **options, "norm over": over, "weight mean": rule}


def _images(args: Namespace, task: Any) -> tuple[int, int, int]:
    if not hasattr(task, "in_channels"):
        raise UserError(f"--arch {args.arch} is for --task image_classification")
    return task.in_channels, task.size, len(task.classes)


def _add_normalisation_args(parser) -> None:
    parser.add_argument(
        "--normalisation",
        metavar="NAME",
        help=f"inside the network: {', '.join(NORMALISATIONS)} (default: batch)",
    )
    parser.add_argument(
        "--weight-mean-rule",
        metavar="NAME",
        help="of mimic, whose filters lose their mean: fan-in (above 50, the default) or ungrouped",
    )


def _normalisation(args: Namespace) -> tuple[Normalisation, str | None]:
    """What ``--normalisation`` names, and the rule of the weight mean, if it has one."""
    name = getattr(args, "normalisation", None) or DEFAULTS["normalisation"]
    if name not in NORMALISATIONS:
        raise UserError(f"--normalisation {name}: valid are {', '.join(NORMALISATIONS)}")
    rule = getattr(args, "weight_mean_rule", None)
    if rule is not None and name != "mimic":
        raise UserError("--weight-mean-rule belongs to --normalisation mimic")
    if (rule or "fan-in") not in RULES:
        raise UserError(f"--weight-mean-rule {rule}: valid are {', '.join(RULES)}")
    found = NORMALISATIONS[name]
    return found, (rule or "fan-in") if found.weight_mean else None


@register_model("preact_resnet")
class PreActResNetModel(ImageModel):
    """``--arch preact_resnet20``, ``56``, ``110``, and each with ``_rskip``: see :class:`.PreActResNet`."""

    @staticmethod
    def add_args(parser) -> None:
        """Add the model's flags."""
        parser.add_argument("--depth", type=int, metavar="N", help="6n + 2 layers")
        add_connection_args(parser)

    @classmethod
    def build_model(cls, args: Namespace, task) -> "PreActResNetModel":
        """Build what the flags ask for, for the task's images.

        Raises:
            UserError: for flags that make no such model, or another task.
        """
        images = _images(args, task)
        if args.depth % 6 != 2 or args.depth < 8:
            raise UserError(f"--depth {args.depth}: valid are 6n + 2: 8, 14, 20, …")
        return cls(PreActResNet(args.depth, *images, *connection_config(args)), images[0])


@register_model("resnet18")
class ResNetModel(ImageModel):
    """``--arch resnet18``, ``resnet18_rskip``, ``mimicnorm_resnet18``: see :class:`.ResNet18`."""

    @staticmethod
    def add_args(parser) -> None:
        """Add the model's flags."""
        add_connection_args(parser)
        _add_normalisation_args(parser)
        parser.add_argument(
            "--no-shortcut-scalar",
            action="store_true",
            default=None,
            help="of none and mimic: leave out the learned scalar of projected shortcuts, 1.2 at first",
        )

    @classmethod
    def build_model(cls, args: Namespace, task) -> "ResNetModel":
        """As above."""
        images, (normalisation, rule) = _images(args, task), _normalisation(args)
        if getattr(args, "no_shortcut_scalar", None):
            if normalisation.shortcut is nn.Identity:
                raise UserError("--no-shortcut-scalar belongs to --normalisation none and mimic")
            normalisation = normalisation.without_shortcut_scalar()
        connection, over = connection_config(args)
        if normalisation.weight_mean and connection.norm != "none":
            raise UserError(
                f"--skip-norm {connection.norm}: --normalisation mimic goes with no norm but its last"
            )
        return cls(ResNet18(*images, connection, over, normalisation), images[0], rule)


@register_model("vgg11")
class VGGModel(ImageModel):
    """``--arch vgg11``, ``mimicnorm_vgg11``: see :class:`.VGG11`."""

    @staticmethod
    def add_args(parser) -> None:
        """Add the model's flags."""
        _add_normalisation_args(parser)
        parser.add_argument(
            "--classifier-width",
            type=int,
            metavar="N",
            help="features of two hidden layers with dropout before the classes: 4096 in the papers (default: none)",
        )

    @classmethod
    def build_model(cls, args: Namespace, task) -> "VGGModel":
        """As above."""
        images, (normalisation, rule) = _images(args, task), _normalisation(args)
        hidden = getattr(args, "classifier_width", None) or 0
        if hidden < 0:
            raise UserError(f"--classifier-width {hidden}: valid is 0 or more")
        return cls(VGG11(*images, normalisation, hidden), images[0], rule)


DEFAULTS = {"normalisation": "batch"}


def _preset(**values: Any) -> Callable[[Namespace], None]:
    def architecture(args: Namespace) -> None:
        for name, value in values.items():
            setattr(args, name, getattr(args, name, value))

    return architecture


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "preact_resnet": {
        f"preact_resnet{depth}{suffix}": {"depth": depth, "skip_type": skip_type}
        for depth in (20, 56, 110)
        for suffix, skip_type in (("", "plain"), ("_rskip", "recursive"))
    },
    "resnet18": {
        "resnet18": {},
        "resnet18_rskip": {"skip_type": "recursive"},
        "mimicnorm_resnet18": {"normalisation": "mimic"},
    },
    "vgg11": {"vgg11": {}, "mimicnorm_vgg11": {"normalisation": "mimic", "classifier_width": 4096}},
}
"""Of each model the names of ``--arch`` and what they set where the user has not."""

for _model, _presets in PRESETS.items():
    for _name, _values in _presets.items():
        register_model_architecture(_model, _name)(_preset(**_values))
