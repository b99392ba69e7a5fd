"""python -m skipln_fairseq.probe: its files, its table and what it refuses."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest
from matplotlib.image import imread

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import write_all
from skipln_fairseq.probe.__main__ import main, told_apart
from skipln_fairseq.probe.draw import draw
from skipln_fairseq.probe.panel import panels
from skipln_fairseq.probe.subject import Batch, Variant, measure_variant
from skipln_fairseq.probe.watch import QUANTITIES
from tests.support.commands import run

TINY = (
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "12", "--encoder-layers", "1"),
    *("--encoder-attention-heads", "2", "--decoder-layers", "1", "--decoder-attention-heads", "2"),
)
SMALL_BATCH = ("--seeds", "1", "--sentences", "2", "--length", "4", "--words", "9")


def read_csv(folder):
    with (folder / "probe.csv").open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def check_files(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["probe.csv", "probe.png", "probe.svg"]
    assert imread(folder / "probe.png").std() > 0
    assert ElementTree.parse(folder / "probe.svg").getroot().tag.endswith("svg")
    return read_csv(folder)


def test_the_default_call_draws_the_gradient_picture(tmp_path):
    printed = run(
        "-m", "skipln_fairseq.probe", "--depths", 1, 2, *SMALL_BATCH, "--output", tmp_path / "new" / "probe"
    )
    assert "rSkip+LN" in printed.output
    assert "DEBUG" not in printed.output
    rows = check_files(tmp_path / "new" / "probe")
    depths = defaultdict(set)
    for row in rows:
        depths[row["variant"]].add((row["encoder_layers"], row["decoder_layers"]))
    assert list(depths)[:3] == ["Post-LN", "Pre-LN", "rSkip+LN, order 2"]
    assert all(depths[name] == {("1", "1"), ("2", "2")} for name in list(depths)[:3])
    assert list(depths)[3:] == [
        f"λ = {scale}, {norm}" for norm in ("no norm", "LN") for scale in ("0.5", "1", "2")
    ]
    for row in rows:
        assert float(row["gradient_norm"]) > 0
        assert bool(row["fc2_gradient_norm"]) == (row["sub_layer"] == "ffn")
        if row["variant"].startswith("λ"):
            assert row["coefficient_ratio"] == str(float(row["variant"].split()[2].rstrip(",")))


def test_variants_and_depths_stand_side_by_side(tmp_path, capsys):
    variants = ("--variant", "A: --skip-type plain", "--variant", "B: --skip-order 2 --skip-norm dyt")
    main([*TINY, *variants, "--depths", "1", "2", *SMALL_BATCH, "--seeds", "2", "--output", str(tmp_path)])
    rows = check_files(tmp_path)
    assert {(r["variant"], r["decoder_layers"], r["seed"]) for r in rows} == {
        (variant, depth, seed) for variant in "AB" for depth in "12" for seed in "12"
    }
    assert len(rows) == 2 * 2 * (5 + 10)
    assert {row["coefficient_ratio"] for row in rows if row["variant"] == "B"} == {""}
    assert "2+2" in capsys.readouterr().out


def test_weights_between_blocks_have_a_file_of_their_own(tmp_path):
    dlcl = (
        "--variant",
        "DLCL: --skip-type plain --encoder-depth-mixing dlcl",
        "--variant",
        "plain: --skip-type plain",
    )
    main([*TINY, *dlcl, "--depths", "2", *SMALL_BATCH, "--seeds", "1", "--output", str(tmp_path)])
    with (tmp_path / "probe-weights.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert {(row["variant"], row["seed"], row["side"]) for row in rows} == {("DLCL", "1", "encoder")}
    found = [(int(row["reader"]), int(row["read"]), float(row["weight"])) for row in rows]
    assert found == [
        (reader, read, pytest.approx(1 / reader)) for reader in (1, 2, 3) for read in range(reader)
    ]
    main([*TINY, *dlcl[2:], *SMALL_BATCH, "--output", str(tmp_path)])
    check_files(tmp_path)


def test_a_gradient_that_is_not_finite_is_told(tmp_path, capsys):
    """A stream that grows by λ in each sub-layer leaves double precision's range."""
    wild = "wild: --skip-type expanded --skip-scale 1e60 --skip-norm none"
    tame = "tame: --skip-type expanded --skip-scale 1e6 --skip-norm none"
    main(
        [
            *TINY,
            "--variant",
            wild,
            "--variant",
            tame,
            "--depths",
            "2",
            *SMALL_BATCH,
            "--output",
            str(tmp_path),
        ]
    )
    gradients = {(row["variant"], row["gradient_norm"]) for row in check_files(tmp_path)}
    assert ("wild", "nan") in gradients
    printed = capsys.readouterr().out
    assert re.search(
        r"^wild, 2\+2 layers: the gradient is not finite at \d+ of 10 sub-layers$", printed, re.M
    )
    assert re.search(r"wild .*… *nan", printed)
    assert not re.search(r"tame.*(not finite|nan)", printed)


