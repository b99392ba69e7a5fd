"""python -m skipln_fairseq.compare: runs that are interrupted or fail, the report, real models."""

import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sacrebleu
import torch
from conftest import REPOSITORY, run
from scipy import stats

from skipln_fairseq import __version__
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare import measures
from skipln_fairseq.compare.classification import Classification
from skipln_fairseq.compare.curves import draw_curves
from skipln_fairseq.compare.data import Data
from skipln_fairseq.compare.experiment import Experiment
from skipln_fairseq.compare.grid import read_grid
from skipln_fairseq.compare.report import differing
from skipln_fairseq.compare.summary import _at_edge
from skipln_fairseq.compare.training import Training
from skipln_fairseq.errors import UserError
from skipln_fairseq.runs import locked
from tests.comparisons import SENTENCES, fake, make_grid, written


@pytest.fixture
def grid(tmp_path):
    return make_grid(tmp_path)


@pytest.fixture
def compared(grid, tmp_path, monkeypatch, capsys):
    """A comparison by a grid: its results and what it printed. Errors are raised after the report is written."""
    fake(monkeypatch)

    def main(*arguments, fails=False, **changes):
        file = written({**grid, **changes}, tmp_path)
        line = [str(file), "--work-dir", str(tmp_path / "work"), "--processes", "2", *arguments]
        if fails:
            with pytest.raises(UserError) as error:
                compare.main(line)
            print(error.value)
        else:
            compare.main(line)
        results = json.loads((tmp_path / "work" / "grid" / "results.json").read_text())
        return results["data"][0], capsys.readouterr().out

    return main


def test_what_is_there_is_not_done_again(compared):
    table, printed = compared()
    assert printed.count("BLEU") == 9
    assert table["missing"] == []
    again, printed = compared()
    assert "BLEU" not in printed
    assert again == table
    _, printed = compared(seeds=[1, 2, 3, 4])
    assert printed.count("BLEU") == printed.count("seed 4") == 3


def test_the_report_alone_runs_nothing_and_says_what_is_missing(compared):
    table, printed = compared("--report-only")
    assert "BLEU" not in printed
    assert len(table["missing"]) == 9
    assert table["rows"]["good"]["verdict"] == "missing"


def test_each_variant_chooses_what_has_the_lowest_validation_loss(compared):
    tune = {"flag": "lr", "values": [3.0, 1.0, 2.0], "seed": 1}
    table, printed = compared(tune=tune)
    assert table["rows"]["good"]["chosen"] == 1.0
    assert table["rows"]["good"]["losses"]["3.0"] == pytest.approx(3 + 1 / 3)
    assert printed.count("validation loss") == 9
    # of the nine cells the three of the tuning's seed were trained already
    assert sum(command.count("fairseq-train") for command in table["commands"]) == 9 + 6
    assert all("--lr 1.0" in line for line in table["commands"] if "--seed 2" in line)


@pytest.mark.parametrize(
    ("values", "edge"),
    [
        ([-2.0, 1.0, 3.0], False),
        ([2.0, 1.0, 3.0], True),
        (["20e-1", "1e-0", 3], True),
    ],
)
def test_a_choice_at_the_edge_of_the_values_is_told(compared, tmp_path, values, edge):
    table, _ = compared(tune={"flag": "lr", "values": values, "seed": 1})
    assert {row["at_edge"] for row in table["rows"].values()} == {edge}
    for report in ("report.md", "report.html"):
        told = "may be better: plain, good, same." in (tmp_path / "work" / "grid" / report).read_text()
        assert told == edge


def test_a_report_without_samples_quotes_nothing(compared, tmp_path):
    table, _ = compared(seeds=[1])
    assert len(table["samples"]) == 5
    assert "mit der Nummer" in (tmp_path / "work" / "grid" / "report.html").read_text()
    table, _ = compared("--report-only", "--samples", "0", seeds=[1])
    assert table["samples"] == []
    for report in (tmp_path / "work" / "grid").iterdir():
        assert "mit der Nummer" not in report.read_text(), report


