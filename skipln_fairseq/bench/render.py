"""A report as tables: in the terminal, and in Markdown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "LAYOUTS", "MEBIBYTE", "Layout", "header", "markdown", "print_report", "rows"]

MEBIBYTE = 2**20
KINDS = {
    "matrix products": r"aten::(add)?mm|aten::linear.*|aten::matmul",
    "attention": r".*scaled_dot_product.*|.*_WrittenOut.*|aten::(baddb|b)mm|aten::_softmax.*",
    "skips and norms": r".*_Leave.*|skipln::leave.*|.*layer_norm.*",
    "dropout": r"aten::bernoulli_|.*dropout.*",
    "loss": r".*log_softmax.*|.*_CrossEntropies.*|skipln::cross_entropies.*"
    r"|aten::(exp_?|gather|scatter.*|amax|logsumexp)",
    "copies": r"aten::(copy_|fill_|zero_|cat|clone|index_select|embedding.*)",
    "optimiser": r"aten::(addcdiv_|addcmul_|sqrt|sqrt_|linalg_vector_norm|_foreach.*)",
}
"""What an operator counts as, by its name; the others, sums and products of elements most of all, are ``rest``."""


@dataclass(frozen=True)
class Layout:
    """The columns of a kind of report.

    Attributes:
        headings: of all columns; the first one is what is compared.
        row: a run's cells, from the run and the report's settings.
        explanation: what the columns mean.
    """

    headings: tuple[str, ...]
    row: Callable[[dict[str, Any], dict[str, Any]], tuple[str, ...]]
    explanation: str


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (format(value, form) for value in values)
    return middle if low == high else f"{middle} ({low}–{high})"


def _milliseconds(seconds: Sequence[float], share: int = 1) -> str:
    values = [1000 * value / share for value in seconds]
    return _spread(values, ".0f" if values[0] >= 100 else ".1f" if values[0] >= 10 else ".2f")


def _training(run: dict[str, Any], settings: dict[str, Any]) -> tuple[str, ...]:
    summary, resident = run["summary"], run["bytes"]["resident"]
    return (
        run["contestant"],
        _milliseconds(summary["seconds"], settings["batches"]),
        f"{summary['tokens_per_second']:,.0f}",
        _spread(summary["time_ratio"], ".3f"),
        _spread(summary["cpu_ratio"], ".3f"),
        f"{summary['peak_bytes'] / MEBIBYTE:,.0f}",
        f"{summary['peak_ratio']:.3f}",
        "" if resident is None else f"{resident / MEBIBYTE:,.0f}",
    )


def _family(run: dict[str, Any], settings: dict[str, Any]) -> tuple[str, ...]:
    summary = run["summary"]
    return (
        run["contestant"],
        run["stream"],
        _milliseconds(summary["seconds"], settings["batches"]),
        _spread(summary["time_ratio"], ".2f"),
        _spread(summary["cpu_ratio"], ".2f"),
        _milliseconds(summary["decode_seconds"], settings["batches"]),
        _spread(summary["decode_ratio"], ".2f"),
        f"{summary['peak_ratio']:.2f}",
    )


def _decoding(run: dict[str, Any], settings: dict[str, Any]) -> tuple[str, ...]:
    summary, resident = run["summary"], run["bytes"]["resident"]
    return (
        run["contestant"],
        f"{summary['sentences_per_second']:,.1f}",
        _spread([1 / value for value in _outside_in(summary["time_ratio"])], ".2f"),
        f"{summary['peak_bytes'] / MEBIBYTE:,.0f}",
        "" if resident is None else f"{resident / MEBIBYTE:,.0f}",
    )


def _outside_in(interval: Sequence[float]) -> Sequence[float]:
    """So that its inverse has the lower end first."""
    middle, low, high = interval
    return middle, high, low


def _leave(run: dict[str, Any], settings: dict[str, Any]) -> tuple[str, ...]:
    summary = run["summary"]
    return (
        run["contestant"],
        _milliseconds(summary["forward_seconds"]),
        _spread(summary["forward_share"], ".0%"),
        _milliseconds(summary["backward_seconds"]),
        _spread(summary["backward_share"], ".0%"),
        _spread(summary["time_ratio"], ".3f"),
    )


def _profile(run: dict[str, Any], settings: dict[str, Any]) -> tuple[str, ...]:
    kinds = run["milliseconds"]
    return run["contestant"], *(f"{value:,.0f}" for value in (sum(kinds.values()), *kinds.values()))


INTERVAL = "the median of pairs of one round and its 95 % interval (below 6 rounds: least and greatest)"
LAYOUTS = {
    "profile": Layout(
        ("contestant", "ms a step", *KINDS, "rest"),
        _profile,
        "Milliseconds of torch's operators themselves in a step of the median round; the profiler adds some",
    ),
    "training": Layout(
        ("contestant", "ms a step", "tokens/s", "time ×", "CPU ×", "MiB", "MiB ×", "RSS+"),
        _training,
        f"Times come with quartiles, tokens are real target tokens; ×: ratio to the first row, {INTERVAL}; MiB: "
        "tensors at their peak; RSS+: what the resident set grew since before the first step, MiB",
    ),
    "family": Layout(
        ("member", "stream", "ms a step", "time ×", "CPU ×", "ms a search", "time ×", "MiB ×"),
        _family,
        "Times come with quartiles; a step is an update of a training, a search what fairseq-generate does with a "
        "batch, its number of steps fixed; ×: ratio to the Post-LN that took turns with the member, "
        f"{INTERVAL}; MiB ×: tensors at their peak in an update; stream: what walks from sub-layer to sub-layer",
    ),
    "decoding": Layout(
        ("contestant", "sentences/s", "speed ×", "MiB", "RSS+"),
        _decoding,
        f"Speed ×: ratio of speeds to the first row, {INTERVAL}; MiB: parameters, what they are packed into, and "
        "torch's tensors at their peak (of CTranslate2 the model's file alone); RSS+: what the resident set grew since "
        "the model was loaded, MiB",
    ),
    "leave": Layout(
        ("form", "forward ms", "of copy", "backward ms", "of copy", "time ×"),
        _leave,
        "Times come with quartiles; of copy: bytes a second as a share of those of a copy of one tensor, of the 3 "
        "tensors that a forward has to move (F(x), x, y) and the 5 of a backward (dy, F(x), x, dF(x), dx); ×: ratio "
        f"to the first row, forward and backward; shares and ratios are {INTERVAL}",
    ),
}


def header(report: dict[str, Any]) -> str:
    """One line: command, settings and machine."""
    settings, where = report["settings"], report["where"]
    told = (
        report["command"],
        f"seed {settings['seed']}",
        *((f"lengths {report['lengths']}",) if report["kind"] in ("training", "family") else ()),
        *(
            ("searches: " + ", ".join(f"{n} {what}" for what, n in report["searches"].items()),)
            if "searches" in report
            else ()
        ),
        where["device"],
        *((f"as if it had {settings['isa']} at most",) if settings.get("isa", "native") != "native" else ()),
        f"{settings['threads']} thread(s)",
        f"torch {where['torch']}",
        where["date"],
    )
    return "; ".join(told)


def rows(report: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """For every heat its name, and a row of cells for every run."""
    row, axis = LAYOUTS[report["kind"]].row, report["axis"]
    for heat in report["heats"]:
        place = heat["shape"] if axis is None else f"{heat['shape']}, {axis} {heat['value']}"
        yield place, [row(run, report["settings"]) for run in heat["runs"]]


def markdown(report: dict[str, Any]) -> str:
    """One table, with the header and what the columns mean below it."""
    layout = LAYOUTS[report["kind"]]
    first = "shape" if report["axis"] is None else f"shape, {report['axis']}"
    lines = [
        (first, *layout.headings),
        ("---", "---", *(["---:"] * (len(layout.headings) - 1))),
        *((place, *row) for place, found in rows(report) for row in found),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    told = header(report).removeprefix(report["command"])
    return f"{table}\n`{report['command']}`{told}. {layout.explanation}.\n"


def print_report(report: dict[str, Any], console) -> None:
    """Print the header and a table of every heat to a rich console."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    layout = LAYOUTS[report["kind"]]
    console.print(header(report), highlight=False, soft_wrap=True)
    for place, found in rows(report):
        table = Table(
            title=place, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for number, heading in enumerate(layout.headings):
            table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
        for row in found:
            table.add_row(*(cell.replace(" (", "\n").rstrip(")") for cell in row))
        console.print(table)
    console.print(f"{layout.explanation}.", highlight=False)
