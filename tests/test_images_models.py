"""Networks for images beside independent ones, the weight mean, and the Skip Gradient Method beside its formula."""

import ast
import math
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from skipln_fairseq.attack.branches import decayed_branches, residual_blocks
from skipln_fairseq.attack.craft import Budget, craft
from skipln_fairseq.errors import UserError
from skipln_fairseq.images.models import PRESETS, ImageModel, PreActResNetModel, ResNetModel, VGGModel
from skipln_fairseq.images.models.connection import SpatialConnection, connection_config
from skipln_fairseq.images.models.preact import PreActBlock, PreActResNet
from skipln_fairseq.images.models.resnet import BasicBlock
from skipln_fairseq.images.running_statistics import BatchNorm2d
from skipln_fairseq.images.weight_mean import centre_, centre_masters_
from skipln_fairseq.nn import ConnectionConfig, SkipOptions

ROOT = Path(__file__).parents[1]
MODELS = {"preact_resnet": PreActResNetModel, "resnet18": ResNetModel, "vgg11": VGGModel}


def make(arch, classes=10, size=32, channels=3, **flags):
    """A model of an architecture, in float64."""
    name = next(name for name, presets in PRESETS.items() if arch in presets)
    args = Namespace(arch=arch, **{**PRESETS[name][arch], **flags})
    names = [str(n) for n in range(classes)]
    pixels = {"mean": [0.4] * channels, "deviation": [0.25] * channels}
    task = SimpleNamespace(in_channels=channels, size=size, classes=names, **pixels)
    torch.manual_seed(1)
    return MODELS[name].build_model(args, task).double()


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


# --- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (56, 0.85), (110, 1.7)])
def test_preact_resnets_have_the_published_number_of_parameters(depth, millions):
    """The blocks' convolutions and BatchNorms, where a stage begins with half of the channels on one side; in the
    papers only rounded."""
    n, expected = depth // 6, 3 * 16 * 9
    for stage, c in enumerate((16, 32, 64)):
        before = c // 2 if stage else c
        expected += 9 * c * (before + c) + 2 * before + 2 * c + (n - 1) * (18 * c * c + 4 * c)
    expected += 2 * 64 + 64 * 10 + 10
    model = make(f"preact_resnet{depth}")
    assert parameters(model) == expected
    assert expected / 1e6 == pytest.approx(millions, rel=0.02)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 1 == depth


def test_resnet18_has_the_published_number_of_parameters():
    assert parameters(make("resnet18", classes=1000, size=224)) == 11_689_512
    assert parameters(make("resnet18")) == 11_173_962  # with CIFAR's beginning


def test_vgg11_has_the_published_number_of_parameters():
    """Configuration A's convolutions have 9,220,480 weights and biases; with BatchNorm one number a channel more."""
    widths = (64, 128, 256, 256, 512, 512, 512, 512)
    convolutions = sum(9 * a * b + b for a, b in zip((3, *widths), widths, strict=False))
    assert convolutions == 9_220_480
    assert parameters(make("mimicnorm_vgg11")) == convolutions + 5130
    assert parameters(make("vgg11")) == convolutions + sum(widths) + 5130
    hidden = 513 * 40 + 41 * 40 + 41 * 10
    assert parameters(make("vgg11", classifier_width=40)) == convolutions + sum(widths) + hidden


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 3)])
@pytest.mark.parametrize("arch", ["preact_resnet20_rskip", "resnet18", "vgg11", "mimicnorm_resnet18"])
def test_any_images(arch, size, channels):
    model = make(arch, size=size, channels=channels, classes=7)
    assert model(torch.rand(2, channels, size, size).double()).shape == (2, 7)


def test_large_images_get_imagenets_beginning():
    net = make("resnet18", size=64).net
    assert (net.conv[0].kernel_size, net.conv[0].stride) == ((7, 7), (2, 2))
    assert net(torch.rand(1, 3, 64, 64).double()).shape == (1, 10)


# --- oracles -----------------------------------------------------------------------------------


def random(model):
    """Every parameter and running statistic anew, away from what initialisation gives."""
    torch.manual_seed(2)
    for name, tensor in model.net.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(
                torch.randn_like(tensor) / math.sqrt(max(1, tensor[0].numel() if tensor.dim() > 1 else 4))
            )
    return model.eval()


def pixels(model, *shape):
    """Images from 0 to 255, and what the network makes of them first."""
    image = torch.randint(256, shape, dtype=torch.uint8)
    return image, (image.double() / 255 - model.mean) / model.deviation