def test_what_a_run_took_and_gave_is_kept(compared):
    table, _ = compared()
    row = table["rows"]["plain"]
    assert (row["parameters"], row["tokens_per_second"]) == (1234, 200)
    assert row["peak_bytes"] > 1 << 20
    assert row["loss"] == pytest.approx(2 + 1 / 3)
    assert table["curves"]["plain"][0] == [[1, 3.0], [2, 2.5], [3, pytest.approx(2 + 1 / 3)]]
    lines = [" ".join(line.split()[:-2] if (n + 1) % 3 else line.split()) for n, line in enumerate(SENTENCES)]
    lines = [" ".join(w.split()[:-1]) if (n + 1) % 3 == 0 and n % 10 == 1 else w for n, w in enumerate(lines)]
    assert row["each"][0] == sacrebleu.corpus_bleu(lines, [SENTENCES]).score


def test_memory_of_a_gpu_has_a_column_where_there_is_one(compared, tmp_path):
    reports = [tmp_path / "work" / "grid" / f"report.{kind}" for kind in ("md", "html")]
    compared()
    assert not any("GPU" in report.read_text() for report in reports)
    compared(train={"behave": "gpu"}, variants={"plain": None, "good": {"good": True}})
    markdown, html = (report.read_text() for report in reports)
    heads, _, row = (line.split("|") for line in markdown.splitlines()[4:7])
    assert row[heads.index(" peak GPU MiB ")].strip() == "1,536"
    assert "<th>peak GPU MiB</th>" in html
    assert html.count("<td>1,536</td>") == 2


def test_chrf_has_the_case_of_bleu(compared):
    table, _ = compared(score={"lowercase": True})
    assert all("case:lc" in signature for signature in table["signatures"])
    assert len(table["signatures"]) == 2


def test_a_report_names_this_project_s_version(compared):
    table, _ = compared()
    assert f"skipln_fairseq {__version__}" in table["where"][0]


def test_differences_are_tested_and_told(compared):
    table, _ = compared()
    good, same = table["rows"]["good"], table["rows"]["same"]
    assert good["verdict"] == "better"
    assert good["p_corrected"] == pytest.approx(2 * good["p"])
    assert good["p_seeds"] <= good["p"] < 0.001
    assert same["verdict"] == "no significant difference"
    assert (same["difference"], same["p_corrected"]) == (0, 1)


def test_one_seed_is_not_tested(compared):
    table, _ = compared(seeds=[1])
    assert table["rows"]["good"]["verdict"] == "one seed: not tested"
    assert table["rows"]["good"]["p_examples"] < 0.05


def test_a_diverged_run_counts_with_empty_translations(compared):
    table, printed = compared(variants={"plain": None, "bad": {"behave": "diverge"}})
    row = table["rows"]["bad"]
    assert row["each"] == [0, 0, 0]
    assert (row["failed"], row["verdict"], row["loss"]) == (3, "worse", None)
    assert printed.count("BLEU 0.00") == 3


def test_a_value_at_which_all_diverges_is_told_so(compared, tmp_path):
    tune = {"flag": "behave", "values": ["diverge", "well"], "seed": 1}
    table, _ = compared(variants={"plain": None, "good": {"good": True}}, tune=tune)
    assert table["rows"]["good"]["losses"] == {"diverge": None, "well": pytest.approx(2 + 1 / 3)}
    assert "| good | diverged | **2.333** |" in (tmp_path / "work" / "grid" / "report.md").read_text()


def test_losses_that_are_no_numbers_are_in_no_curve(compared):
    table, _ = compared(variants={"plain": None, "nan": {"behave": "nan"}})
    assert table["curves"]["nan"] == [[], [], []]
    assert table["rows"]["nan"]["loss"] is None
    assert len(table["curves"]["plain"][0]) == 3


def test_a_curve_far_above_does_not_hide_the_others():
    curves = {"low": [[(1, 5.0), (2, 4.0)], [(1, 5.5), (2, 4.5)]], "near": [[(1, 7.0), (2, 6.0)]]}
    far = {"far": [[(1, 90.0), (2, 60.0)]], "none": [[]]}
    picture = draw_curves({**curves, **far}, "token")
    assert "<!-- far (above) -->" in picture
    assert "<!-- near -->" in picture
    assert "<!-- none" not in picture
    ticks = [float(text) for text in re.findall(r"<!-- ([\d.]+) -->", picture)]
    assert 7 <= max(ticks) < 9
    assert "above" not in draw_curves(curves, "token")
    assert "above" not in draw_curves(
        {"good": [[(1, 3.0), (2, 0.05)]], "other": [[(1, 3.0), (2, 0.2)]]}, "token"
    )
    assert "<!-- far (above) -->" in draw_curves({"flat": [[(1, 4.0), (2, 4.0)]], **far}, "token")
    assert "<svg" in draw_curves({"none": []}, "token")