def test_the_figure_shows_what_was_measured():
    wanted = Variant("plain", (*TINY, "--skip-type", "plain"))
    measured = [one for depth in (1, 2) for one in measure_variant(wanted, depth, [1, 2, 3], Batch(2, 5, 9))]
    axes = draw(panels(measured)).axes
    assert [a.get_title() for a in axes[:2]] == ["Last feed-forward weight", "Gradient"]
    depths, medians = axes[0].get_lines()[0].get_data()
    assert list(depths) == [1, 2]
    assert list(medians) == [sorted(one.last_fc2_gradient for one in measured[i : i + 3])[1] for i in (0, 3)]
    positions, gradients = axes[1].get_lines()[0].get_data()
    assert [int(p) for p in positions[~(gradients != gradients)]] == list(
        range(1, 11)
    )  # the deepest, no seam
    assert all(a.get_xlabel() and a.get_ylabel() and a.get_legend() for a in axes)


def test_sub_layers_of_unlike_models_are_not_called_after_the_first():
    sizes = ("--decoder-layers=1", "--decoder-attention-heads=2")
    wanted = Variant("lm", ("--arch=transformer_lm_rskip_tiny", *sizes)), Variant("mt", TINY)
    measured = [one for each in wanted for one in measure_variant(each, None, [1], Batch(2, 5, 9))]
    assert {a.get_xlabel() for a in draw(panels(measured)).axes} >= {"sub-layer"}
    assert "decoder" in draw(panels(measured[:1])).axes[0].get_xlabel()


def test_a_language_model_and_one_model_alone(tmp_path, capsys):
    flags = ("--arch", "transformer_lm_rskip_tiny", "--decoder-layers", "1")
    main([*flags, *SMALL_BATCH, "--output", str(tmp_path)])
    assert [(row["side"], row["sub_layer"]) for row in check_files(tmp_path)] == [
        ("decoder", "self_attn"),
        ("decoder", "ffn"),
    ]
    assert "decoder.0.ffn" in capsys.readouterr().out


def test_a_checkpoint_is_measured_on_its_data(trained, data, tmp_path, capsys):
    files = ("--path", str(trained.checkpoint), "--data", str(data), "--output", str(tmp_path))
    main([*files, "--seeds", "3", "--sentences", "2"])
    rows = check_files(tmp_path)
    assert {row["variant"] for row in rows} == {"checkpoint_last"}
    assert len(rows) == 3 * 10
    assert len({row["gradient_norm"] for row in rows[::10]}) > 1  # of other batches
    assert "checkpoint_last" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/one.pt", "b/two.pt"], ["one", "two"]),
        (["runs/a/best.pt", "runs/b/best.pt"], ["a", "b"]),
        (["runs/a/seed-1/best.pt", "runs/b/seed-2/best.pt"], ["a/seed-1", "b/seed-2"]),
        (["best.pt", "runs/a/best.pt"], ["best", "runs/a/best"]),
        (["a/best.pt", "a/b/best.pt", "a/b/last.pt"], ["best", "b/best", "b/last"]),
        (["/x/best.pt", "y/best.pt"], ["/x", "y"]),
        (["a/best.pt", "a/best.bin"], ["a/best.pt", "a/best.bin"]),
        (["a/best.v1", "a/best.v2"], ["a/best.v1", "a/best.v2"]),
    ],
)
def test_checkpoints_of_one_name_are_told_apart_by_their_folders(files, names):
    assert told_apart([Path(file) for file in files]) == names


