"""The Skip Gradient Method and the attacks beside their formulas."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from skipln_fairseq.attack.branches import decayed_branches, residual_blocks
from skipln_fairseq.attack.craft import Budget, craft
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.models.preact import PreActBlock, PreActResNet
from skipln_fairseq.images.models.resnet import BasicBlock
from skipln_fairseq.nn import ConnectionConfig
from tests.support.image_models import KINDS, make, random


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


@pytest.mark.parametrize("every", [False, True], ids=["as published", "all blocks"])
@pytest.mark.parametrize(
    ("arch", "flags"),
    [*(("preact_resnet20", flags) for flags in KINDS.values()), *OTHERS.values()],
    ids=[*KINDS, *OTHERS],
)
def test_for_the_rest_the_gradient_is_that_of_a_scaled_branch(arch, flags, every):
    """The oracle: a branch's gradient is scaled by a hook, its value is not; as published not in first blocks."""
    model = random(make(arch, **flags))
    x = (255 * torch.rand(2, 3, 8, 8).double()).requires_grad_()
    with decayed_branches(model, 0.4, every):
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
    blocks = [module for module in model.modules() if isinstance(module, (PreActBlock, BasicBlock))]
    a_stage = 3 if arch.startswith("preact") else 2
    for number, block in enumerate(blocks):
        if number % a_stage == 0 and not every:
            continue
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
