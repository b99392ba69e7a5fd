"""python -m skipln_fairseq.compare: what its report says, and how."""

import html.parser
import json
import re
import subprocess
from dataclasses import asdict

import pytest
from scipy import stats

from skipln_fairseq import __version__
from skipln_fairseq.compare.curves import draw_curves
from skipln_fairseq.compare.report import differing, write_report
from skipln_fairseq.compare.significance import over_seeds, pooled
from skipln_fairseq.compare.summary import _at_edge, _failed, _failed_below
from skipln_fairseq.runs import machine


@pytest.mark.parametrize(
    ("values", "edge"),
    [
        ([-2.0, 1.0, 3.0], False),
        ([2.0, 1.0, 3.0], True),
        (["20e-1", "1e-0", 3], True),
    ],
)
def test_a_choice_at_the_edge_of_the_values_is_told(compared, tmp_path, values, edge):
    table, _ = compared(tune={"flag": "lr", "values": values, "seed": 1}, train={"arch": "a"})
    assert {row["at_edge"] for row in table["rows"].values()} == {edge}
    for report in ("report.md", "report.html"):
        text = (tmp_path / "work" / "grid" / report).read_text()
        assert ("may be better: plain, good, same." in text) == edge
        assert "lr of each variant was chosen by one run; p ignores that" in text


def test_a_further_value_is_tried_for_its_variant_alone(compared, tmp_path):
    tune = {"flag": "lr", "values": [3.0, 2.0], "seed": 1}
    compared(tune=tune, train={"arch": "a"})
    table, printed = compared(tune=tune | {"also": {"good": [1.0, -2.0]}}, train={"arch": "a"})
    trained = re.findall(r"(\w+) / lr (\S+): validation", printed)  # as they end, which may be in any order
    assert sorted(trained) == [("good", "-2.0"), ("good", "1.0")]
    rows = table["rows"]
    assert {name: (row["chosen"], row["at_edge"]) for name, row in rows.items()} == {
        "plain": (2.0, True),
        "good": (1.0, False),
        "same": (2.0, True),
    }
    assert list(rows["good"]["losses"]) == ["3.0", "2.0", "1.0", "-2.0"]
    markdown = (tmp_path / "work" / "grid" / "report.md").read_text()
    assert "with seed 1 (–: not tried):" in markdown
    tried = re.search(r"\| variant \| 3.0 \| 2.0 \| 1.0 \| -2.0 \|\n.+\n(.+)\n(.+)\n", markdown)
    assert tried[1].count("–") == 2
    assert tried[2].split("|")[4].strip() == f"**{rows['good']['losses']['1.0']:.3f}**"
    more = tune | {"also": {"good": [1.0, -2.0, -3.0]}}
    table, _ = compared("--report-only", tune=more, train={"arch": "a"})
    assert table["missing"] == ["good, lr -3.0", *(f"good, seed {seed}" for seed in (1, 2, 3))]
    compared(tune=tune, train={"arch": "a"})
    assert "not tried" not in (tmp_path / "work" / "grid" / "report.md").read_text()


def test_a_report_without_samples_quotes_nothing(compared, tmp_path):
    table, _ = compared(seeds=[1])
    assert len(table["samples"]) == 5
    assert "mit der Nummer" in (tmp_path / "work" / "grid" / "report.html").read_text()
    table, _ = compared("--report-only", "--samples", "0", seeds=[1])
    assert table["samples"] == []
    for report in (tmp_path / "work" / "grid").iterdir():
        assert "mit der Nummer" not in report.read_text(), report


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


@pytest.mark.parametrize("where", [{"device": "another"}, {}])
def test_costs_of_different_devices_are_not_compared(where, compared, tmp_path):
    variants = {"plain": None, "good": {"good": True}}
    table, _ = compared(variants=variants)
    assert all(row["tokens_per_second"] and row["peak_bytes"] for row in table["rows"].values())
    record, *_ = (tmp_path / "work" / "runs").rglob("trained.json")
    kept = json.loads(record.read_text())
    record.write_text(json.dumps(kept | {"where": where}))
    table, _ = compared("--report-only", variants=variants)
    costs = ("tokens_per_second", "peak_bytes")
    assert {row[cost] for row in table["rows"].values() for cost in costs} == {None}
    for kind in ("md", "html"):
        text = (tmp_path / "work" / "grid" / f"report.{kind}").read_text()
        assert "Tokens/s and memory are left out, since the models were trained on different devices." in text


