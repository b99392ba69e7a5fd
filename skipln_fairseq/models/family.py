"""The family: every choice on the three axes, and which combinations mean something.

One table. It refuses every other combination when a model is built, the README's table is
:func:`readme_table`, and the tests draw their commands and random combinations from it.
"""

from dataclasses import dataclass

from ..nn import BATCH_NORMS, TOKEN_NORMS

__all__ = ["FAMILY", "NORM_OPTIONS", "OPTIONS", "Member", "readme_table", "valid_norms", "valid_placements"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "expanded": ("skip_scale",),
    "recursive": ("skip_order", "share_skip_norms"),
    "learned": ("skip_scale", "skip_scale_vector"),
    "rezero": (),
    "deepnorm": (),
    "admin": (),
    "layerscale": ("layerscale_init",),
    "highway": (),
    "b2t": (),
    "dual": (),
}
"""The further flags that each skip type uses; given with another type they are refused."""

NORM_OPTIONS: dict[str, tuple[str, ...]] = {
    "ada": ("adanorm_scale", "adanorm_slope"),
    "power": ("power_warmup",),
}
"""The further flags that a norm uses; given where no sub-layer has that norm they are refused."""

TOKEN = tuple(TOKEN_NORMS)
NORMED = TOKEN + tuple(BATCH_NORMS)
NONE = ("none",)

# Sub-LN's inner norm stands inside F, where nothing knows the padding: no norm over the batch there.
EVERYWHERE = ((NORMED, ("post", "pre", "res-post", "sandwich")), (TOKEN, ("sub",)), (NONE, ("post",)))


@dataclass(frozen=True)
class Member:
    """One row: a choice on one axis.

    Attributes:
        axis: skip, norm or placement.
        choice: the name that its flag takes.
        name: what the field calls it.
        equation: as the README prints it; N is the norm, stacks included where they matter.
        flags: a command line that chooses it, as it stands.
        paper: a link.
        test: the test that holds it against its equation.
        goes_with: for a skip type the norms × placements that it means something with; what the first of them
            gives is what the skip type takes when no norm and no placement is chosen.
    """

    axis: str
    choice: str
    name: str
    equation: str
    flags: str
    paper: str
    test: str
    goes_with: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()


def _paper(name: str, arxiv: str) -> str:
    return f"[{name}](https://arxiv.org/abs/{arxiv})"


RSKIP_PAPER = _paper("Liu et al. 2020a", "2105.07205")
ADA_PAPER = _paper("Xu et al. 2019", "1911.07013")
SKIP_TEST = "test_nn_skip.py::test_forward_equals_the_oracle"
NORM_TEST = "test_nn_norm.py::test_forward_equals_the_oracle"
BATCH_TEST = "test_nn_batch_norms.py"
PLACEMENT_TEST = "test_nn_skip.py::test_placements_equal_the_oracle"

