"""Attention by a kernel's features, in time and memory linear in the length: of all, causal, and step by step."""

from typing import Tuple

import torch
from torch import Tensor, nn

from .features import FeatureMap

__all__ = ["LinearAttention"]


class LinearAttention(nn.Module):
    """``out_i = Σ_j (φ(q_i)·φ(k_j)) v_j / Σ_j φ(q_i)·φ(k_j)`` over real keys j, or over those with j ≤ i.

    Everywhere q, k and v are (batch, heads, length, d), q and k scaled by d^(−1/4), and ``padding`` is
    (batch, length), true at keys to leave out of numerator and denominator. Where no key is left the output is 0.

    Keys' factors exp(s_j) are divided by exp(M) with M their maximum, in the causal forms the maximum up to i, so
    that nothing later and no padding enters an output, not even in its rounding. Inside a chunk the causal form is
    quadratic, between chunks it carries the sums of φ(k_j) (v_j, 1)ᵀ; memory is O(length·d + m·d + chunk·m) per head,
    since the backward makes each chunk's features again.

    Args:
        features: φ.
        chunk: positions whose features are held at once in the causal form.
    """

    def __init__(self, features: FeatureMap, chunk: int = 128):
        super().__init__()
        self.features = features
        self.chunk = chunk
        # the running maximum before any real key: finite, so that no two infinities are subtracted
        self.never = -1e30

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        """Attention to all positions."""
        return self.read(q, self.summarise(k, v, padding))

    @torch.jit.export
    def summarise(self, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        """All that attention to these positions needs: Σ_j φ(k_j) (v_j, 1)ᵀ, (batch, heads, features, d + 1)."""
        f_k, scale = self.key_features(k, padding)
        largest = scale.detach().amax(-2, keepdim=True).clamp(min=self.never)
        return (f_k * (scale - largest).exp()).transpose(-1, -2) @ with_ones(v)

    @torch.jit.export
    def read(self, q: Tensor, sums: Tensor) -> Tensor:
        """The output of each query from :meth:`summarise`'s sums."""
        f_q, _ = self.features(q)
        return normalise(f_q @ sums)

    @torch.jit.export
    def causal(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        """Attention to the position itself and earlier ones."""
        if torch.jit.is_scripting():
            return normalise(self.scan(q, k, v, padding)[0])
        return self.differentiable_causal(q, k, v, padding)

    @torch.jit.unused
    def differentiable_causal(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        return _Causal.apply(q, k, v, padding, self)

    @torch.jit.export
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor, state: Tensor, largest: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """The causal form for the newest positions only.

        Args:
            q, k, v, padding: of the newest positions.
            state: (batch, heads, features, d + 1), the sums so far, and
            largest: (batch, heads, 1, 1), their maximum; both from :meth:`start` or from the last call.

        Returns:
            The output, and both after these positions.
        """
        f_q, _ = self.features(q)
        f_k, scale = self.key_features(k, padding)
        sums, state, maximum = self.advance(f_q, f_k, scale, with_ones(v), state, largest)
        return normalise(sums), state, maximum[..., -1:, :]

    @torch.jit.export
    def start(self, v: Tensor) -> Tuple[Tensor, Tensor]:
        """The sums before any key, and their maximum, for values like v."""
        state = torch.zeros(
            v.size(0), v.size(1), self.features.count, v.size(3) + 1, dtype=v.dtype, device=v.device
        )
        return state, torch.full_like(state[..., :1, :1], self.never)

    def key_features(self, k: Tensor, padding: Tensor) -> Tuple[Tensor, Tensor]:
        """Features and log scales (…, length, 1), that of padding so low that nothing is left of it."""
        features, log_scale = self.features(k)
        return features, log_scale.masked_fill(padding[:, None, :, None], -float("inf"))

    def scan(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tuple[Tensor, Tensor]:
        """Unnormalised causal outputs with their normaliser, (…, length, d + 1), and the running maximum."""
        state, largest = self.start(v)
        outputs, maxima = [], []
        for at in range(0, q.size(-2), self.chunk):
            f_q, _ = self.features(q[..., at : at + self.chunk, :])
            f_k, scale = self.key_features(k[..., at : at + self.chunk, :], padding[:, at : at + self.chunk])
            c = with_ones(v[..., at : at + self.chunk, :])
            sums, state, maximum = self.advance(f_q, f_k, scale, c, state, largest)
            largest = maximum[..., -1:, :]
            outputs.append(sums)
            maxima.append(maximum)
        return torch.cat(outputs, -2), torch.cat(maxima, -2)

    def advance(
        self, f_q: Tensor, f_k: Tensor, scale: Tensor, c: Tensor, state: Tensor, largest: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """One chunk: its unnormalised outputs, the sums after it, and the running maximum at each position."""
        maximum = torch.maximum(scale.cummax(-2)[0], largest)
        sums = within(f_q, f_k, scale, maximum) @ c + (largest - maximum).exp() * (f_q @ state)
        return sums, add(f_k, scale, c, state, largest, maximum[..., -1:, :]), maximum


def with_ones(v: Tensor) -> Tensor:
    """The values with a column of ones, whose weighted sum is the normaliser."""
    return torch.cat((v, torch.ones_like(v[..., :1])), -1)


def bounded(total: Tensor) -> Tensor:
    """The normaliser, infinite where it is next to nothing, so that what it divides becomes 0 and not NaN.

    The bound leaves room for what the backward multiplies. Features of queries and keys that point apart at
    ‖x‖ of about 12 (attention logits of −140) are below it too: they count as no attention.
    """
    return total.masked_fill(total.abs() < 1e-30, float("inf"))


def normalise(sums: Tensor) -> Tensor:
    """The last column divides the rest."""
    return sums[..., :-1] / bounded(sums[..., -1:])


def within(a: Tensor, b: Tensor, scale: Tensor, maximum: Tensor) -> Tensor:
    """``(a_i·b_j) exp(s_j − M_i)`` for j ≤ i inside a chunk, 0 for later j."""
    factors = (scale.transpose(-1, -2) - maximum).tril().exp().tril()
    return (a @ b.transpose(-1, -2)) * factors


def add(f_k: Tensor, scale: Tensor, c: Tensor, state: Tensor, largest: Tensor, maximum: Tensor) -> Tensor:
    """The sums after a chunk, relative to the maximum at its end."""
    return state * (largest - maximum).exp() + (f_k * (scale - maximum).exp()).transpose(-1, -2) @ c


class _Causal(torch.autograd.Function):
    """The causal form with a backward that keeps no features.

    With c_j = (v_j, 1), n_i = Σ_{j≤i} (q_i·k_j) c_j for feature vectors q_i, k_j, and h_i the gradient of n_i::

        dq_i = P_i h_i     P_i = Σ_{j≤i} k_j c_jᵀ     (a scan forwards)
        dk_j = R_j c_j     R_j = Σ_{i≥j} q_i h_iᵀ     (a scan backwards)
        dc_j = R_jᵀ k_j

    Key j has the factor exp(s_j) and n_i is divided by exp(M_i); as M_i ≥ s_j for i ≥ j and M grows with i, every
    factor that occurs in either scan is at most 1. The output does not depend on M, which so has no gradient.
    """

    @staticmethod
    def forward(ctx, q, k, v, padding, attention):
        sums, maximum = attention.scan(q, k, v, padding)
        out = normalise(sums)
        ctx.save_for_backward(q, k, v, padding, out, sums[..., -1:].clone(), maximum)
        ctx.attention = attention
        return out

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, padding, out, total, maximum = ctx.saved_tensors
        attention = ctx.attention
        h = torch.cat((gradient, -(gradient * out).sum(-1, keepdim=True)), -1) / bounded(total)
        d_q, d_k, d_v = (torch.empty_like(t) for t in (q, k, v))
        starts = range(0, q.size(-2), attention.chunk)
        parts = [slice(at, at + attention.chunk) for at in starts]

        state, largest = attention.start(v)
        for part in parts:
            f_k, scale = attention.key_features(k[..., part, :], padding[:, part])
            c, m, h_part = with_ones(v[..., part, :]), maximum[..., part, :], h[..., part, :]
            d_f = within(h_part, c, scale, m) @ f_k + (largest - m).exp() * (h_part @ state.transpose(-1, -2))
            d_q[..., part, :] = through(attention.features, q[..., part, :], d_f)
            state = add(f_k, scale, c, state, largest, m[..., -1:, :])
            largest = m[..., -1:, :]

        state, later = torch.zeros_like(state), maximum[..., -1:, :]
        for part in reversed(parts):
            f_q, _ = attention.features(q[..., part, :])
            f_k, scale = attention.key_features(k[..., part, :], padding[:, part])
            c, m, h_part = with_ones(v[..., part, :]), maximum[..., part, :], h[..., part, :]
            first, last = m[..., :1, :], m[..., -1:, :]
            state = state * (last - later).exp()
            factor = (scale - last).exp()
            # from the queries i ≥ j of this chunk, and from those of later ones
            d_f = within(h_part, c, scale, m).transpose(-1, -2) @ f_q + factor * (c @ state.transpose(-1, -2))
            d_c = within(f_q, f_k, scale, m).transpose(-1, -2) @ h_part + factor * (f_k @ state)
            d_scale = (f_k * d_f).sum(-1, keepdim=True)
            d_k[..., part, :] = through(attention.features, k[..., part, :], d_f, d_scale)
            d_v[..., part, :] = d_c[..., :-1]
            state = state * (first - last).exp() + f_q.transpose(-1, -2) @ ((first - m).exp() * h_part)
            later = first
        return d_q, d_k, d_v, None, None


def through(features: FeatureMap, x: Tensor, *gradients: Tensor) -> Tensor:
    """The gradient of a chunk's x from those of its features and, if given, of their log scale."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = features(x)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=False) if o.requires_grad]
    return torch.autograd.grad([o for o, _ in pairs], x, [g for _, g in pairs])[0]
