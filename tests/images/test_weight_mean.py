"""MimicNorm's filters have no mean, whoever changes them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skipln_fairseq.images.weight_mean import centre_, centre_masters_
from tests.support.image_models import make, pixels


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