def test_a_report_names_this_project_s_version(compared):
    table, _ = compared()
    assert f"skipln_fairseq {__version__}" in table["where"][0]


def test_a_version_in_a_repository_is_told_with_its_commit(tmp_path, monkeypatch):
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", str(package / "runs" / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def git(*words):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
        line = ["git", "-C", str(package), *author, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    (package / "version.py").write_text("1")
    assert machine.where("cpu")["skipln_fairseq"] == __version__
    git("init")
    assert machine.where("cpu")["skipln_fairseq"] == __version__  # which an environment in a repository is
    git("add", "version.py")
    git("commit", "-m", "x")
    commit = git("rev-parse", "--short", "HEAD")
    assert machine.where("cpu")["skipln_fairseq"] == f"{__version__} {commit}"
    (package / "version.py").write_text("2")
    assert machine.where("cpu")["skipln_fairseq"] == f"{__version__} {commit}+"


def test_differences_are_tested_and_told(compared):
    table, _ = compared()
    good, same = table["rows"]["good"], table["rows"]["same"]
    assert good["verdict"] == "better"
    assert good["p_corrected"] == pytest.approx(2 * good["p"])
    assert good["p_seeds"] <= good["p"] < 0.001
    assert same["verdict"] == "no significant difference"
    assert (same["difference"], same["p_corrected"]) == (0, 1)


def test_one_seed_is_not_tested(compared, tmp_path):
    table, _ = compared(seeds=[1])
    assert table["rows"]["good"]["verdict"] == "one seed: not tested"
    assert table["rows"]["good"]["p_examples"] < 0.05
    for kind in ("md", "html", "tex"):
        text = (tmp_path / "work" / "grid" / f"report.{kind}").read_text()
        text, _, _ = text.partition("<figure>")
        assert not re.search("±|pm|Holm's|Welch|dagger|mean over|textbf", text), kind
        assert ("One seed does not say" in text) == (kind != "tex")


def test_of_models_that_have_learnt_nothing_only_a_diverged_one_has_failed():
    row = {"diverged_each": [False, True], "each": [0.1, 0.1]}
    assert _failed(row, _failed_below([0.9, None])) == 1
    assert _failed(row, _failed_below([1.1, 0.5])) == 2


def test_runs_have_failed_beside_the_best_variant_not_beside_the_baseline(compared, tmp_path):
    """A baseline that has hardly learnt is among them."""
    table, _ = compared(variants={"plain": {"behave": "dull"}, "good": {"good": True}, "same": None})
    assert table["failed_below"] == pytest.approx(table["rows"]["good"]["mean"] / 2)
    assert 1 < table["rows"]["plain"]["mean"] < table["failed_below"]
    assert {variant: row["failed"] for variant, row in table["rows"].items()} == {
        "plain": 3,
        "good": 0,
        "same": 0,
    }
    assert "(diverged, or BLEU below" in (tmp_path / "work" / "grid" / "report.md").read_text()
    assert _failed_below([2.3, None, 20.0]) == 10
    assert _failed_below([None]) == _failed_below([]) == 0


@pytest.mark.parametrize("kind", ["md", "html", "tex"])
def test_reports_say_what_is_missing_and_that_nothing_was_learnt(compared, tmp_path, kind):
    compared()
    folder = tmp_path / "work" / "grid"
    before = (folder / f"report.{kind}").read_text()
    assert not re.search("No model has learnt|Missing", before)
    summary = json.loads((folder / "results.json").read_text())
    (table,) = summary["data"]
    table["missing"] = ["good, seed 3"]
    for row in table["rows"].values():
        row["mean"] = 0.9
    write_report(summary, folder)
    text = re.sub("<b>|</b>|[*]", "", (folder / f"report.{kind}").read_text())
    assert "No model has learnt: every BLEU is below 1" in text
    assert "Missing: good, seed 3." in text


def test_a_value_at_which_all_diverges_is_told_so(compared, tmp_path):
    tune = {"flag": "behave", "values": ["diverge", "well"], "seed": 1}
    table, _ = compared(variants={"plain": None, "good": {"good": True}}, tune=tune)
    assert table["rows"]["good"]["losses"] == {"diverge": None, "well": pytest.approx(2 + 1 / 3)}
    assert "| good | diverged | **2.333** |" in (tmp_path / "work" / "grid" / "report.md").read_text()


def test_a_variant_that_diverges_with_each_value_is_named(compared, tmp_path):
    tune = {"flag": "lr", "values": [3.0, 1.0, 2.0], "seed": 1}
    variants = {"plain": None, "bad": {"behave": "diverge"}}
    compared(variants=variants, tune=tune, train={"arch": "a"}, seeds=[1, 2])
    for kind in ("md", "html"):
        report = (tmp_path / "work" / "grid" / f"report.{kind}").read_text()
        assert "No value gave these variants a finite validation loss: bad." in report
    compared(variants={"plain": None, "good": {"good": True}}, tune=tune, train={"arch": "a"}, seeds=[1, 2])
    assert "finite validation loss:" not in (tmp_path / "work" / "grid" / "report.md").read_text()


def test_values_that_the_first_variant_has_not_tried_are_shown(compared, tmp_path):
    """All of its trainings fail."""
    tune = {"flag": "lr", "values": [1.0, 2.0], "seed": 1}
    variants = {"plain": {"behave": "fail"}, "good": {"good": True}}
    table, _ = compared(variants=variants, tune=tune, train={"arch": "a"}, fails=True)
    assert table["rows"]["plain"]["losses"] == {}
    report = (tmp_path / "work" / "grid" / "report.md").read_text()
    assert "| variant | 1.0 | 2.0 |" in report
    assert "| good | **1.333** | 2.333 |" in report


def test_a_name_is_no_formula(compared, tmp_path):
    compared(variants={"plain": None, "$a^$": None}, seeds=[1])
    assert "<!-- $a^$ -->" in (tmp_path / "work" / "grid" / "curves-d.svg").read_text()


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


def test_a_name_with_a_line_below_stands_in_the_legend():
    """matplotlib leaves out names that begin so."""
    assert "<!--  _private -->" in draw_curves({"_private": [[(1, 5.0), (2, 4.0)]]}, "token")


@pytest.mark.parametrize("points", [1, 3])
def test_each_validation_has_a_mark(points):
    """A line of one would be none."""
    picture = draw_curves({"one": [[(n, 5.0 + n) for n in range(points)]]}, "token")
    assert (
        len(re.findall(r'<use [^>]*style="fill: #1f77b4; stroke: #1f77b4"', picture)) == points + 1
    )  # and in the legend


def test_a_failed_baseline_is_compared_with_its_own_spread(compared):
    """The pool, which has no spread here, would tell anything apart."""
    variants = {"plain": {"behave": "diverge-of-seed-2"}, "good": {"good": True}, "same": None}
    table, _ = compared(variants=variants, baseline="plain")
    good = table["rows"]["good"]
    assert table["rows"]["plain"]["failed"] == 1
    each = [table["rows"][name]["each"] for name in ("plain", "good")]
    assert good["p_seeds"] == pytest.approx(stats.ttest_ind(*each, equal_var=False).pvalue)
    assert good["verdict"] == "no significant difference"


def test_a_variant_with_a_wider_spread_is_compared_with_its_own(compared, tmp_path):
    table, _ = compared(
        variants={"plain": None, "good": {"good": True}, "same": None, "*uneven*": {"behave": "uneven"}}
    )
    rows = {name: row["each"] for name, row in table["rows"].items()}
    assert table["wider"] == ["*uneven*"]
    assert table["rows"]["*uneven*"]["failed"] == 0
    welch = stats.ttest_ind(rows["*uneven*"], rows["plain"], equal_var=False)
    assert table["rows"]["*uneven*"]["p_seeds"] == pytest.approx(welch.pvalue)
    pool = pooled([rows["plain"], rows["good"], rows["same"]])
    assert table["pool"] == asdict(pool)
    good = over_seeds(rows["plain"], rows["good"], pool).p(table["rows"]["good"]["difference"])
    assert table["rows"]["good"]["p_seeds"] == pytest.approx(good)
    folder = tmp_path / "work" / "grid"
    for kind, name in (("md", r"\*uneven\*"), ("html", "*uneven*")):
        assert f"compared by Welch's test: {name}." in (folder / f"report.{kind}").read_text()


def test_words_have_no_edge():
    assert not any(_at_edge(value, ["adam", "sgd"]) for value in ("adam", "sgd"))
    assert not any(_at_edge(value, [True, False]) for value in (True, False))


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
    compared(tune={"flag": "lr", "values": [1.0, 2.0], "seed": 1}, train={"arch": "a"})
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