def test_untrained_models_stand_beside_a_checkpoint(trained, data, tmp_path):
    """They are fresh models of its flags, on the same batches; its own rows are what they are without them."""
    shared = ("--data", str(data), "--seeds", "2", "--sentences", "2")
    path = ("--path", str(trained.checkpoint))
    calls = {
        "alone": path,
        "both": (*path, "--untrained"),
        "fresh": ("--arch", "transformer_rskip_tiny"),
    }
    for name, arguments in calls.items():
        main([*arguments, *shared, "--output", str(tmp_path / name)])
    alone, both, fresh = (check_files(tmp_path / name) for name in calls)
    assert both[20:] == alone
    assert {row["variant"] for row in both[:20]} == {"checkpoint_last, untrained"}

    def measured(rows):
        return [[row[name] for name in ("seed", "position", *QUANTITIES)] for row in rows]

    assert measured(both[:20]) == measured(fresh)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "--skip-type plain"], "valid is 'NAME: FLAGS'"),
        (["--variant", "A: --skip-order 1", "--variant", "A: --skip-order 2"], "--variant A: two variants"),
        (["--variant", "A: --bogus 3"], "A: unrecognized arguments: --bogus 3"),
        (["--skip-order", "0"], "--skip-order 0: valid is a whole number"),
        (["--arch", "nope"], "--arch nope is unknown"),
        (["--arch", "transformer", *TINY], "TransformerModel has no layers of this plugin's Transformers"),
        (["--seeds", "0"], "--seeds 0: valid is a whole number of at least 1"),
        (["--depths", "6", "-1"], "--depths -1: valid"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--path", "nowhere.pt"], "--path nowhere.pt: no such file"),
        (["--path", "x.pt", "./x.pt"], "--path: a checkpoint stands there twice"),
        (["--split", "test"], "--split goes with --data or --path"),
        (["--encoder-embed-dim", "15"], "these flags make no model, or none to measure (AssertionError: "),
        (["--arch", "roberta"], "these flags make no model, or none to measure ("),
        (["--criterion", "ctc"], "these flags make no model, or none to measure ("),
        (["--path", "nowhere.pt", "--depths", "2"], "--path is a finished model"),
        (["--untrained"], "--untrained goes with --path"),
        (["--output", __file__], "is a file, and no folder"),
        (["--output", f"{__file__}/below"], "is a file, and no folder"),
        (["--picture", "grow"], "--picture grow: valid are gradients, growth"),
        (
            ["--picture", "growth", "--skip-order", "2"],
            "--picture growth: valid are gradients, growth, of models",
        ),
        (["--picture", "trained"], "--picture trained: valid are gradients, growth"),
        (["--picture", "growth", "--path", __file__], "--picture growth: valid are gradients, growth"),
    ],
)
def test_bad_input_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as error:
        main([*SMALL_BATCH, *arguments])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_line_and_a_status(tmp_path):
    printed = run(
        "-m", "skipln_fairseq.probe", "--skip-order", "x", "--output", tmp_path / "p", succeeds=False
    )
    assert printed.output.strip().splitlines() == [
        "skipln_fairseq: error: --skip-order x: valid is a whole number of at least 1"
    ]
    assert not (tmp_path / "p").exists()


def test_nothing_is_written_where_one_file_fails(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(file):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        write_all(tmp_path, {"a": lambda file: file.write_text("new"), "b": fail})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]
