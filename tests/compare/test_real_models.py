"""python -m skipln_fairseq.compare: comparisons of images, and of real models."""

import json
import os
import re
from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare import measures
from skipln_fairseq.compare.classification import Classification
from skipln_fairseq.compare.data import Data
from skipln_fairseq.compare.training import Training
from tests.support.commands import run
from tests.support.comparisons import written


class FakeClassification(Classification):
    """Right for every third image, and one more of a better model."""

    def _evaluate(self, environment, on_start):
        better = bool(self.training.flags.get("good"))
        ranks = [1 if n % 3 == 0 or (better and n % 3 == 1) else 2 + n % 9 for n in range(90)]
        self.file(".txt").write_text("".join(f"{rank}\n" for rank in ranks))
        share = {k: 100 * sum(rank <= k for rank in ranks) / 90 for k in (1, 5)}
        return {"scores": {f"top-{k} %": value for k, value in share.items()}, "signatures": []}


def test_images_are_compared_by_their_accuracy(compared, grid, monkeypatch, tmp_path):
    monkeypatch.setitem(measures.MEASURES, "classification", FakeClassification)
    data = {"d": {"path": str(tmp_path / "data")}}
    table, printed = compared(measure="classification", data=data, seeds=[1, 2], evaluate={})
    assert table["rows"]["plain"]["mean"] == pytest.approx(100 / 3)
    assert table["rows"]["good"]["difference"] == pytest.approx(100 / 3)
    assert table["rows"]["good"]["p_examples"] < 0.01
    assert table["rows"]["good"]["further"]["top-5 %"]["mean"] > 60
    assert printed.count("top-1 %") == 6
    assert table["samples"] == []
    folder = tmp_path / "work" / "grid"
    for suffix in ("md", "html"):
        report = (folder / f"report.{suffix}").read_text()
        assert "images/s" in report
        text, _, _ = report.partition("<figure>")  # SVG translates
        assert not re.search("token|translat|length of the output", text, re.IGNORECASE)
    assert "| variant | top-1 % |" in (folder / "report.md").read_text()
    assert "bits per image" in (folder / "curves-d.svg").read_text()


def test_where_nothing_varies_there_is_a_report_all_the_same(compared, monkeypatch, tmp_path):
    monkeypatch.setitem(measures.MEASURES, "classification", FakeClassification)
    data, variants = {"d": {"path": str(tmp_path / "data")}}, {"plain": None, "same": None}
    table, _ = compared(measure="classification", data=data, seeds=[1, 2], variants=variants, evaluate={})
    assert table["detectable"] is None
    assert table["rows"]["same"]["verdict"] == "no significant difference"
    assert "smallest difference" not in (tmp_path / "work" / "grid" / "report.md").read_text()


def test_a_diverged_model_of_images_gets_all_of_its_trainings_images_wrong(tmp_path):
    training = Training(tmp_path, "", Data("digits", Path("digits")), "a", 1, {"lr": 9, "held-out": 0.5})
    training.folder.mkdir(parents=True)
    (training.folder / "trained.json").write_text('{"diverged": true}')
    cell = Classification(training, {"split": "valid"}, {})
    result = cell.evaluate(os.environ, lambda process: None)
    assert " ".join(cell.command).endswith("--split valid --diverged --lr 9 --held-out 0.5")
    assert (result["scores"], result["signatures"]) == ({"top-1 %": 0, "top-5 %": 0}, ["718 images"])


# --- with fairseq ------------------------------------------------------------------------------


def test_real_models_are_trained_translated_and_compared(trained, data, tmp_path):
    pairs = tmp_path / "test"
    for lang, kind in (("en", "S"), ("de", "T")):
        printed = run("fairseq-generate", data, "--path", trained.checkpoint, "--cpu", "--max-len-b=1")
        lines = sorted(printed.lines(kind), key=lambda line: int(line.split("\t")[0][2:]))
        pairs.with_suffix(f".{lang}").write_text("".join(line.split("\t")[1] + "\n" for line in lines))
    train = {
        "arch": "transformer_rskip_tiny",
        "optimizer": "adam",
        "lr": 0.002,
        "cpu": True,
        "batch-size": 16,
    }
    grid = {
        "title": "Two models",
        "baseline": "plain",
        "seeds": [1],
        "data": {"d": {"path": f"{data}", "source": f"{pairs}.en", "reference": f"{pairs}.de"}},
        "variants": {"plain": {"skip-type": "plain"}, "rSkip": {"skip-order": 3}},
        "train": {
            **train,
            "max-update": 4,
            "num-workers": 0,
            "log-interval": 1,
            "no-epoch-checkpoints": True,
        },
        "evaluate": {"cpu": True, "beam": 2, "max-len-b": 10},
    }
    compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work"), "--processes", "2"])
    (table,) = json.loads((tmp_path / "work" / "grid" / "results.json").read_text())["data"]
    assert table["missing"] == []
    for row in table["rows"].values():
        assert row["parameters"] > 1000
        assert row["tokens_per_second"] > 0
        assert row["peak_bytes"] > 100 << 20
        assert 0 < row["loss"] < 20
    assert table["rows"]["rSkip"]["parameters"] > table["rows"]["plain"]["parameters"]