def norm(state, name, x):
    """BatchNorm in evaluation, written out."""
    w, b, mean, var = (
        state[f"{name}.{part}"].view(1, -1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return w * (x - mean) / (var + 1e-5).sqrt() + b


def layer_norm(w, b, v):
    """Over the channels of each position, dimension 1."""
    mean, var = v.mean(1, keepdim=True), v.var(1, keepdim=True, unbiased=False)
    return w.view(1, -1, 1, 1) * (v - mean) / (var + 1e-5).sqrt() + b.view(1, -1, 1, 1)


def sums(state, name, f_x, x, kind):
    """The connections as their formulas are written."""
    if kind == "plain":
        return x + f_x
    if kind == "xskip":
        return 2 * x + f_x

    def norm_called(where, v):
        return layer_norm(state[f"{where}.weight"], state[f"{where}.bias"], v)

    if kind == "xskip+ln":
        return norm_called(name, 2 * x + f_x)
    if kind == "rskip+bn":
        return norm(state, name, x + norm(state, f"{name}.skip.norms.0", x + f_x))
    y = f_x
    for k in range(2 if kind == "rskip 3" else 0):
        y = norm_called(f"{name}.skip.norms.{k}", x + y)
    return norm_called(name, x + y)


KINDS = {
    "plain": {"skip_type": "plain"},
    "xskip": {"skip_type": "expanded", "skip_scale": "2"},
    "xskip+ln": {"skip_type": "expanded", "skip_scale": "2", "skip_norm": "layer"},
    "rskip 1": {"skip_type": "recursive", "skip_order": "1"},
    "rskip 3": {"skip_type": "recursive", "skip_order": "3"},
    "rskip+bn": {"skip_type": "recursive", "skip_norm": "batch"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_preact_resnet_equals_the_published_architecture(kind):
    """The first unit of each stage activates what goes both ways, as resnet-1k-layers does; option A's shortcut."""
    model = random(make("preact_resnet20", **KINDS[kind]))
    state = model.net.state_dict()
    image, x = pixels(model, 2, 3, 8, 8)
    found = model(image)
    y = F.conv2d(x, state["conv.weight"], padding=1)
    for number in range(9):
        stage, first = number // 3, number % 3 == 0
        stride = 2 if stage and first else 1
        name = f"blocks.{number}"
        activated = norm(state, f"{name}.bn1", y).clamp(min=0)
        y = activated if first else y
        f_y = F.conv2d(activated, state[f"{name}.conv1.weight"], None, stride, 1)
        f_y = F.conv2d(norm(state, f"{name}.bn2", f_y).clamp(min=0), state[f"{name}.conv2.weight"], padding=1)
        y = y[:, :, ::stride, ::stride]
        y = torch.cat((y, torch.zeros(2, f_y.size(1) - y.size(1), *y.shape[2:]).double()), 1)
        y = sums(state, f"{name}.connection.connection", f_y, y, kind)
    y = norm(state, "bn", y).clamp(min=0).mean((2, 3))
    torch.testing.assert_close(found, y @ state["fc.weight"].t() + state["fc.bias"])


@pytest.mark.parametrize("size", [8, 64])
def test_resnet18_equals_the_published_architecture(size):
    model = random(make("resnet18", size=size))
    state = model.net.state_dict()
    image, x = pixels(model, 1, 3, size, size)
    found = model(image)

    def convolve(name, v, stride, kernel):
        v = F.conv2d(v, state[f"{name}.0.weight"], None, stride, kernel // 2)
        return norm(state, f"{name}.1", v)

    y = convolve("conv", x, 1, 3) if size == 8 else convolve("conv", x, 2, 7)
    y = y.clamp(min=0) if size == 8 else F.max_pool2d(y.clamp(min=0), 3, 2, 1)
    for number in range(8):
        stride, name = (2 if number in (2, 4, 6) else 1), f"blocks.{number}"
        f_y = convolve(f"{name}.second", convolve(f"{name}.first", y, stride, 3).clamp(min=0), 1, 3)
        y = convolve(f"{name}.shortcut", y, 2, 1) if stride == 2 else y
        y = (y + f_y).clamp(min=0)
    torch.testing.assert_close(found, y.mean((2, 3)) @ state["fc.weight"].t() + state["fc.bias"])


def test_mimicnorm_has_no_norm_but_the_last():
    model = make("mimicnorm_resnet18")
    norms = [
        name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase)
    ]
    assert norms == ["net.last"]
    assert not list(model.net.last.parameters())
    assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))
    scales = [block.scale.scale.item() for block in model.net.blocks]
    assert scales == pytest.approx([1.44 / k for k in range(1, 9)])
    shortcuts = [block.shortcut[-1].scale.item() for block in model.net.blocks[2::2]]
    assert shortcuts == pytest.approx([1.2] * 3)


@pytest.mark.parametrize("normalisation", ["batch", "none", "mimic"])
def test_weights_are_drawn_as_published(normalisation):
    """He et al.'s by a filter's outputs; without norms by its inputs, VGG's of 2.8, linear maps' too."""
    batch = normalisation == "batch"
    for arch, numerator in (("resnet18", 2), ("vgg11", 2 if batch else 2.8)):
        model = make(arch, normalisation=normalisation)
        for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
            fan = conv.weight.numel() / conv.weight.shape[0 if not batch else 1]
            expected = math.sqrt(numerator / fan)
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.06), conv
            assert conv.bias is None or not conv.bias.any()
        linear = model.net.fc if arch == "resnet18" else model.net.classifier[0]
        expected = math.sqrt(1 / 3 / 512) if batch else math.sqrt(2 / 512)
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert not linear.bias.any()


def test_preact_resnets_filters_are_drawn_by_their_outputs():
    for conv in (module for module in make("preact_resnet56").modules() if isinstance(module, nn.Conv2d)):
        expected = math.sqrt(2 / (9 * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.12)


def test_pixels_are_normalised_by_the_model():
    model = make("preact_resnet20").float().eval()
    seen = []
    model.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    model(image)
    model.bfloat16()(image)
    torch.testing.assert_close(seen[0], torch.full((1, 3, 8, 8), -0.8), rtol=1e-6, atol=0)
    assert seen[1].dtype == torch.bfloat16
    assert model.mean.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_running_statistics_are_of_single_precision(dtype):
    """A variance that float16 has no number for, a mean that bfloat16 would stop short of."""
    batch_norm = BatchNorm2d(1).to(dtype)
    torch.manual_seed(1)
    for _ in range(150):
        batch_norm(torch.normal(20.0, 300.0, (16, 1, 8, 8)).to(dtype))
    assert batch_norm.running_mean.item() == pytest.approx(20, abs=8)
    assert batch_norm.running_var.item() == pytest.approx(90_000, rel=0.05)
    assert batch_norm.weight.dtype == dtype
    torch.testing.assert_close(
        batch_norm.eval()(torch.full((1, 1, 1, 1), 620.0, dtype=dtype)).float(),
        torch.full((1, 1, 1, 1), 2.0),
        rtol=0.05,
        atol=0,
    )


# --- connections -------------------------------------------------------------------------------


def test_layer_norm_over_the_image_takes_all_of_it():
    config = ConnectionConfig("plain", "layer")
    connection = SpatialConnection(3, 4, config, "image").double()
    x, f_x = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    torch.testing.assert_close(connection(f_x, x), F.layer_norm(x + f_x, (3, 4, 4)))


def test_batch_norm_of_the_sum_is_torchs():
    connection = SpatialConnection(
        3, 4, ConnectionConfig("recursive", "batch", options=SkipOptions(order=2))
    ).double()
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
            ["share_norms False → True", "norm over channels → image"],
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
        (("vgg11", {}), ("mimicnorm_vgg11", {}), [], ["normalisation batch → mimic"]),
        (("vgg11", {}), ("vgg11", {"classifier_width": 64}), [], ["classifier_width None → 64"]),
        (("resnet18", {}), ("vgg11", {}), [], ["model resnet18 → vgg11"]),
    ],
)
def test_models_say_in_what_their_flags_differ(before, after, connections, network):
    stored, current = (flags_of(arch, **flags) for arch, flags in (before, after))
    found = ImageModel.changes(stored, current)
    assert (list(found.connections), list(found.network)) == (connections, network)


