"""The declared pictures: their numbers by hand, and what the papers say of them in small models."""

import csv
import math
import re
from collections import defaultdict

import numpy as np
import pytest
import torch

from skipln_fairseq.nn.skip.hyper import HyperSkip
from skipln_fairseq.probe.__main__ import main
from skipln_fairseq.probe.draw import draw
from skipln_fairseq.probe.growth import Growth, growth, markdown
from skipln_fairseq.probe.measure import Reading
from skipln_fairseq.probe.panel import MatrixPanel, trained_panels
from skipln_fairseq.probe.picture import PICTURES
from skipln_fairseq.probe.streams import STREAM_QUANTITIES, of_streams
from skipln_fairseq.probe.subject import Batch, Measured, Variant, measure_variant
from skipln_fairseq.probe.watch import SubLayer
from tests.support.commands import REPOSITORY

BATCH = Batch(sentences=4, length=8, words=32)
NARROW = (
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "12", "--encoder-attention-heads", "2"),
    *("--decoder-embed-dim", "8", "--decoder-attention-heads", "2"),
)
PAGE = (REPOSITORY / "docs" / "growth.md").read_text(encoding="utf-8")


def of_picture(name, depth, seeds, batch):
    """What a picture measures, in its order."""
    for group in PICTURES[name].groups:
        for one in group.at(depth):
            yield from measure_variant(one, depth, seeds, batch)


def test_what_grows_is_the_last_by_the_first_and_the_median_of_seeds():
    def model(seed):
        places = [SubLayer("decoder", layer, slot) for layer in (0, 1) for slot in ("self_attn", "ffn")]
        norms = [(2.0, 12.0), (9.0, 9.0), (9.0, 9.0), (10.0, 3.0)]
        return Measured(
            "A",
            "",
            (0, 2),
            seed,
            [Reading(at, seed * a, g / seed) for at, (a, g) in zip(places, norms, strict=True)],
        )

    (row,) = growth([model(1), model(2), model(5)])
    assert row == Growth("A", 2, "decoder", (4.0, 20.0), (6.0, 1.5))
    assert (row.activation_factor, row.gradient_factor) == (5, 4)
    assert markdown([row]).splitlines()[-1] == "| A | 2 | decoder | 4 → 20 | 5 | 6 → 1.5 | 4 |"


def test_the_papers_directions_in_eight_layers():
    found = {(row.variant, row.side): row for row in growth(list(of_picture("growth", 8, [1], BATCH)))}
    rows = defaultdict(dict)
    for (variant, side), row in found.items():
        rows[side][variant] = row
    decoder, encoder = rows["decoder"], rows["encoder"]
    # x + F(N(x)/√l) adds 1/l of the variance that Pre-LN adds
    assert (
        decoder["LayerNorm Scaling"].activation_factor
        < decoder["Pre-LN, decoder alone"].activation_factor - 0.2
    )
    post, keel = decoder["Post-LN"], decoder["Keel, α the sub-layers of a side"]
    assert post.gradient_factor < decoder["Post-LN, DS-Init"].gradient_factor < 1
    assert post.gradient_factor < 0.3
    assert keel.gradient_factor == pytest.approx(1, abs=0.1)
    for side in (decoder, encoder):
        assert (
            side["no norm, T-Fixup"].activation_factor
            < 1.4
            < side["no norm, fairseq's weights"].activation_factor
        )


