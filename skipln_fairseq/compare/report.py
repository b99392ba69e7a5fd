"""A summary as ``report.md``, ``report.html``, ``report.tex``, ``results.csv``, ``results.json`` and figures."""

import difflib
import re
from pathlib import Path
from typing import Any

import jinja2

from ..common.files import write_json, write_text
from .curves import draw_curves
from .data import file_name
from .latex import latex
from .rows import as_csv
from .significance import LEARNT, LEVEL, POWER, RESAMPLES, unlearnt

__all__ = ["differing", "write_report"]


def write_report(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write all files into ``folder``. The page holds its figures and opens without a network."""
    figures = {table["name"]: draw_curves(table["curves"], summary["unit"]) for table in summary["data"]}
    names = {name: f"curves-{file_name(name)}.svg" for name in figures}
    for name, figure in figures.items():
        write_text(folder / names[name], figure)
    write_json(folder / "results.json", summary)
    write_text(folder / "results.csv", as_csv(summary))
    write_text(folder / "report.tex", latex(summary))
    commands = [command for table in summary["data"] for command in table["commands"]]
    write_text(folder / "commands.sh", "".join(f"{command}\n" for command in commands))
    constants = {"level": LEVEL, "power": POWER, "resamples": RESAMPLES, "learnt": LEARNT}
    for kind in ("md", "html"):
        template = _environment().get_template(f"report.{kind}.jinja")
        text = template.render(summary, figures=figures, names=names, **constants)
        write_text(folder / f"report.{kind}", text)
    written = ("report.md", "report.html", "report.tex", "results.csv", "results.json", "commands.sh")
    return [folder / name for name in (*written, *names.values())]


def differing(text: str, other: str) -> list[tuple[str, bool]]:
    """The words of ``text`` in runs, each with whether ``other`` lacks it in that place."""
    mine, theirs = text.split(), other.split()
    matcher = difflib.SequenceMatcher(None, theirs, mine, autojunk=False)
    return [
        (" ".join(mine[first:last]), tag != "equal")
        for tag, _, _, first, last in matcher.get_opcodes()
        if first < last
    ]


def _number(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else format(value, form)


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _verdict(row: dict[str, Any]) -> str:
    failed = f"{row['failed']} of {len(row['seeds'])} failed" if row["failed"] else ""
    return "; ".join(part for part in (row["verdict"], failed) if part)


def _tried(losses: dict[str, float | None], value: str) -> str:
    """None is no finite loss."""
    return "–" if value not in losses else "diverged" if losses[value] is None else f"{losses[value]:.3f}"


def _all_tried(table: dict[str, Any], values: list[str]) -> bool:
    """Whether all variants have tried all values of the tuned flag."""
    return all(len(row["losses"]) == len(values) for row in table["rows"].values())


def _without_loss(table: dict[str, Any]) -> list[str]:
    """The variants that had no finite loss with any value."""
    losses = {variant: [*row["losses"].values()] for variant, row in table["rows"].items()}
    return [variant for variant, tried in losses.items() if tried and all(loss is None for loss in tried)]


def _at_edge(table: dict[str, Any]) -> list[str]:
    return [variant for variant, row in table["rows"].items() if row.get("at_edge")]


def _lengths(table: dict[str, Any]) -> str:
    """Of the variants, the length of the outputs over the references'. Old summaries have none."""
    ratios = {variant: row.get("length_ratio") for variant, row in table["rows"].items()}
    return ", ".join(f"{variant} {ratio:.2f}" for variant, ratio in ratios.items() if ratio is not None)


def _wide(table: dict[str, Any]) -> str:
    """The variants whose seeds spread more than the others'. Old summaries have none."""
    return ", ".join(table.get("wider", ()))


def _falling(table: dict[str, Any]) -> str:
    """The runs whose validation loss was lowest at their end."""
    runs = {variant: row["falling"] for variant, row in table["rows"].items() if row.get("falling")}
    return "; ".join(f"{variant} (seed {', '.join(map(str, seeds))})" for variant, seeds in runs.items())


def _early_cell(found: dict[str, Any], variant: str, column: int) -> str:
    """A rank and, if tuned, the value that would have been chosen."""
    rank, values = found["ranks"][variant][column], found["chosen"].get(variant)
    if rank is None:
        return "–"
    return f"{rank} ({values[column]})" if values and values[column] else f"{rank}"


def _cell(text: Any) -> str:
    """Plain text in a table of Markdown."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", str(text))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skipln_fairseq.compare"),
        autoescape=lambda name: name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "p": _p, "cell": _cell}
    environment.globals |= {
        "spread": _spread,
        "verdict": _verdict,
        "differing": differing,
        "at_edge": _at_edge,
        "all_tried": _all_tried,
        "without_loss": _without_loss,
        "falling": _falling,
        "lengths": _lengths,
        "early_cell": _early_cell,
        "tried": _tried,
        "unlearnt": unlearnt,
        "wide": _wide,
    }
    return environment