FAMILY: tuple[Member, ...] = (
    Member(
        "skip",
        "plain",
        "residual connection",
        "x + F(x)",
        "--skip-type plain",
        _paper("He et al. 2016", "1512.03385"),
        "test_models_stock.py",
        EVERYWHERE,
    ),
    Member(
        "skip",
        "expanded",
        "xSkip, xSkip+LN",
        "λx + F(x), λ fixed",
        "--skip-type expanded --skip-scale 2",
        RSKIP_PAPER,
        SKIP_TEST,
        EVERYWHERE,
    ),
    Member(
        "skip",
        "recursive",
        "rSkip+LN",
        "y₁ = N(x + F(x)), yₖ = N(x + yₖ₋₁)",
        "--skip-type recursive --skip-order 2",
        RSKIP_PAPER,
        SKIP_TEST,
        ((NORMED, ("post",)),),
    ),
    Member(
        "skip",
        "learned",
        "learned scale",
        "λ ⊙ x + F(x), λ learned",
        "--skip-type learned --skip-scale-vector",
        "xSkip with a learned λ",
        SKIP_TEST,
        EVERYWHERE,
    ),
    Member(
        "skip",
        "rezero",
        "ReZero",
        "x + αF(x), α from 0, one for each layer",
        "--skip-type rezero",
        _paper("Bachlechner et al. 2020", "2003.04887"),
        SKIP_TEST,
        ((NONE, ("post",)), (NORMED, ("pre",))),
    ),
    Member(
        "skip",
        "deepnorm",
        "DeepNorm",
        "N(αx + F(x)), α and F's first weights from the depth",
        "--skip-type deepnorm",
        _paper("Wang et al. 2022a", "2203.00555"),
        "test_papers.py::test_deepnorm_bounds_the_first_update",
        ((TOKEN, ("post",)),),
    ),
    Member(
        "skip",
        "admin",
        "Admin",
        "N(ω ⊙ x + F(x)), ω measured in the first step, then learned",
        "--skip-type admin",
        _paper("Liu et al. 2020b", "2004.08249"),
        "test_models_admin.py",
        ((TOKEN, ("post",)),),
    ),
    Member(
        "skip",
        "layerscale",
        "LayerScale",
        "x + s ⊙ F(N(x)), s from 10⁻⁴",
        "--skip-type layerscale",
        _paper("Touvron et al. 2021", "2103.17239"),
        SKIP_TEST,
        ((NORMED, ("pre",)),),
    ),
    Member(
        "skip",
        "highway",
        "highway connection",
        "(1 − g) ⊙ x + g ⊙ F(x), g = sigmoid(Wx + b)",
        "--skip-type highway",
        _paper("Srivastava et al. 2015", "1505.00387"),
        "test_nn_skip.py::test_highway_equals_the_oracle",
        EVERYWHERE,
    ),
    Member(
        "skip",
        "b2t",
        "B2T connection",
        "N(x + F(x)), in a layer's last sub-layer N(x + F(x) + x_layer); F's first weights from the depth",
        "--skip-type b2t",
        _paper("Takase et al. 2022", "2206.00330"),
        "test_nn_skip.py::test_streams_equal_the_oracle",
        ((NORMED, ("post",)),),
    ),
    Member(
        "skip",
        "dual",
        "ResiDual",
        "p ← N(p + F(p)), d ← d + F(p), at the end p + N(d), whose eps is 10⁻⁷",
        "--skip-type dual",
        _paper("Xie et al. 2023", "2304.14802"),
        "test_nn_skip.py::test_streams_equal_the_oracle",
        ((TOKEN, ("post",)),),
    ),
    Member(
        "norm",
        "layer",
        "LayerNorm",
        "w ⊙ (v − μ)/σ + b",
        "--skip-norm layer",
        _paper("Ba et al. 2016", "1607.06450"),
        NORM_TEST,
    ),
    Member(
        "norm",
        "layer-simple",
        "LayerNorm-simple",
        "(v − μ)/σ",
        "--skip-norm layer-simple",
        ADA_PAPER,
        NORM_TEST,
    ),
    Member(
        "norm",
        "detach",
        "DetachNorm",
        "(v − μ)/σ, μ and σ constants in the backward",
        "--skip-norm detach",
        ADA_PAPER,
        NORM_TEST,
    ),
    Member(
        "norm",
        "detach-mean",
        "DetachNorm, mean only",
        "(v − μ)/σ, μ a constant in the backward",
        "--skip-norm detach-mean",
        ADA_PAPER,
        NORM_TEST,
    ),
    Member(
        "norm",
        "detach-deviation",
        "DetachNorm, deviation only",
        "(v − μ)/σ, σ a constant in the backward",
        "--skip-norm detach-deviation",
        ADA_PAPER,
        NORM_TEST,
    ),
    Member(
        "norm",
        "ada",
        "AdaNorm",
        "C(1 − ky) ⊙ y, y = (v − μ)/σ, the bracket a constant in the backward",
        "--skip-norm ada --adanorm-scale 1 --adanorm-slope 0.1",
        ADA_PAPER,
        NORM_TEST,
    ),
    Member(
        "norm",
        "rms",
        "RMSNorm",
        "w ⊙ v/√mean(v²)",
        "--skip-norm rms",
        _paper("Zhang & Sennrich 2019", "1910.07467"),
        NORM_TEST,
    ),
    Member(
        "norm",
        "scale",
        "ScaleNorm",
        "g v/‖v‖, g from √d",
        "--skip-norm scale",
        _paper("Nguyen & Salazar 2019", "1910.05895"),
        NORM_TEST,
    ),
    Member(
        "norm",
        "dyt",
        "Dynamic Tanh",
        "w ⊙ tanh(αv) + b, α from 0.5",
        "--skip-norm dyt",
        _paper("Zhu et al. 2025", "2503.10622"),
        NORM_TEST,
    ),
    Member(
        "norm",
        "batch",
        "BatchNorm",
        "w ⊙ (v − μ)/σ + b, μ and σ over the batch's real tokens",
        "--skip-norm batch",
        _paper("Ioffe & Szegedy 2015", "1502.03167"),
        BATCH_TEST,
    ),
    Member(
        "norm",
        "power",
        "PowerNorm",
        "w ⊙ v/ψ + b, v scaled by head, ψ² its running quadratic mean, running statistics in the backward",
        "--skip-norm power --power-warmup 4000",
        _paper("Shen et al. 2020", "2003.07845"),
        BATCH_TEST,
    ),
    Member(
        "norm",
        "none",
        "no norm",
        "v",
        "--skip-type expanded --skip-scale 0.5 --skip-norm none",
        RSKIP_PAPER,
        SKIP_TEST,
    ),
    Member(
        "placement",
        "post",
        "Post-LN",
        "N(x + F(x))",
        "--skip-type plain --norm-placement post",
        _paper("Vaswani et al. 2017", "1706.03762"),
        PLACEMENT_TEST,
    ),
    Member(
        "placement",
        "pre",
        "Pre-LN",
        "x + F(N(x))",
        "--skip-type plain --norm-placement pre",
        _paper("Xiong et al. 2020", "2002.04745"),
        PLACEMENT_TEST,
    ),
    Member(
        "placement",
        "res-post",
        "Res-Post-LN",
        "x + N(F(x))",
        "--skip-type plain --norm-placement res-post",
        _paper("Liu et al. 2021", "2111.09883"),
        PLACEMENT_TEST,
    ),
    Member(
        "placement",
        "sandwich",
        "Sandwich-LN",
        "x + N(F(N(x)))",
        "--skip-type plain --norm-placement sandwich",
        _paper("Ding et al. 2021", "2105.13290"),
        PLACEMENT_TEST,
    ),
    Member(
        "placement",
        "sub",
        "Sub-LN",
        "x + F(N(x)), N once more before F's last projection but in cross-attention; F's first weights from the depth",
        "--skip-type plain --norm-placement sub",
        _paper("Wang et al. 2022b", "2210.06423"),
        PLACEMENT_TEST,
    ),
)

