"""The tables of a summary as rows of numbers: ``results.csv``."""

import csv
import io
from typing import Any

__all__ = ["as_csv"]


def as_csv(summary: dict[str, Any]) -> str:
    """One row for each data set and variant; what is not known is empty.

    Columns: the score's mean, its deviation, its value for each seed, the difference to the baseline, the three p, the
    verdict, the further scores, the length of the outputs over the references', the losses in bits, and what the
    training took.
    """
    rows = [
        _row(summary, table["name"], variant, row)
        for table in summary["data"]
        for variant, row in table["rows"].items()
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(summary: dict[str, Any], data: str, variant: str, row: dict[str, Any]) -> dict[str, Any]:
    score, unit = summary["score"], summary["unit"]
    each = dict(zip(row["seeds"], row["each"], strict=True))
    columns = {"data": data, "variant": variant, score: row["mean"], f"{score} deviation": row["deviation"]}
    columns |= {f"{score} seed {seed}": each.get(seed) for seed in summary["seeds"]}
    columns |= {"difference": row["difference"], "p examples": row["p_examples"], "p seeds": row["p_seeds"]}
    columns |= {"p Holm": row["p_corrected"], "verdict": row["verdict"], "failed": row["failed"]}
    for name in summary["further"]:
        columns |= {
            name: row["further"][name]["mean"],
            f"{name} deviation": row["further"][name]["deviation"],
        }
    columns["length ratio"] = row.get("length_ratio")  # which summaries once had not
    columns |= {"validation loss": row["loss"], "training loss": row["train_loss"]}
    columns |= {"parameters": row["parameters"]}
    columns |= {f"{unit}s per second": row["tokens_per_second"], "peak bytes": row["peak_bytes"]}
    if summary["tuned"]:
        columns[summary["tuned"]["flag"]] = row["chosen"]
    return columns