# --- the weight mean ---------------------------------------------------------------------------


def means(model):
    with torch.no_grad():
        return {n: p.mean((1, 2, 3)).abs().max().item() for n, p in model.named_parameters() if p.dim() == 4}


def test_filters_with_more_than_50_inputs_have_no_mean():
    model = make("mimicnorm_vgg11")
    first, *rest = means(model).values()
    assert first > 1e-3  # 27 inputs
    assert max(rest) < 1e-7  # rounding of float32, in which it was made
    model = make("mimicnorm_vgg11", weight_mean_rule="ungrouped")
    assert max(means(model).values()) < 1e-7
    assert max(means(make("mimicnorm_vgg11", normalisation="none")).values()) > 1e-3


def test_the_rule_begins_above_50_inputs():
    model = nn.Sequential(
        nn.Conv2d(50, 4, 1), nn.Conv2d(51, 4, 1), nn.Conv2d(102, 4, 1, groups=2), nn.Linear(60, 2)
    )
    with torch.no_grad():
        for module in model:
            module.weight.fill_(1)
    centre_(model, "fan-in")
    assert [bool(module.weight.any()) for module in model] == [True, False, False, True]
    with torch.no_grad():
        model[2].weight.fill_(1)
    centre_(model, "ungrouped")
    assert [bool(module.weight.any()) for module in model] == [False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_saved_without_means_is_loaded_as_it_is(dtype):
    model, other = (make("mimicnorm_vgg11").float().to(dtype) for _ in range(2))
    other.load_state_dict(model.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_what_is_loaded_loses_its_means():
    model, other = make("mimicnorm_resnet18"), make("mimicnorm_resnet18")
    state = {name: value + 0.1 for name, value in other.state_dict().items()}
    model.load_state_dict(state)
    assert max(list(means(model).values())[1:]) < 1e-12


class Masters:
    """As fairseq's half-precision optimisers keep their copies."""

    def __init__(self, model, flat):
        self.fp16_params = list(model.parameters())
        self.copies = [p.detach().float() + 0.25 for p in self.fp16_params]
        self.fp32_params = self.copies
        if flat:
            whole = torch.cat([copy.flatten() for copy in self.copies])
            self.fp32_params = {None: nn.Parameter(whole)}  # the CPU has no number
            self.copies = whole.split([p.numel() for p in self.fp16_params])

    def _sync_fp32_params_to_fp16(self):
        for parameter, copy in zip(self.fp16_params, self.copies, strict=True):
            parameter.data.copy_(copy.view_as(parameter))


@pytest.mark.parametrize("flat", [False, True])
def test_the_optimisers_copies_lose_their_means(flat):
    model = make("mimicnorm_vgg11").bfloat16()
    before = dict(model.named_parameters())["net.features.0.weight"].clone()
    masters = Masters(model, flat)
    assert centre_masters_(masters, model, "fan-in")
    for (name, parameter), copy in zip(model.named_parameters(), masters.copies, strict=True):
        assert torch.equal(parameter, copy.view_as(parameter).bfloat16())
        if parameter.dim() == 4 and name != "net.features.0.weight":
            assert copy.view_as(parameter).mean((1, 2, 3)).abs().max() < 1e-6
    after = dict(model.named_parameters())["net.features.0.weight"]
    assert (after - before).mean().item() == pytest.approx(0.25, abs=0.01)
    assert not centre_masters_(SimpleNamespace(), model, "fan-in")


def test_centring_leaves_gradients_and_the_rest_alone():
    model = make("resnet18")
    image, _ = pixels(model, 2, 3, 8, 8)
    model(image).square().sum().backward()
    fc, gradients = model.net.fc.weight.clone(), [p.grad.clone() for p in model.parameters()]
    centre_(model, "fan-in")
    assert torch.equal(model.net.fc.weight, fc)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(parameter.is_leaf for parameter in model.parameters())


# --- the Skip Gradient Method ------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["preact_resnet20_rskip", "resnet18"])
def test_the_forward_stays_and_the_model_is_as_it_was(arch):
    model = make(arch).eval()
    x = 255 * torch.rand(2, 3, 8, 8).double()
    expected = model(x)
    assert len(residual_blocks(model)) == {"preact_resnet20_rskip": 9, "resnet18": 8}[arch]
    with decayed_branches(model, 0.3):
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert all("branch" not in vars(block) for block in residual_blocks(model))
    assert torch.equal(model(x), expected)


class Chain(nn.Module):
    """Linear maps, each the branch of an identity shortcut."""

    class Block(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def branch(self, x):
            return x @ self.weight.t()

        def forward(self, x):
            return x + self.branch(x)

    def __init__(self, weights):
        super().__init__()
        self.blocks = nn.Sequential(*(self.Block(weight) for weight in weights))

    def forward(self, x):
        return self.blocks(x)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.2])
def test_for_identity_shortcuts_the_gradient_is_the_product(gamma):
    torch.manual_seed(1)
    weights = [torch.randn(4, 4).double() for _ in range(3)]
    model, x, loss = Chain(weights), torch.randn(4).double().requires_grad_(), torch.randn(4).double()
    with decayed_branches(model, gamma):
        (found,) = torch.autograd.grad(loss @ model(x), x)
    expected = loss
    for weight in reversed(weights):
        expected = expected @ (torch.eye(4).double() + gamma * weight)
    torch.testing.assert_close(found, expected)


OTHERS = {"projection": ("resnet18", {}), "projection+scalar": ("mimicnorm_resnet18", {})}


@pytest.mark.parametrize(
    ("arch", "flags"),
    [*(("preact_resnet20", flags) for flags in KINDS.values()), *OTHERS.values()],
    ids=[*KINDS, *OTHERS],
)
def test_for_the_rest_the_gradient_is_that_of_a_scaled_branch(arch, flags):
    """The oracle: each branch's gradient is scaled by a hook, its value is not."""
    model = random(make(arch, **flags))
    x = (255 * torch.rand(2, 3, 8, 8).double()).requires_grad_()
    with decayed_branches(model, 0.4):
        (found,) = torch.autograd.grad(model(x)[:, 3].sum(), x)

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, f_x):
            return f_x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 0.4 * gradient

    (undecayed,) = torch.autograd.grad(model(x)[:, 3].sum(), x)
    assert (found - undecayed).abs().max() > 0.01 * undecayed.abs().max()
    for block in (module for module in model.modules() if isinstance(module, (PreActBlock, BasicBlock))):
        block.branch = lambda v, branch=block.branch: Scaled.apply(branch(v))
    (expected,) = torch.autograd.grad(model(x)[:, 3].sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.001, 1),
    st.floats(0.001, 1),
    st.integers(1, 5),
    st.sampled_from([0.0, 1.0, 0.9]),
    st.integers(0, 99),
)
def test_images_stay_in_the_ball_and_in_range(epsilon, step, steps, momentum, seed):
    torch.manual_seed(seed)
    images, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    linear = nn.Linear(16, 3).requires_grad_(False)
    changed = craft(lambda x: linear(x.flatten(1)), images, labels, Budget(epsilon, step, steps, momentum))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - images).abs().max() <= epsilon + 1e-6
    assert not changed.requires_grad