def test_a_failed_baseline_is_compared_with_its_own_spread(compared):
    """The pool, which has no spread here, would tell anything apart."""
    variants = {"plain": {"behave": "diverge-of-seed-2"}, "good": {"good": True}, "same": None}
    table, _ = compared(variants=variants, baseline="plain")
    good = table["rows"]["good"]
    assert table["rows"]["plain"]["failed"] == 1
    each = [table["rows"][name]["each"] for name in ("plain", "good")]
    assert good["p_seeds"] == pytest.approx(stats.ttest_ind(*each, equal_var=False).pvalue)
    assert good["verdict"] == "no significant difference"


def test_a_checkpoint_that_was_removed_is_no_diverged_model(compared, tmp_path):
    compared(seeds=[1])
    for file in tmp_path.glob("work/runs/*/*/*/checkpoint_best.pt"):
        file.unlink()
    _, printed = compared(seeds=[1], evaluate={"beam": 4}, fails=True)
    assert "checkpoint_best.pt is missing: remove its folder to train again" in printed


def test_a_run_that_fails_does_not_end_the_others_and_is_told(compared):
    table, printed = compared(variants={"bad": {"behave": "fail"}, "plain": None}, fails=True)
    assert table["missing"] == [f"bad, seed {seed}" for seed in (1, 2, 3)]
    assert len(table["rows"]["plain"]["seeds"]) == 3
    assert printed.count("exit status 1") == 3
    assert printed.strip().endswith("3 runs failed, as said above; the report lacks them")


def test_other_lines_than_the_references_are_refused(compared, tmp_path, grid):
    other = tmp_path / "other.de"
    other.write_text("one line\n")
    grid["data"]["d"]["reference"] = f"{other}"
    _, printed = compared(fails=True)
    assert "has 1 lines, the test set of" in printed


KILLED = """
import sys
sys.path[:0] = [{repository!r}, {tests!r}]
import test_compare
class Patch:
    setattr = staticmethod(setattr)
test_compare.fake(Patch)
test_compare.compare.main(sys.argv[1:])
"""