SKIP_MEMBERS = {member.choice: member for member in FAMILY if member.axis == "skip"}


def valid_norms(skip: str) -> list[str]:
    """The norms that a skip type goes with; the first is its own, for when none is chosen."""
    rows = SKIP_MEMBERS[skip].goes_with
    return list(dict.fromkeys(norm for norms, _ in rows for norm in norms))


def valid_placements(skip: str, norm: str) -> list[str]:
    """The placements of ``norm`` that go with a skip type; the first is for when none is chosen."""
    rows = SKIP_MEMBERS[skip].goes_with
    return [placement for norms, placements in rows if norm in norms for placement in placements]


def _valid_with(member: Member) -> str:
    """What a choice goes with, in words; for norms and placements the skip types."""

    def described(rows) -> str:
        names = {NORMED: "any norm", TOKEN: "any norm per token", NONE: "no norm"}
        return "; ".join(f"{names[norms]}: {', '.join(placements)}" for norms, placements in rows)

    if member.axis == "skip":
        return described(member.goes_with)
    skips = [
        skip
        for skip in SKIP_MEMBERS
        for norm in valid_norms(skip)
        if member.choice in ([norm] if member.axis == "norm" else valid_placements(skip, norm))
    ]
    missing = [skip for skip in SKIP_MEMBERS if skip not in skips]
    if len(missing) < len(skips):
        return f"every skip type{' but ' if missing else ''}{', '.join(missing)}"
    return ", ".join(dict.fromkeys(skips))


def readme_table() -> str:
    """The family as the Markdown table that stands in the README."""
    rows = ["| name | equation | flags | valid with | paper | test |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {m.name} | {m.equation} | `{m.flags}` | {_valid_with(m)} | {m.paper} | `{m.test}` |"
        for m in FAMILY
    ]
    return "\n".join(rows)