BAD = {
    "a flag": (
        {"variants": {"a": None, "b": {"skip-typ": "x"}}},
        "d / b: unrecognized arguments: --skip-typ x",
    ),
    "a choice": ({"variants": {"a": None, "b": {"skip-type": "x"}}}, "d / b: --skip-type x: valid are "),
    "a combination": (
        {"variants": {"a": None, "b": {"skip-type": "recursive", "norm-placement": "pre"}}},
        "d / b: --norm-placement pre does not go with ",
    ),
    "an architecture": (
        {"variants": {"a": None, "b": {"arch": "x"}}},
        "d / b: argument --arch/-a: invalid choice: 'x'$",
    ),
    "a value": (
        {"variants": {"a": None, "b": {"encoder-layers": "x"}}},
        "d / b: argument --encoder-layers: ",
    ),
    "a comma for a point": (
        {"variants": {"a": None, "b": {"lr": "0,002"}}},
        "d / b: argument --lr: invalid ",
    ),
    "what stock refuses": (
        {"variants": {"a": None, "b": {"share-all-embeddings": True, "decoder-embed-dim": 2}}},
        "d / b: ValueError: --share-all-embeddings requires ",
    ),
    "a tuned value": (
        {"tune": {"flag": "skip-order", "values": [1, 0], "seed": 1}},
        "d / a: --skip-order 0: valid is ",
    ),
    "a flag of decoding": ({"evaluate": {"beams": 3}}, "d / a: evaluate: unrecognized arguments: --beams 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_training_would_refuse_is_refused_before_the_first(data, tmp_path, name):
    change, message = BAD[name]
    for lang in ("en", "de"):
        (tmp_path / f"test.{lang}").write_text("a\nb\n")
    files = {"source": f"{tmp_path}/test.en", "reference": f"{tmp_path}/test.de"}
    grid = {
        "title": "Bad",
        "baseline": "a",
        "seeds": [1],
        "data": {"d": {"path": f"{data}", **files}},
        "variants": {"a": {"skip-type": "recursive"}},
        "train": {"arch": "transformer_rskip_tiny", "optimizer": "adam", "cpu": True},
        "evaluate": {"beam": 2},
        **change,
    }
    with pytest.raises(UserError, match=f"^{message}") as caught:
        compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_flags_that_images_do_not_know_are_refused_before_the_first():
    training = Training(Path("work"), "", Data("digits", Path("digits")), "a", 1, {})
    with pytest.raises(UserError, match=r"^b: unrecognized arguments: --beam 2$"):
        Classification(training, {"beam": 2}, {}).check_command("b")


def test_real_models_of_images_are_compared(tmp_path):
    grid = {
        "title": "Digits",
        "measure": "classification",
        "baseline": "plain",
        "seeds": [1],
        "data": {"digits": {"path": "digits"}},
        "variants": {"plain": None, "rSkip": {"skip-type": "recursive"}},
        "train": {
            "task": "image_classification",
            "criterion": "image_cross_entropy",
            "arch": "preact_resnet20",
            "optimizer": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "batch-size": 64,
            "max-epoch": 3,
            "cpu": True,
            "no-flip": True,
            "crop-padding": 1,
            "num-workers": 0,
            "no-epoch-checkpoints": True,
        },
        "evaluate": {"batch-size": 100},
    }
    compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work"), "--processes", "2"])
    (table,) = json.loads((tmp_path / "work" / "grid" / "results.json").read_text())["data"]
    assert table["missing"] == []
    for row in table["rows"].values():
        assert 30 < row["mean"] < row["further"]["top-5 %"]["mean"] <= 100
    assert table["signatures"] == ["360 images"]
