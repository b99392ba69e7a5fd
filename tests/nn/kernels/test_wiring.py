"""How sub-layers are connected in the kernels of decoding, against the definitions in float64."""

import pytest
import torch
from torch import nn

from skipln_fairseq.nn.kernels.chain import Link, Norming, Part
from skipln_fairseq.nn.kernels.decode import Encoder, EncoderLayer, Product, Shape, Space, Wiring, kind
from tests.nn.kernels import chains
from tests.nn.kernels.chains import CHAINS, Draw

pytestmark = pytest.mark.skipif(kind() is None, reason="no C compiler")

DIM, INNER, WORDS = 24, 40, 9

NORMS = {
    **chains.NORMS,
    "length": lambda draw, eps: Norming(Shape.LENGTH, eps, draw.vector(1)),
    "length, all below eps": lambda draw, eps: Norming(Shape.LENGTH, 100.0, draw.gain()),
    "tanh": lambda draw, eps: Norming(Shape.TANH, 0.0, draw.gain(), draw.vector(), 0.7, 0.4),
    "erf": lambda draw, eps: Norming(Shape.ERF, 0.0, draw.gain(), draw.vector(), 0.7, 0.4),
    "bounded tanh": lambda draw, eps: Norming(Part.RMS | Shape.TANH, eps, draw.gain(), None, 0.7),
    "gated": lambda draw, eps: Norming(
        Part.RMS | Shape.GATED, eps, draw.gain(), gate=draw.vector(), along=0.1 * draw.vector()
    ),
}


def around_the_branch(norm):
    """One norm before F, within it and after it."""
    return lambda draw, inner: Wiring(
        [Link(0.0, norm=norm(draw, 1e-3)), Link()], before=norm(draw, 1e-3), inside=norm(inner, 1e-3)
    )


WIRINGS = {
    **{name: lambda draw, inner, chain=chain: Wiring(chain(draw)) for name, chain in CHAINS.items()},
    **{f"{name} around the branch": around_the_branch(norm) for name, norm in NORMS.items()},
}


def normed(v, norm):
    if norm is None or norm.parts == 0:
        return v
    weight = norm.weight
    if norm.parts & Shape.GATED:
        weight = weight + torch.tanh((v * norm.along).sum(-1, keepdim=True)) * norm.gate
    if norm.parts & Shape.LENGTH:
        v = v / v.norm(dim=-1, keepdim=True).clamp(min=norm.eps)
    elif norm.parts & Part.NORM:
        v = chains.normed(v, norm._replace(weight=None, bias=None))
    if norm.parts & (Shape.TANH | Shape.ERF):
        v = (torch.tanh if norm.parts & Shape.TANH else torch.erf)(norm.scale * v + norm.slope)
    v = v if weight is None else weight * v
    return v if norm.bias is None else v + norm.bias


def connected(x, wiring, *maps):
    """What becomes of x."""
    *first, last = maps
    y = normed(x, wiring.before)
    for one in first:
        y = one(y)
    y = last(normed(y, wiring.inside))
    for link in wiring.links:
        y = normed(link.of_x * x + link.of_y * y, link.norm)
    return y


@pytest.mark.parametrize("name", WIRINGS)
@torch.no_grad()
def test_wiring(name):
    """Of attention, which gives a sentence of one word that word's value, and of the feed-forward."""
    torch.manual_seed(1)
    query, key, value, out = (nn.Linear(DIM, DIM) for _ in range(4))
    widen, narrow = nn.Linear(DIM, INNER), nn.Linear(INNER, DIM)
    dims = ((DIM, DIM), (DIM, INNER))
    self_wiring, feed_wiring = (
        WIRINGS[name](Draw(dim, seed=number), Draw(inner, seed=10 + number))
        for number, (dim, inner) in enumerate(dims)
    )
    maps = ((query, key, value), (out,), (widen,), (narrow,))
    layer = EncoderLayer(*(Product(linears, "fp32") for linears in maps), self_wiring, feed_wiring)
    embedding = torch.randn(WORDS, DIM)
    encoder = Encoder([layer], 2, embedding, 1.0, WORDS, None, None, "tanh")
    found = encoder.encode(torch.arange(WORDS)[:, None], None, Space())[0]
    exact = [one.double() for one in (value, out, widen, narrow)]
    expected = connected(embedding.double(), self_wiring, *exact[:2])
    expected = connected(expected, feed_wiring, exact[2], torch.tanh, exact[3])
    bound = 2**-13 if kind() == "amx" else 1e-5
    assert (found - expected).abs().max() <= bound * expected.abs().max()
