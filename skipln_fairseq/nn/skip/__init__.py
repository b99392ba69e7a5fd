"""Skip rules: how a sub-layer's output F(x) meets its input x. ``SKIPS`` is the registry behind ``--skip-type``."""

from collections.abc import Callable

from .admin import AdminSkip
from .base import Site, Skip, SkipOptions
from .constant import ExpandedSkip, PlainSkip
from .highway import HighwaySkip
from .learned import BranchScale, LearnedSkip
from .recursive import RecursiveSkip
from .streams import BOTTOM_TO_TOP, DualEnd, DualSkip

__all__ = [
    "SKIPS",
    "AdminSkip",
    "BranchScale",
    "DualEnd",
    "DualSkip",
    "ExpandedSkip",
    "HighwaySkip",
    "LearnedSkip",
    "PlainSkip",
    "RecursiveSkip",
    "Site",
    "Skip",
    "SkipOptions",
]


def _rezero(options: SkipOptions, site: Site) -> BranchScale:
    skip = BranchScale(0.0, 1)
    if options.shared and site.first is not None:
        skip.scale = site.first.scale
    return skip


SKIPS: dict[str, Callable[[SkipOptions, Site], Skip]] = {
    "plain": lambda options, site: PlainSkip(),
    "expanded": lambda options, site: ExpandedSkip(options.scale),
    "recursive": lambda options, site: RecursiveSkip(site.make_norm() for _ in range(options.order - 1)),
    "learned": lambda options, site: LearnedSkip(options.scale, site.dim if options.vector else 1),
    "rezero": _rezero,
    # DeepNorm's α is a constant factor of x; what makes it DeepNorm is that α and the initialisation follow
    # from the depth (nn/init.py)
    "deepnorm": lambda options, site: ExpandedSkip(options.scale),
    "admin": lambda options, site: AdminSkip(site.dim),
    "layerscale": lambda options, site: BranchScale(options.scale, site.dim),
    "highway": lambda options, site: HighwaySkip(site.dim),
    "b2t": lambda options, site: BOTTOM_TO_TOP[site.position](),
    "dual": lambda options, site: DualSkip(site.dim),
}
