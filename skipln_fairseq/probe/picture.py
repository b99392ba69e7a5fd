"""The declared pictures: which fresh models are measured, and which panels show them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .panel import ACTIVATION_LABEL, FC2_LABEL, GRADIENT_LABEL, Panel
from .subject import Measured, Variant

__all__ = ["PICTURES", "Group", "Picture"]

WIDTH = (
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "256", "--encoder-attention-heads", "4"),
    *("--decoder-embed-dim", "64", "--decoder-ffn-embed-dim", "256", "--decoder-attention-heads", "4"),
)
LANGUAGE_MODEL = (
    *("--arch", "transformer_lm_rskip", "--decoder-embed-dim", "64"),
    *("--decoder-ffn-embed-dim", "256", "--decoder-attention-heads", "4"),
)


@dataclass(frozen=True)
class Group:
    """Models that stand in one panel.

    Attributes:
        panel: from what was measured to the panel.
        variants: the models; ``{encoder}`` and ``{decoder}`` in their flags are the sub-layers of that side.
        flags: of all of them.
        shallowest: measure them at the least depth only.
    """

    panel: Callable[[Sequence[Measured]], Panel]
    variants: tuple[Variant, ...]
    flags: tuple[str, ...] = WIDTH
    shallowest: bool = False

    def at(self, depth: int) -> list[Variant]:
        """Its models with this many layers."""
        numbers = {"encoder": 2 * depth, "decoder": 3 * depth}
        return [
            Variant(one.name, (*self.flags, *(flag.format(**numbers) for flag in one.flags)))
            for one in self.variants
        ]


@dataclass(frozen=True)
class Picture:
    """A figure of fresh models.

    Attributes:
        groups: its panels.
        depths: layers of each side, unless others are asked for.
    """

    groups: tuple[Group, ...]
    depths: tuple[int, ...]


def _variant(name: str, flags: str) -> Variant:
    return Variant(name, tuple(flags.split()))


POST_LN = _variant("Post-LN", "--skip-type plain")
PRE_LN = _variant("Pre-LN", "--skip-type plain --norm-placement pre")

# The two of Xiong et al. 2020, arXiv:2002.04745, figure 3, and the recursive skip beside them.
XIONG = Group(
    lambda measured: Panel("Last feed-forward weight, at initialisation", FC2_LABEL, measured),
    (POST_LN, PRE_LN, _variant("rSkip+LN, order 2", "--skip-type recursive --skip-order 2")),
)

# xSkip and xSkip+LN of Liu et al. 2020, arXiv:2105.07205: what scaling x does to the gradient, and LN to that.
SCALED = Group(
    lambda measured: Panel("λx + F(x), without and with LN", GRADIENT_LABEL, measured, "gradient_norm", 3),
    tuple(
        _variant(f"λ = {scale}, {label}", f"--skip-type expanded --skip-scale {scale} --skip-norm {norm}")
        for norm, label in (("none", "no norm"), ("layer", "LN"))
        for scale in ("0.5", "1", "2")
    ),
    shallowest=True,
)

# Sun et al. 2025, arXiv:2502.05795, whose models are decoders alone.
GROWING = Group(
    lambda measured: Panel(
        "Language models: LayerNorm Scaling", ACTIVATION_LABEL, measured, "activation_norm"
    ),
    (
        Variant("Pre-LN, decoder alone", PRE_LN.flags),
        _variant("LayerNorm Scaling", "--skip-type plain --norm-placement lns"),
    ),
    LANGUAGE_MODEL,
)

# Zhang et al. 2019, arXiv:1908.11365, figure 2, and Chen & Wei 2026, arXiv:2601.19895.
FADING = Group(
    lambda measured: Panel("Translation: DS-Init and Keel", GRADIENT_LABEL, measured, "gradient_norm"),
    (
        POST_LN,
        _variant("Post-LN, DS-Init", "--skip-type plain --initialisation ds"),
        _variant(
            "Keel, α the sub-layers of a side",
            "--skip-type expanded --norm-placement keel "
            "--encoder-skip-scale {encoder} --decoder-skip-scale {decoder}",
        ),
    ),
)

# Huang et al. 2020.
UNNORMED = Group(
    lambda measured: Panel(
        "Translation without norms: T-Fixup", ACTIVATION_LABEL, measured, "activation_norm"
    ),
    (
        _variant("no norm, fairseq's weights", "--skip-type plain --skip-norm none"),
        _variant("no norm, T-Fixup", "--skip-type plain --skip-norm none --initialisation t-fixup"),
    ),
)

PICTURES = {
    "gradients": Picture((XIONG, SCALED), (6, 8, 10, 12, 14)),
    "growth": Picture((GROWING, FADING, UNNORMED), (18,)),
}
"""By the names that ``--picture`` takes; the first one is drawn where nothing else is asked for."""
