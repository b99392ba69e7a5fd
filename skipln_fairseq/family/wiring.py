"""How each skip type and each placement is wired, as small SVG pictures.

A picture shows one sub-layer from its input x (below) to its output y (above): boxes in the order in which they act,
and x on its way round F. The boxes follow from the placement; what a variant writes on its arrows stands in
:data:`SKIP_MARKS`. A variant without marks is drawn as the plain skip at its own placement.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from ..nn import NORMS, PLACEMENTS, SKIPS
from ..nn.valid import valid_norms, valid_placements
from ..nn.variant import Declaration

__all__ = ["drawings"]


@dataclass(frozen=True)
class Marks:
    """What a picture shows beside the boxes.

    Attributes:
        x: on the arrow of x, its factor.
        f: on the arrow of F(x), its factor.
        note: below the name.
        boxes: from x to y, where the placement's do not fit.
        streams: more than one tensor goes through the layers.
    """

    x: str = ""
    f: str = ""
    note: str = ""
    boxes: tuple[str, ...] = ()
    streams: bool = False


SKIP_MARKS = {
    "highway": Marks("1 − g", "g", "gate g = sigmoid(Wx + b)"),
    "rezero": Marks(f="α", note="α is learned, 0 at first"),
    "admin": Marks("ω", note="ω is measured in the first step"),
    "expanded": Marks("λ", note="λ is fixed"),
    "recursive": Marks(note="order 2: x is added twice", boxes=("F", "+", "N", "+", "N")),
    "layerscale": Marks(f="s", note="s is learned, 10⁻⁴ at first"),
    "deepnorm": Marks("α", note="α follows from the depth"),
    "b2t": Marks(note="a layer's last sub-layer adds the layer's input too"),
    "dual": Marks(note="a second stream sums all F(x); both are added at the end", streams=True),
    "branchnorm": Marks(f="α(t)", note="α grows from 0 to 1 in training"),
    "hyper": Marks("Aᵣ", "b", "n streams; F reads a learned mixture", streams=True),
    "hyper-dynamic": Marks("Aᵣ(H)", "b(H)", "n streams; the weights depend on them", streams=True),
    "laurel-lr": Marks("1 + BA", note="BA has a low rank"),
    "laurel-rw": Marks("β", "α", "α and β are learned"),
    "frac": Marks("A", "b", "x is cut into m parts", streams=True),
    "frac-dynamic": Marks("A(H)", "b(H)", "m parts; the weights depend on them", streams=True),
    "gpas": Marks(note="the sum is scaled by 1 − SiLU(g)"),
    "mhc": Marks("H_res", "H_post", "n streams; H_res is doubly stochastic", streams=True),
    "span": Marks(note="a layer's last sub-layer adds the layer's input, not x"),
    "siamese": Marks(note="two streams: x is normed after each sum, y is only summed", streams=True),
    "prores": Marks(f="α(t, l)", note="α grows from 0 to 1, later in deeper layers"),
    "hyper-identity": Marks("I", "H_post", "n streams, each kept as it is", streams=True),
    "learned": Marks("λ", note="λ is learned"),
}

PLACEMENT_MARKS = {
    "post": Marks(boxes=("F", "+", "N")),
    "pre": Marks(boxes=("N", "F", "+")),
    "sandwich": Marks(boxes=("N", "F", "N", "+")),
    "res-post": Marks(boxes=("F", "N", "+")),
    "sub": Marks(note="N stands once more inside F", boxes=("N", "F", "+")),
    "mix": Marks(note="the first layers; the others are Pre-LN", boxes=("F", "+", "N")),
    "lns": Marks(note="layer l", boxes=("N", "1/√l", "F", "+")),
    "keel": Marks("α", note="α is fixed", boxes=("N", "F", "+", "N")),
}

FILLS = {"F": "#dbe9f6", "N": "#fdeccd"}
WIDTH, HEIGHT, MIDDLE, RIGHT = 190, 330, 76, 134
BOTTOM, TOP = 306, 84


def drawings() -> Iterator[tuple[str, str]]:
    """The name of each picture's file, and the picture."""
    for skip in SKIPS.declarations():
        marks = SKIP_MARKS.get(skip.choice, Marks())
        yield f"skip-{skip.choice}.svg", _picture(skip, marks, marks.boxes or _boxes(skip.choice))
    for placement in PLACEMENTS.declarations():
        marks = PLACEMENT_MARKS.get(placement.choice, Marks(note="see its equation", boxes=("F", "+")))
        yield f"placement-{placement.choice}.svg", _picture(placement, marks, marks.boxes)


def _boxes(skip: str) -> tuple[str, ...]:
    """Those of a skip type's own placement; without a norm only F and the sum."""
    norm = valid_norms(skip)[0]
    if NORMS[norm].declaration.kind == "none":
        return ("F", "+")
    return PLACEMENT_MARKS[valid_placements(skip, norm)[0]].boxes


def _picture(variant: Declaration, marks: Marks, boxes: tuple[str, ...]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 18, variant.title, 'font-weight="bold"'),
        *(
            _text(WIDTH / 2, 34 + 13 * row, line, 'font-size="11" fill="#555"')
            for row, line in enumerate(textwrap.wrap(marks.note, 31))
        ),
        *_wires(marks, boxes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _wires(marks: Marks, boxes: tuple[str, ...]) -> Iterator[str]:
    """From x below to y above: the arrows between the boxes, then those of the skip, then the boxes."""
    step = (BOTTOM - TOP) / (len(boxes) + 1)
    heights = [BOTTOM - step * (number + 1) for number in range(len(boxes))]
    style = 'stroke="#555" stroke-width="1.5" fill="none" marker-end="url(#a)"'
    yield _text(MIDDLE, BOTTOM + 16, "x (streams)" if marks.streams else "x")
    yield _text(MIDDLE, TOP - 8, "y")
    for start, end in zip([BOTTOM, *heights], [*heights, TOP], strict=True):
        last = end == TOP
        yield f'<path d="M{MIDDLE} {start:g}V{end + (0 if last else 12):g}" {style}/>'
    width = 4 if marks.streams else 2
    skip = f'stroke="#c33" stroke-width="{width}" fill="none"'
    sums = [height for box, height in zip(boxes, heights, strict=True) if box == "+"]
    for height in sums:
        yield f'<path d="M{MIDDLE} {BOTTOM - 8}H{RIGHT}V{height:g}H{MIDDLE + 12}" {skip}/>'
    if sums and marks.x:
        yield _text(RIGHT + 6, (sums[0] + BOTTOM) / 2, marks.x, 'fill="#c33"', "start")
    if sums and marks.f:
        below = min(height for height in heights if height > sums[0])
        yield _text(MIDDLE - 8, (below + sums[0]) / 2 + 4, marks.f, 'fill="#06c"', "end")
    for box, height in zip(boxes, heights, strict=True):
        yield from _box(box, height)


def _box(label: str, height: float) -> Iterator[str]:
    if label == "+":
        yield f'<circle cx="{MIDDLE}" cy="{height:g}" r="11" fill="white" stroke="#555"/>'
        yield f'<path d="M{MIDDLE - 6} {height:g}h12M{MIDDLE} {height - 6:g}v12" stroke="#555"/>'
        return
    fill = FILLS.get(label, "#eee")
    yield f'<rect x="{MIDDLE - 36}" y="{height - 12:g}" width="72" height="24" rx="5" fill="{fill}" stroke="#555"/>'
    yield _text(MIDDLE, height + 4, label)


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{escape(text)}</text>'