def test_pgd_raises_the_loss_and_momentum_is_madrys_and_dongs():
    torch.manual_seed(1)
    images, labels = torch.rand(4, 1, 4, 4).double(), torch.tensor([0, 1, 2, 0])
    net = (
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
        .double()
        .requires_grad_(False)
    )
    for momentum in (0.0, 0.7):
        x, g = images.clone(), 0
        for _ in range(4):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(x), labels, reduction="sum"), x)
            g = momentum * g + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
            x = x.detach() + 0.02 * g.sign()
            x = torch.maximum(torch.minimum(x, images + 0.05), images - 0.05).clamp(0, 1)
        found = craft(net, images, labels, Budget(0.05, 0.02, 4, momentum))
        torch.testing.assert_close(found, x)
        assert F.cross_entropy(net(found), labels) > F.cross_entropy(net(images), labels)


@pytest.mark.parametrize("numbers", [(0, 0.1, 1), (2, 0.1, 1), (0.1, 0, 1), (0.1, 0.1, 0), (0.1, 0.1, 1, -1)])
def test_budgets_out_of_range_are_refused(numbers):
    with pytest.raises(UserError, match="valid is"):
        Budget(*numbers)


def test_a_network_without_branches_has_none():
    assert residual_blocks(make("vgg11")) == []
    assert len(residual_blocks(PreActResNet(20, 3, 32, 10, ConnectionConfig(norm="none")))) == 9


# --- the house ---------------------------------------------------------------------------------


def imports(file):
    """All that a file imports, modules and what it takes from them."""
    home = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else ()
            yield from (".".join(filter(None, (*base, node.module, alias.name))) for alias in node.names)


def test_translation_knows_nothing_of_images_and_the_reverse():
    images = ("skipln_fairseq.images", "skipln_fairseq.attack")
    translation = tuple(
        f"skipln_fairseq.{name}" for name in ("models", "generator", "criterions", "options", "compare")
    )
    for here, there in ((images, translation), (translation, images)):
        for name in here:
            place = ROOT / name.replace(".", "/")
            files = [*place.rglob("*.py")] if place.is_dir() else [place.with_suffix(".py")]
            assert files
            assert not [file for file in files if any(found.startswith(there) for found in imports(file))]


@pytest.mark.parametrize(
    "line", ["from .. import images", "import skipln_fairseq.images.task as t", "from ..images import task"]
)
def test_what_breaks_the_house_is_seen(line, monkeypatch, tmp_path):
    file = tmp_path / "skipln_fairseq" / "models" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert any(found.startswith("skipln_fairseq.images") for found in imports(file))
