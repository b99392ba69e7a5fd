"""Networks for images beside independent ones."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.running_statistics import BatchNorm2d
from tests.support.image_models import KINDS, make, parameters, pixels, random

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
    assert parameters(make("vgg11", normalisation="mimic")) == convolutions + 5130
    assert parameters(make("vgg11")) == convolutions + sum(widths) + 5130
    hidden = 513 * 40 + 41 * 40 + 41 * 10
    assert parameters(make("vgg11", classifier_width=40)) == convolutions + sum(widths) + hidden
    # as MimicNorm's authors have it
    assert parameters(make("mimicnorm_vgg11")) == convolutions + 513 * 4096 + 4097 * 4096 + 4097 * 10


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


def norm(state, name, x):
    """BatchNorm in evaluation, written out."""
    w, b, mean, var = (
        state[f"{name}.{part}"].view(1, -1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return w * (x - mean) / (var + 1e-5).sqrt() + b


def layer_norm(w, b, v):
    """Over the channels of each position, or over the image, as there are weights."""
    over = 1 if len(w) == v.size(1) else (1, 2, 3)
    mean, var = v.mean(over, keepdim=True), v.var(over, keepdim=True, unbiased=False)
    w, b = (each.view(1, v.size(1), -1, 1 if over == 1 else v.size(3)) for each in (w, b))
    return w * (v - mean) / (var + 1e-5).sqrt() + b


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
    for k in range(2 if kind.startswith("rskip 3") else 0):
        y = norm_called(f"{name}.skip.norms.{k}", x + y)
    return norm_called(name, x + y)


OVER_THE_IMAGE = {"skip_type": "recursive", "skip_order": "3", "skip_norm_over": "image"}
CONNECTIONS = {**KINDS, "rskip 3 over the image": OVER_THE_IMAGE}


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_preact_resnet_equals_the_published_architecture(kind):
    """The first unit of each stage activates what goes both ways, as resnet-1k-layers does; option A's shortcut."""
    model = random(make("preact_resnet20", size=8, **CONNECTIONS[kind]))
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


def last_norm(state, logits):
    """MimicNorm's, which has no weights."""
    return (logits - state["last.running_mean"]) / (state["last.running_var"] + 1e-5).sqrt()


@pytest.mark.parametrize(
    ("size", "kind", "normalisation", "flags"),
    [
        *((8, kind, "batch", {}) for kind in CONNECTIONS),
        (64, "plain", "batch", {}),
        (64, "rskip 3 over the image", "batch", {}),
        (8, "rskip 1", "none", {}),
        (8, "plain", "none", {}),
        (8, "plain", "mimic", {}),
        (8, "plain", "mimic", {"no_shortcut_scalar": True}),
    ],
)
def test_resnet18_equals_the_published_architecture(size, kind, normalisation, flags):
    """Without norms a branch ends in a scalar, and so does a shortcut that projects unless that is left out."""
    model = random(make("resnet18", size=size, normalisation=normalisation, **CONNECTIONS[kind], **flags))
    batch, state = normalisation == "batch", model.net.state_dict()
    image, x = pixels(model, 1, 3, size, size)
    found = model(image)

    def convolve(name, v, stride, kernel):
        v = F.conv2d(v, state[f"{name}.0.weight"], state.get(f"{name}.0.bias"), stride, kernel // 2)
        return norm(state, f"{name}.1", v) if batch else v

    y = convolve("conv", x, 1, 3) if size == 8 else convolve("conv", x, 2, 7)
    y = y.clamp(min=0) if size == 8 else F.max_pool2d(y.clamp(min=0), 3, 2, 1)
    for number in range(8):
        stride, name = (2 if number in (2, 4, 6) else 1), f"blocks.{number}"
        f_y = convolve(f"{name}.second", convolve(f"{name}.first", y, stride, 3).clamp(min=0), 1, 3)
        y = convolve(f"{name}.shortcut", y, 2, 1) if stride == 2 else y
        if not batch:
            f_y = state[f"{name}.scale.scale"] * f_y
            y = state[f"{name}.shortcut.2.scale"] * y if stride == 2 and not flags else y
        y = sums(state, f"{name}.connection.connection", f_y, y, kind).clamp(min=0)
    logits = y.mean((2, 3)) @ state["fc.weight"].t() + state["fc.bias"]
    torch.testing.assert_close(found, last_norm(state, logits) if normalisation == "mimic" else logits)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("hidden", [0, 40])
@pytest.mark.parametrize("normalisation", ["batch", "none", "mimic"])
def test_vgg11_equals_the_published_architecture(size, hidden, normalisation):
    """Configuration A, whose poolings stand behind the first two convolutions and then behind each second one."""
    model = random(make("vgg11", size=size, classifier_width=hidden, normalisation=normalisation))
    state = model.net.state_dict()
    image, y = pixels(model, 2, 3, size, size)
    found, layer = model(image), 0
    for number in range(8):
        convolution = f"features.{layer}"
        y = F.conv2d(y, state[f"{convolution}.weight"], state.get(f"{convolution}.bias"), padding=1)
        y = norm(state, f"features.{layer + 1}", y) if normalisation == "batch" else y
        y, layer = y.clamp(min=0), layer + 3
        if number in (0, 1, 3, 5, 7) and y.size(-1) > 1:
            y, layer = F.max_pool2d(y, 2), layer + 1
    y = y.mean((2, 3))
    for layer in (0, 2, 4) if hidden else (0,):
        y = y.clamp(min=0) @ state[f"classifier.{layer}.weight"].t() + state[f"classifier.{layer}.bias"]
    torch.testing.assert_close(found, last_norm(state, y) if normalisation == "mimic" else y)
    dropped = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert dropped == ([0.5, 0.5] if hidden else [])


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
    without = make("mimicnorm_resnet18", no_shortcut_scalar=True)
    assert not any("shortcut" in name and "scale" in name for name in without.state_dict())


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


def test_a_batch_of_one_image_is_refused_in_one_line():
    model, image = make("vgg11", normalisation="mimic", size=8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    model(image)
    with pytest.raises(UserError, match="a batch of one image has no variance"):
        model(image[:1])
    model.eval()(image[:1])


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
