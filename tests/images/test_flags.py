"""Flags of the networks for images: what they make, what they may not mean, in what they differ."""

from argparse import Namespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.models import PRESETS, ImageModel
from skipln_fairseq.images.models.connection import SpatialConnection, connection_config
from skipln_fairseq.nn import ConnectionConfig
from tests.support.build import wiring
from tests.support.image_models import make


def test_layer_norm_over_the_image_takes_all_of_it():
    config = ConnectionConfig("plain", "layer")
    connection = SpatialConnection(3, 4, config, "image").double()
    x, f_x = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    torch.testing.assert_close(connection(f_x, x), F.layer_norm(x + f_x, (3, 4, 4)))


def test_batch_norm_of_the_sum_is_torchs():
    connection = SpatialConnection(3, 4, wiring("recursive", "batch", order=2)).double()
    norms = [nn.BatchNorm2d(3).double() for _ in range(2)]
    for _ in range(3):
        x, f_x = torch.randn(5, 3, 4, 4).double(), torch.randn(5, 3, 4, 4).double()
        torch.testing.assert_close(connection(f_x, x), norms[1](x + norms[0](x + f_x)))
    connection.eval(), norms[0].eval(), norms[1].eval()
    torch.testing.assert_close(connection(f_x, x), norms[1](x + norms[0](x + f_x)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"skip_type": "dual"}, "--skip-type dual: valid are plain, expanded, recursive"),
        ({"skip_type": "expanded"}, "needs --skip-scale"),
        ({"skip_order": "2"}, "--skip-order belongs to --skip-type recursive"),
        ({"skip_type": "recursive", "skip_order": "0"}, "a whole number of at least 1"),
        ({"skip_type": "expanded", "skip_scale": "nan"}, "a finite number"),
        ({"skip_type": "recursive", "skip_norm": "none"}, "does not go with"),
        ({"skip_norm": "x"}, "--skip-norm x: valid are"),
        ({"skip_norm_over": "rows"}, "valid are channels, image"),
        ({"share_skip_norms": True}, "belongs to --skip-type recursive"),
    ],
)
def test_flags_that_mean_nothing_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        connection_config(Namespace(**flags))


@pytest.mark.parametrize(
    ("arch", "flags", "message"),
    [
        ("preact_resnet20", {"depth": 21}, "valid are 6n"),
        ("resnet18", {"normalisation": "group"}, "valid are batch, none, mimic"),
        ("vgg11", {"weight_mean_rule": "fan-in"}, "belongs to --normalisation mimic"),
        ("mimicnorm_vgg11", {"weight_mean_rule": "all"}, "valid are fan-in, ungrouped"),
        ("mimicnorm_resnet18", {"skip_norm": "layer"}, "goes with no norm but its last"),
        ("resnet18", {"no_shortcut_scalar": True}, "belongs to --normalisation none and mimic"),
        ("vgg11", {"classifier_width": -1}, "valid is 0 or more"),
    ],
)
def test_models_that_are_none_are_refused(arch, flags, message):
    with pytest.raises(UserError, match=message):
        make(arch, **flags)


def flags_of(arch, **flags):
    name = next(name for name, presets in PRESETS.items() if arch in presets)
    return Namespace(arch=arch, **{**PRESETS[name][arch], **flags})


@pytest.mark.parametrize(
    ("before", "after", "connections", "network"),
    [
        (
            ("preact_resnet20_rskip", {}),
            ("preact_resnet20", {"skip_type": "recursive", "skip_order": 2}),
            [],
            [],
        ),
        (("preact_resnet20", {}), ("preact_resnet20", {"skip_norm": "none"}), [], []),
        (("preact_resnet20", {"skip_norm_over": "image"}), ("preact_resnet20", {}), [], []),
        (
            ("preact_resnet20_rskip", {}),
            ("preact_resnet20_rskip", {"skip_norm_over": "image", "share_skip_norms": True}),
            ["share False → True", "norm over channels → image"],
            [],
        ),
        (
            ("resnet18", {"skip_type": "expanded", "skip_scale": "2"}),
            ("resnet18", {"skip_type": "expanded", "skip_scale": "0.5"}),
            ["scale 2.0 → 0.5"],
            [],
        ),
        (
            ("mimicnorm_vgg11", {}),
            ("mimicnorm_vgg11", {"weight_mean_rule": "ungrouped"}),
            ["weight mean fan-in → ungrouped"],
            [],
        ),
        (("preact_resnet20", {}), ("preact_resnet56", {}), [], ["depth 20 → 56"]),
        (
            ("vgg11", {}),
            ("mimicnorm_vgg11", {}),
            [],
            ["normalisation batch → mimic", "classifier_width None → 4096"],
        ),
        (("vgg11", {}), ("vgg11", {"classifier_width": 64}), [], ["classifier_width None → 64"]),
        (
            ("mimicnorm_resnet18", {}),
            ("mimicnorm_resnet18", {"no_shortcut_scalar": True}),
            [],
            ["no_shortcut_scalar None → True"],
        ),
        (("resnet18", {}), ("vgg11", {}), [], ["model resnet18 → vgg11"]),
    ],
)
def test_models_say_in_what_their_flags_differ(before, after, connections, network):
    stored, current = (flags_of(arch, **flags) for arch, flags in (before, after))
    found = ImageModel.changes(stored, current)
    assert (list(found.connections), list(found.network)) == (connections, network)