def test_a_killed_comparison_leaves_nothing_running_and_goes_on(compared, grid, tmp_path):
    """Two trainings wait after their first checkpoint when the comparison is killed; later they go on from there."""
    changes = {"variants": {"plain": {"behave": "wait"}, "good": {"behave": "wait", "good": True}}}
    script = KILLED.format(repository=str(REPOSITORY), tests=str(Path(__file__).parent))
    arguments = [written({**grid, **changes}, tmp_path), "--work-dir", tmp_path / "work", "--processes", "2"]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("work/runs/*/*/*/checkpoint_best.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    assert not _alive(tmp_path)
    (tmp_path / "data" / "go").touch()
    table, printed = compared(**changes)
    assert table["missing"] == []
    assert printed.count("BLEU") == 6
    assert [updates for updates, _ in table["curves"]["plain"][0]] == [1, 2, 3]


def _alive(folder) -> list[str]:
    """Command lines that name ``folder``."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(folder) in line and "fake_fairseq" in line]


def test_two_comparisons_do_not_share_a_folder_at_once(compared, grid, tmp_path):
    with (
        locked(tmp_path / "work", "comparison"),
        pytest.raises(UserError, match=r"another comparison, .* is at work"),
    ):
        compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work")])


def test_words_have_no_edge():
    assert not any(_at_edge(value, ["adam", "sgd"]) for value in ("adam", "sgd"))
    assert not any(_at_edge(value, [True, False]) for value in (True, False))


@pytest.mark.parametrize("flag", ["--processes=0", "--threads=0", "--samples=-1"])
def test_numbers_out_of_range_are_refused(grid, tmp_path, flag):
    with pytest.raises(UserError, match="valid is a whole number of at least"):
        compare.main([str(written(grid, tmp_path)), flag])


def test_each_gpu_has_its_processes(monkeypatch):
    parser = compare._parser()
    args = parser.parse_args(["g", "--gpus", "0", "3", "--processes", "2"])
    places = compare._places(args, compare._gpus(args, [{}]))
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["0", "3", "0", "3"]
    args = parser.parse_args(["g", "--threads", "1"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in compare._places(args, compare._gpus(args, [{}]))] == [
        "0",
        "1",
    ]
    places = compare._places(args, compare._gpus(args, [{"cpu": True}]))
    assert len(places) == len(os.sched_getaffinity(0))
    assert {place["OMP_NUM_THREADS"] for place in places} == {"1"}


def test_gpus_are_counted_among_those_that_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5f")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    parser = compare._parser()
    for flags, names in (([], ["2", "GPU-5f"]), (["--gpus", "1"], ["GPU-5f"])):
        args = parser.parse_args(["g", *flags])
        places = compare._places(args, compare._gpus(args, [{}]))
        assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == names
    for gpu, message in (
        (2, "--gpus 2: CUDA_VISIBLE_DEVICES is 2, GPU-5f"),
        (-1, "--gpus -1: valid is 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            compare._places(parser.parse_args(["g", "--gpus", str(gpu)]), [gpu])


def test_a_run_is_named_after_all_that_shapes_it(grid, tmp_path):
    read = read_grid(written(grid, tmp_path))
    experiment = Experiment(read, tmp_path, "skipln_fairseq")
    folder = experiment.cell(read.data[0], "plain", 1).training.folder
    others = [
        experiment.cell(read.data[0], "plain", 2).training.folder,
        experiment.cell(read.data[0], "good", 1).training.folder,
    ]
    (tmp_path / "data" / "dict.en.txt").write_text("b 1\n")
    changed = read_grid(written(grid, tmp_path))
    others.append(
        Experiment(changed, tmp_path, "skipln_fairseq").cell(changed.data[0], "plain", 1).training.folder
    )
    assert len({folder, *others}) == 4


# --- the report --------------------------------------------------------------------------------


def test_words_that_differ_are_marked_in_their_place():
    assert differing("a b c d", "a x c d") == [("a", False), ("b", True), ("c d", False)]
    assert differing("a b", "a b") == [("a b", False)]
    assert differing("", "a") == []


class Page(html.parser.HTMLParser):
    """Elements that are open, addresses, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "path", "use", "rect", "br"):
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in ("meta", "path", "use", "rect", "br"):
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_needs_no_network(compared, tmp_path):
    compared()
    page = Page((tmp_path / "work" / "grid" / "report.html").read_text())
    assert page.open == []
    assert all(address.startswith("#") for address in page.addresses)
    text = " ".join(page.words)
    assert "A <title>" in text
    assert "<b>lang</b> genug &" in text
    assert all(name in text for name in ("plain", "good", "same", "better", "no significant difference"))
    assert "fairseq-train" in text


def test_the_tables_of_the_markdown_are_whole(compared, tmp_path):
    compared(tune={"flag": "lr", "values": [1.0, 2.0], "seed": 1})
    folder = tmp_path / "work" / "grid"
    lines = (folder / "report.md").read_text().splitlines()
    widths = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.strip().startswith("|"):
            width = line.replace("\\|", "").count("|")
            assert not before.strip().startswith("|") or width == widths[-1], line
            widths.append(width)
    assert len(set(widths)) == 3
    assert "![Learning curves" in "\n".join(lines)
    assert (folder / "curves-d.svg").read_text().startswith("<?xml")
    assert (folder / "commands.sh").read_text().count("fairseq-generate") == 9


# --- images ------------------------------------------------------------------------------------


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
    table, printed = compared(measure="classification", data=data, seeds=[1, 2])
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
        assert not re.search("token|translat", text, re.IGNORECASE)
    assert "| variant | top-1 % |" in (folder / "report.md").read_text()
    assert "bits per image" in (folder / "curves-d.svg").read_text()


def test_a_diverged_model_of_images_gets_all_of_its_trainings_images_wrong(tmp_path):
    training = Training(tmp_path, "", Data("digits", Path("digits")), "a", 1, {"lr": 9, "held-out": 0.5})
    training.folder.mkdir(parents=True)
    (training.folder / "trained.json").write_text('{"diverged": true}')
    result = Classification(training, {"split": "valid"}, {}).evaluate(os.environ, lambda process: None)
    assert result == {"scores": {"top-1 %": 0, "top-5 %": 0}, "signatures": ["718 images"]}


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
