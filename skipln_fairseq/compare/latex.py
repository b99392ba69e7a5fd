"""The tables of a summary in LaTeX, to be taken into a paper: ``\\input{report.tex}``."""

from typing import Any

import jinja2
from pylatexenc.latexencode import UnicodeToLatexEncoder

from .significance import LEARNT, LEVEL, unlearnt

__all__ = ["MARKS", "latex"]

# of p after Holm's correction, the strictest first
MARKS = (("\\ddagger", 0.01), ("\\dagger", LEVEL))

# what LaTeX has no name for, as Chinese, is left to engines that read Unicode
_ENCODER = UnicodeToLatexEncoder(unknown_char_policy="keep", unknown_char_warning=False)


def latex(summary: dict[str, Any]) -> str:
    """One table for each data set: the score of each variant, its difference, the further scores and the loss.

    The best mean is bold. A difference that is significant after Holm's correction has a mark. The caption explains it.
    """
    return _environment().get_template("report.tex.jinja").render(summary, marks=MARKS, learnt=LEARNT)


def _best(table: dict[str, Any]) -> float | None:
    """The highest mean of the score in a table."""
    return max((row["mean"] for row in table["rows"].values() if row["mean"] is not None), default=None)


def _score(row: dict[str, Any], best: float | None) -> str:
    """Mean ± deviation, the best mean in bold."""
    if row["mean"] is None:
        return "--"
    mean = f"{row['mean']:.2f}"
    mean = f"\\textbf{{{mean}}}" if row["mean"] == best else mean
    return mean if row["deviation"] is None else f"{mean} $\\pm$ {row['deviation']:.2f}"


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "--"
    p = row["p_corrected"]
    marks = (f"^{{{mark}}}" for mark, level in MARKS if p is not None and p < level)
    return f"${row['difference']:+.2f}{next(marks, '')}$"


def _text(value: Any) -> str:
    return _ENCODER.unicode_to_latex(str(value))


def _first_cell(value: Any) -> str:
    """Text that begins a row. A bracket or a star there would belong to the end of the line before."""
    return "{}" * str(value).startswith(("[", "*")) + _text(value)


def _number(value: float | None, form: str = ".2f") -> str:
    return "--" if value is None else format(value, form)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skipln_fairseq.compare"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # braces and percent signs are LaTeX's own
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= {"text": _text, "first_cell": _first_cell, "number": _number}
    environment.globals |= {
        "best": _best,
        "score_of": _score,
        "difference_of": _difference,
        "unlearnt": unlearnt,
    }
    return environment
