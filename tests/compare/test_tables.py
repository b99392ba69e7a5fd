"""A comparison's tables for a paper and for other programs, and the grid to begin with."""

import csv
import re
import shutil
import subprocess

import pytest
from pylatexenc.latexwalker import LatexWalker
from sacrebleu import BLEU

from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare.grid import read_grid
from skipln_fairseq.compare.latex import latex

ESCAPED = {"report.md": "&", "report.html": "&amp;"}
NAMES = r"10 % & $x$_{#} ~^\ λ × – Việt"


def environments(text):
    """The names of all environments, of which each is closed: strict parsing fails otherwise."""
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    found = []

    def visit(nodes):
        for node in nodes or []:
            found.extend([node.environmentname] if hasattr(node, "environmentname") else [])
            visit(getattr(node, "nodelist", None))

    visit(nodes)
    return found


def rows_of(text):
    """The cells of a table's lines of numbers."""
    body = text.partition("\\midrule")[2].partition("\\bottomrule")[0]
    return [
        [cell.strip() for cell in line.split(" & ")] for line in body.strip().rstrip("\\").split("\\\\\n")
    ]


@pytest.fixture
def report(compared, tmp_path):
    """The table's numbers, and the files of a report, which has a variant with all of LaTeX's own characters."""
    variants = {"plain": {"skip-type": "plain"}, "good": {"good": True}, NAMES: None}
    table, _ = compared(variants=variants, title=NAMES)
    return table, tmp_path / "work" / "grid"


def test_the_table_in_latex_has_the_numbers_of_the_report(report):
    table, folder = report
    text = (folder / "report.tex").read_text()
    assert environments(text) == ["table", "tabular"]
    assert re.search(r"\\(toprule|midrule|bottomrule)", text)
    plain, good, same = rows_of(text)
    row = table["rows"]["good"]
    assert good[1] == f"\\textbf{{{row['mean']:.2f}}} $\\pm$ {row['deviation']:.2f}"
    assert row["p_corrected"] < 0.01
    assert good[2] == f"${row['difference']:+.2f}^{{\\ddagger}}$"
    assert (
        plain[1] == f"{table['rows']['plain']['mean']:.2f} $\\pm$ {table['rows']['plain']['deviation']:.2f}"
    )
    assert plain[2] == ""
    assert same[2] == "$+0.00$"
    assert r"$\ddagger$, $\dagger$: $p <$ 0.01, 0.05" in text


@pytest.fixture
def summary():
    """Of two variants, b and v."""
    row = {
        "mean": 1.0,
        "deviation": None,
        "difference": -0.5,
        "p_corrected": None,
        "further": {},
        "loss": None,
    }
    rows = {"b": row | {"difference": None, "mean": 1.5}, "v": row}
    data = [{"name": "d", "family": 1, "missing": [], "rows": rows}]
    return {"title": "t", "score": "BLEU", "further": [], "seeds": [1, 2], "baseline": "b", "data": data}


@pytest.mark.parametrize("name", ["[1] x", "*x"])
def test_a_row_does_not_begin_with_an_argument_of_the_line_before(summary, name):
    """The end of a line takes [1pt] and a star, a rule [1pt]."""
    rows = summary["data"][0]["rows"]
    rows[name] = rows.pop("v")
    assert f"\n    {{}}{name} & 1.00 & " in latex(summary)


@pytest.mark.parametrize(
    ("p", "mark"), [(0.0099, "^{\\ddagger}"), (0.01, "^{\\dagger}"), (0.05, ""), (None, "")]
)
def test_marks_follow_from_the_corrected_p(summary, p, mark):
    summary["data"][0]["rows"]["v"]["p_corrected"] = p
    text = latex(summary)
    assert f"v & 1.00 & $-0.50{mark}$ & -- " in text
    assert "\\textbf{1.50}" in text
    assert "over 2 seeds;" in text
    assert "1 comparison." in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_latex_compiles(report, tmp_path):
    _, folder = report
    text = (folder / "report.tex").read_text().replace("Việt", "")  # pdflatex has no ệ in its first encoding
    (tmp_path / "report.tex").write_text(text)
    paper = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{report.tex}\\end{document}"
    )
    (tmp_path / "paper.tex").write_text(paper)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_rows_for_other_programs_have_every_number(report):
    table, folder = report
    with (folder / "results.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["plain", "good", NAMES]
    for variant, row in rows.items():
        expected = table["rows"][variant]
        assert row["data"] == "d"
        assert float(row["BLEU"]) == expected["mean"]
        assert [float(row[f"BLEU seed {seed}"]) for seed in (1, 2, 3)] == expected["each"]
        assert float(row["chrF"]) == expected["further"]["chrF"]["mean"]
        assert row["p Holm"] == ("" if expected["p_corrected"] is None else str(expected["p_corrected"]))
        assert row["verdict"] == expected["verdict"]


def test_the_length_of_the_outputs_is_told(report):
    """As sacreBLEU prints it, the mean of three seeds."""
    table, folder = report
    with (folder / "results.csv").open(newline="") as file:
        rows = {row["variant"]: float(row["length ratio"]) for row in csv.DictReader(file)}
    reference = (folder.parents[1] / "data" / "test.de").read_text().splitlines()
    for variant in ("plain", "good"):
        outputs = (folder.parent / "runs" / "d" / variant).glob("*/test-*.txt")
        each = [BLEU().corpus_score(file.read_text().splitlines(), [reference]) for file in outputs]
        assert len(each) == 3
        ratio = sum(one.sys_len / one.ref_len for one in each) / 3
        assert table["rows"][variant]["length_ratio"] == rows[variant] == pytest.approx(ratio)
    assert rows["plain"] < 0.95 < rows["good"]
    told = (
        f"of the reference, mean over the seeds: plain {rows['plain']:.2f}, good {rows['good']:.2f}, 10 % &"
    )
    assert all(told.replace("&", escaped) in (folder / file).read_text() for file, escaped in ESCAPED.items())


def test_a_seed_that_is_missing_is_empty(compared, tmp_path):
    compared(variants={"plain": None, "bad": {"behave": "fail"}}, fails=True)
    with (tmp_path / "work" / "grid" / "results.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert rows["bad"]["BLEU"] == rows["bad"]["BLEU seed 1"] == ""
    assert "bad & -- & -- &" in (tmp_path / "work" / "grid" / "report.tex").read_text()


def test_a_run_that_still_learns_is_told(compared, tmp_path):
    table, _ = compared(variants={"plain": None, "flat": {"behave": "flat"}})
    assert {name: row["falling"] for name, row in table["rows"].items()} == {"plain": [1, 2, 3], "flat": []}
    for name in ("report.md", "report.html"):
        text = (tmp_path / "work" / "grid" / name).read_text()
        assert "may change the order: plain (seed 1, 2, 3)." in text


def test_the_example_is_a_grid(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main(["--example"])
    assert ended.value.code == 0
    file = tmp_path / "grid.yaml"
    file.write_text(capsys.readouterr().out)
    grid = read_grid(file)
    assert grid.baseline in grid.variants
    assert len(grid.seeds) == 2