def test_the_growth_picture_is_written_and_told(tmp_path, capsys):
    small = ("--depths", "2", "--seeds", "1", "--sentences", "2", "--length", "4", "--words", "9")
    main(["--picture", "growth", *small, "--output", str(tmp_path)])
    with (tmp_path / "probe.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    names = [variant.name for group in PICTURES["growth"].groups for variant in group.variants]
    assert list(dict.fromkeys(row["variant"] for row in rows)) == names
    assert {row["encoder_layers"] for row in rows if row["variant"].startswith(("Pre-LN", "LayerNorm"))} == {
        "0"
    }
    keel = next(row["flags"] for row in rows if row["variant"].startswith("Keel"))
    assert keel.endswith("--encoder-skip-scale 4 --decoder-skip-scale 6")
    printed = capsys.readouterr().out
    assert printed.count("| 2 | decoder |") == len(names)


@pytest.mark.slow
def test_the_page_tells_what_is_measured():
    """To the three digits that it has."""
    picture = PICTURES["growth"]
    rows = list(growth(list(of_picture("growth", picture.depths[0], range(1, 6), Batch()))))
    told = re.findall(r"^\| .* \| 18 \|.*$", PAGE, re.MULTILINE)
    number = re.compile(r"\d[\d.]*(?:e[+-]\d+)?")
    for line, again in zip(told, markdown(rows).splitlines()[2:], strict=True):
        assert number.sub("", line) == number.sub("", again)
        found, expected = ([float(value) for value in number.findall(text)] for text in (line, again))
        assert found == pytest.approx(expected, rel=0.01)


def streams(*rows):
    return torch.tensor(rows).flatten()[None, None]


@pytest.mark.parametrize(
    ("after", "effective", "largest"),
    [
        (streams([1.0, 2.0], [1.0, 2.0]), 1, 0.5),  # copies
        (streams([3.0, 0.0], [0.0, 0.0]), 1, 1),  # one carries all
        (streams([1.0, 0.0], [0.0, -1.0]), 2, 0.5),  # at right angles
        (streams([2.0, 0.0], [0.0, 1.0]), 25 / 17, 0.8),
    ],
)
def test_how_many_streams_there_are_in_effect(after, effective, largest):
    skip = HyperSkip(torch.eye(2)[:, [0]], 2)
    found = of_streams(skip, streams([1.0, 2.0], [3.0, 4.0]), after, None)
    assert float(found["effective_streams"]) == pytest.approx(effective)
    assert float(found["largest_stream"]) == pytest.approx(largest)
    assert float(found["stream_exchange"]) == 0


def test_streams_that_change_places_are_an_exchange_and_padding_is_none():
    skip = HyperSkip(torch.eye(2)[:, [0]], 2)
    skip.alpha.data[:, 1:] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    before = torch.cat((streams([1.0, 0.0], [0.0, 1.0]), streams([9.0, 9.0], [9.0, 8.0])), 1)
    mask = torch.tensor([[False, True]])
    found = of_streams(skip, before, before, mask)
    assert float(found["stream_exchange"]) == pytest.approx(math.sqrt(2))
    assert float(found["effective_streams"]) == 2


def test_fresh_streams_are_copies():
    """Hyper-Connections are Pre-LN at first, so no stream differs from another one."""
    (one,) = measure_variant(Variant("HC", (*NARROW, "--skip-type", "hyper")), 2, [1], Batch(2, 5, 9))
    for reading in one.readings:
        assert reading.effective_streams == pytest.approx(1)
        assert reading.largest_stream == pytest.approx(0.25)
        assert reading.stream_exchange == 0
    assert [panel.quantity for panel in trained_panels([one])] == [
        "effective_streams",
        "largest_stream",
        "stream_exchange",
    ]


def test_a_matrix_of_blocks_is_drawn_by_area():
    flags = (*NARROW, "--skip-type", "plain", "--depth-mixing", "dlcl")
    (one,) = measure_variant(Variant("DLCL", flags), 2, [1], Batch(2, 5, 9))
    assert one.matrices.keys() == {"encoder", "decoder"}
    assert one.matrices["encoder"] == [pytest.approx([1 / n] * n) for n in (1, 2, 3)]
    assert [type(panel) for panel in trained_panels([one, one])] == [MatrixPanel] * 2

    dilated = ("--depth-mixing", "denseformer", "--denseformer-dilation", "2")
    (other,) = measure_variant(Variant("W", (*flags[:-2], *dilated)), 3, [1], Batch(2, 5, 9))
    assert other.matrices["encoder"] == [[0, 1], [0, 0, 1], [0, 0, 0, 1]]

    (axes,) = draw([MatrixPanel("W", [[0.5], [-1.0, 0.25]])]).axes
    squares = [(one.get_width() ** 2, one.get_facecolor()[3] > 0) for one in axes.patches]
    largest = squares[1][0]
    assert [(area / largest, filled) for area, filled in squares] == [
        (pytest.approx(0.5), True),
        (1, False),
        (pytest.approx(0.25), True),
    ]


def test_the_page_tells_what_the_trained_models_have():
    """The files are those that growth-trained.sh wrote."""
    folder = REPOSITORY / "examples" / "evidence" / "growth-trained"

    def rows(name):
        with (folder / name).open(encoding="utf-8", newline="") as text:
            return list(csv.DictReader(text))

    weights = defaultdict(list)
    for row in rows("probe-weights.csv"):
        if (row["side"], row["seed"]) == ("encoder", "1"):
            weights[int(row["reader"])].append(float(row["weight"]))
    *blocks, (embedding, first, *others) = weights.values()
    diagonal = [row[-1] for row in (*blocks[5:], weights[13])]
    told = " ".join(PAGE.split())
    assert f"({min(diagonal):.2f} to {max(diagonal):.2f} from the sixth row on)".replace("-", "−") in told
    assert f"{embedding:.2f} of the embedding, {first:.2f} of the first block and" in told
    assert f"at most {max(others):.2f} of each other one" in told

    streams = defaultdict(lambda: defaultdict(list))
    for row in rows("probe.csv"):
        if row["effective_streams"]:
            of_sub_layer = streams[row["side"]][int(row["position"])]
            of_sub_layer.append([float(row[name]) for name in STREAM_QUANTITIES])
    told_of = {side: [np.median(seeds, axis=0) for seeds in of.values()] for side, of in streams.items()}
    effective, largest, exchange = zip(*told_of["encoder"], strict=True)
    assert f"(effective number {max(effective):.2f})" in told
    assert f"the largest has {min(largest):.2f} to {max(largest):.2f} of the energy" in told
    assert f"{exchange[0]:.2f} of their norm in the first sub-layer, falling to {exchange[-1]:.2f}" in told
    effective, largest, exchange = zip(*told_of["decoder"], strict=True)
    assert f"from {effective[0]:.2f} to {effective[-1]:.2f} effective streams of four" in told
    assert f"the largest has {min(largest):.2f} to {max(largest):.2f}." in told
    assert f"by {min(exchange):.2f} to {max(exchange):.2f} in the decoder" in told


def test_the_matrix_of_a_model_without_one_is_missed():
    (one,) = measure_variant(Variant("plain", (*NARROW, "--skip-type", "plain")), 1, [1], Batch(2, 5, 9))
    assert one.matrices == {}
    assert trained_panels([one]) == []


def scaled_skip(name, scale, depth):
    """The norms of activation and gradient at each sub-layer, in each seed: (sub-layers, seeds, 2)."""
    found = defaultdict(list)
    with (REPOSITORY / "examples" / "evidence" / "scaled-skip" / name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["variant"], row["encoder_layers"]) == (f"xSkip {scale}", str(depth)):
                place = tuple(row[key] for key in ("side", "layer", "sub_layer"))
                found[place].append([float(row["activation_norm"]), float(row["gradient_norm"])])
    return np.array([*found.values()])


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_page_tells_what_the_scaled_skip_was_found_to_do(scale, depth):
    norms = scaled_skip("probe.csv", scale, depth)
    assert np.isfinite(norms).all()
    activation, gradient = np.median(norms, axis=1).max(axis=0)
    told = (scale, f"{depth} + {depth}", len(norms), f"{activation:.2g}", f"{gradient:.2g}")
    assert f"| {' | '.join(map(str, told))} |" in PAGE


def test_the_page_tells_what_the_fused_attention_makes_of_it():
    largest = np.median(scaled_skip("fused-amx.csv", 2, 4), axis=1).max(axis=0)[1]
    assert f"came out as {largest:.2g}" in PAGE
    assert np.isnan(scaled_skip("fused-avx2.csv", 2, 4)).any()
