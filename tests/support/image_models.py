"""Models of images as the flags make them."""

import math
from argparse import Namespace
from types import SimpleNamespace

import torch

from skipln_fairseq.images.models import PRESETS, PreActResNetModel, ResNetModel, VGGModel

MODELS = {"preact_resnet": PreActResNetModel, "resnet18": ResNetModel, "vgg11": VGGModel}


def make(arch, classes=10, size=32, channels=3, **flags):
    """A model of an architecture, in float64."""
    name = next(name for name, presets in PRESETS.items() if arch in presets)
    args = Namespace(arch=arch, **{**PRESETS[name][arch], **flags})
    names = [str(n) for n in range(classes)]
    task = SimpleNamespace(in_channels=channels, size=size, classes=names)
    torch.manual_seed(1)
    model = MODELS[name].build_model(args, task)
    model.normalise_by([0.4] * channels, [0.25] * channels)
    return model.double()


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


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


KINDS = {
    "plain": {"skip_type": "plain"},
    "xskip": {"skip_type": "expanded", "skip_scale": "2"},
    "xskip+ln": {"skip_type": "expanded", "skip_scale": "2", "skip_norm": "layer"},
    "rskip 1": {"skip_type": "recursive", "skip_order": "1"},
    "rskip 3": {"skip_type": "recursive", "skip_order": "3"},
    "rskip+bn": {"skip_type": "recursive", "skip_norm": "batch"},
}
