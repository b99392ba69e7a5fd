"""PowerNorm: BatchNorm's relative whose statistics are running ones, in the backward too."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..variant import Option, Paper
from .base import NORMS, Uncentred
from .statistics import SingleStatistics, summands
from .workers import sum_over_workers

__all__ = ["PowerNorm"]


class _Normalise(torch.autograd.Function):
    """``z = v / ψ``, whose backward is approximated with the running ν, which it moves, and divides by ``back``."""

    @staticmethod
    def forward(
        ctx,
        v: Tensor,
        psi: Tensor,
        back: Tensor,
        nu: Tensor,
        padding_mask: Optional[Tensor],
        decay: float,
        counts: bool,
    ):
        z = v / psi
        ctx.save_for_backward(z, back, padding_mask)
        ctx.nu = nu  # not saved: its backward changes it
        ctx.decay, ctx.counts = decay, counts
        return z

    @staticmethod
    def backward(ctx, gradient: Tensor):
        z, back, padding_mask = ctx.saved_tensors
        nu, move = ctx.nu, 1 - ctx.decay
        # a batch that stands in must neither move ν nor be moved by it
        d_v = (gradient - nu * z) / back * float(ctx.counts)
        if padding_mask is not None:
            d_v = d_v.masked_fill(padding_mask.unsqueeze(-1), 0)
        real_z, tokens = summands(z, padding_mask, counts=ctx.counts)
        real_gradient, _ = summands(gradient, padding_mask, counts=ctx.counts)
        count = sum_over_workers(tokens)
        any_counts, count = count.gt(0), count.clamp(min=1)
        gamma = sum_over_workers(real_z.square().sum(0)) / count
        lamda = sum_over_workers((real_gradient * real_z).sum(0)) / count
        nu.copy_(torch.where(any_counts, nu * (1 - move * gamma) + move * lamda, nu))
        return d_v, None, None, None, None, None, None


class GroupScaling(nn.Module):
    """Each of ``groups`` equal runs of features over the root of its own mean square, eps under the root.

    It reads one token at a time and learns nothing. Source: the code of PowerNorm's authors.
    """

    def __init__(self, groups: int, eps: float):
        super().__init__()
        self.groups = groups
        self.eps = eps

    def forward(self, v: Tensor) -> Tensor:
        runs = v.unflatten(-1, [self.groups, -1])
        return F.rms_norm(runs, [runs.size(-1)], None, self.eps).flatten(-2)


@NORMS.declare(
    "power",
    title="PowerNorm",
    equation="w ⊙ v/ψ + b, v scaled by head, ψ² its running quadratic mean, running statistics in the backward",
    paper=Paper("Shen et al. 2020", "2003.07845"),
    kind="batch",
    options=(
        Option(
            "warmup",
            "power_warmup",
            "batches in which PowerNorm takes the batch's own statistics (default: 4000)",
            "N",
            int,
            least=0,
            default=4000,
            drawn=(0, 3),
        ),
    ),
    has_forms=True,
)
class PowerNorm(Uncentred, SingleStatistics):
    """``w ⊙ v / ψ + b`` with ψ² the running quadratic mean of each feature over real tokens.

    With ψ_B² the batch's quadratic mean and g the gradient of z, each batch of training does (eps is added to
    each ψ² under its root)::

        forward    z = v/ψ                           (the first ``warmup`` batches: v/ψ_B)
                   ψ² ← ψ² + max(1/t, 1−a) (ψ_B² − ψ²)
        backward   dv = (g − ν ⊙ z)/ψ                (zero at padding)
                   ν ← ν (1 − (1−a) Γ) + (1−a) Λ,    Γ = mean(z²), Λ = mean(g ⊙ z)

    The backward is the paper's approximation and not the forward's derivative; while warming up only the
    forward's statistic is another. Statistics are those of all data-parallel workers together. A forward
    without gradients, such as the first of ``--checkpoint-activations``, moves nothing. Evaluation takes ψ.

    That is the paper's algorithm. The authors' code (``published``) differs in two places: its backward divides by
    ψ_B after warm-up too, and

        ψ² ← ψ² + (ψ_B² − ψ²)/t    (the first ``warmup − 1`` batches only), then
        ψ² ← a ψ² + (1−a) ψ_B²

    In the authors' Transformer a :class:`GroupScaling` of v, with as many ``groups`` as there are heads, always stands
    before all that. Left out is that their code gives padding a gradient too, and takes Γ and Λ as means over padding
    as well: the gradient of a sentence would depend on how long its neighbours are.

    Source: Shen, Yao, Gholami, Mahoney, Keutzer 2020, arXiv:2003.07845. Decay a = 0.9 and eps as in the
    authors' code; its warm-up has 10,000 batches, ours 4,000 by default.
    """

    is_a_mean = False
    keeps_gradients = True
    running_power: Tensor
    running_gradient: Tensor
    batches: Tensor

    def __init__(
        self,
        dim: int,
        warmup: int = 4000,
        decay: float = 0.9,
        eps: float = 1e-5,
        published: bool = False,
        groups: int = 0,
    ):
        super().__init__()
        self.scaling = GroupScaling(groups, eps) if groups else nn.Identity()
        self.warmup = warmup
        self.decay = decay
        self.eps = eps
        self.published = published
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_power", torch.ones(dim))
        self.register_buffer("running_gradient", torch.zeros(dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @classmethod
    def arguments(cls, form: str, heads: int, **options: Any) -> dict[str, Any]:
        if form == "authors":
            options |= {"published": True, "groups": heads}
        return options

    def forward(self, v: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        scaled = self.scaling(v)
        z = scaled / (self.running_power + self.eps).sqrt()
        if self.training:
            z = self._normalise(scaled, padding_mask)
        return (self.weight * z + self.bias).to(v.dtype)

    @torch.jit.unused
    def _normalise(self, v: Tensor, padding_mask: Optional[Tensor]) -> Tensor:
        with torch.no_grad():
            real, tokens = summands(v, padding_mask, counts=self.counts)
            count = sum_over_workers(tokens)
            power = sum_over_workers(real.square().sum(0)) / count.clamp(min=1)
        known = self.counts or bool(count > 0)
        moves = known and torch.is_grad_enabled()
        batch = self.batches + 1  # a tensor to the end: no host waits to read it
        statistic = self.running_power.to(power)
        if known:
            statistic = torch.where(batch <= self.warmup, power, statistic)
        psi = (statistic + self.eps).sqrt()
        if moves:
            real = count > 0  # a batch of padding alone is none
            rate = self._rate(batch.to(self.running_power)) * real
            self.batches.add_(real)
            self.running_power.lerp_(power.to(self.running_power), rate)
        back = (power + self.eps).sqrt() if self.published and known else psi
        return _Normalise.apply(v, psi, back, self.running_gradient, padding_mask, self.decay, self.counts)

    def _rate(self, batch: Tensor) -> Tensor:
        """How far ψ² goes to ψ_B² in a batch, counted from 1."""
        if not self.published:
            return (1 / batch).clamp(min=1 - self.decay)
        # the two steps of the authors' code in one
        return 1 - self.decay * torch.where(batch < self.warmup, 1 - 1 / batch, 1.0)
