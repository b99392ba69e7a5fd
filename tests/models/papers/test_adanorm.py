"""What Xu et al. 2019 (arXiv:1911.07013) prove of the gradients of norms and of AdaNorm."""

import pytest
import torch

from skipln_fairseq.nn import NORMS

DIM = 24
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64: only the order of sums differs


THEOREM_1 = {
    # norm: (the mean's gradient is there, the deviation's gradient is there)
    "detach": (False, False),
    "detach-mean": (False, True),
    "detach-deviation": (True, False),
    "layer-simple": (True, True),
}


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("name", THEOREM_1)
def test_gradients_of_detached_norms_have_the_mean_and_the_variance_of_theorem_1(name, eps):
    """AdaNorm paper, Theorem 1: mean and variance over the features of the gradient after the norm.

    With incoming mean ḡ and variance D, and the forward's σ = √(Var + eps), the gradient's mean is 0 where the
    norm's mean has a gradient and ḡ/σ where it has none; its variance is D/σ² where the deviation has no
    gradient and at most that where it has one. What is lost is known: with c = Cov(g, y) and r = mean(y²),
    which is 1 for eps 0, it is c²(2 − r)/σ². So all four statements hold for every vector and every eps, and
    none of them only in expectation.
    """
    through_mean, through_deviation = THEOREM_1[name]
    norm = NORMS[name](DIM)
    norm.eps = eps
    generator = torch.Generator().manual_seed(0)

    def draw():
        """2000 vectors, each with a mean and a scale of its own."""
        shift, scale = torch.randn(2, 2000, 1, generator=generator, dtype=torch.float64)
        values = torch.randn(2000, DIM, generator=generator, dtype=torch.float64)
        return shift + scale.exp() * values

    v, g = draw().requires_grad_(), draw()
    y = norm(v)
    (gradient,) = torch.autograd.grad(y, v, g)
    y, sigma = y.detach(), (v.detach().var(-1, correction=0) + eps).sqrt()
    incoming = g.var(-1, correction=0) / sigma**2
    mean, variance = gradient.mean(-1), gradient.var(-1, correction=0)

    expected = torch.zeros_like(mean) if through_mean else g.mean(-1) / sigma
    torch.testing.assert_close(mean * sigma, expected * sigma, **EXACT)
    covariance, r = (g * (y - y.mean(-1, keepdim=True))).mean(-1), y.square().mean(-1)
    lost = covariance**2 * (2 - r) / sigma**2 if through_deviation else 0
    torch.testing.assert_close(variance * sigma**2, (incoming - lost) * sigma**2, **EXACT)
    assert (variance <= incoming * (1 + 1e-10)).all()
    if through_deviation:
        # a random g shares 1/(DIM − 1), about 4 %, of its variance with y in the mean
        assert 0.02 < 1 - (variance / incoming).mean() < 0.07


@pytest.mark.parametrize(("c", "k"), [(1.0, 0.1), (2.0, 0.05)])
def test_the_bracket_of_adanorm_has_mean_c_and_its_output_is_bounded_in_the_mean(c, k):
    """AdaNorm paper, requirements of Theorem 2: φ = C(1 − ky) has mean C > 0 and z = φ ⊙ y a bounded mean.

    With eps 0 that mean is −Ck for every vector, since y has mean 0 and quadratic mean 1.
    """
    norm = NORMS["ada"](DIM, scale=c, slope=k, eps=0.0)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(500, DIM, generator=generator, dtype=torch.float64)
    z = norm(v)
    phi = z / NORMS["layer-simple"](DIM, eps=0.0)(v)
    torch.testing.assert_close(phi.mean(-1), torch.full_like(v[:, 0], c), rtol=1e-8, atol=0)
    torch.testing.assert_close(z.mean(-1), torch.full_like(v[:, 0], -c * k), **EXACT)
