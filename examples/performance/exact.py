"""Decode real text with fairseq's operations and with the quick ones, in many ways, and compare every line.

    python examples/performance/exact.py DATA CHECKPOINT [WAY…]

Prints a row for each way: hypotheses, how many differ in their words or alignments, and the largest difference of
scores and of positional scores (base 2, as printed) among the others; then the lines that differ. Exits with 1 where
there are any.
"""

import subprocess
import sys
from dataclasses import dataclass

WAYS = {
    "beam 5, batch 64": "--beam 5 --batch-size 64",
    "beam 1, batch 64": "--beam 1 --batch-size 64",
    "beam 5, batch 1": "--beam 5 --batch-size 1",
    "beam 1, batch 1": "--beam 1 --batch-size 1",
    "5 best": "--beam 5 --nbest 5 --batch-size 64",
    "prefixes of 2": "--beam 5 --prefix-size 2 --batch-size 64",
    "sampling": "--sampling --beam 2 --nbest 2 --seed 7 --batch-size 64",
    "sampling of the best 10": "--sampling --sampling-topk 10 --beam 2 --nbest 2 --seed 7 --batch-size 64",
    "diverse beams": "--beam 4 --nbest 4 --diverse-beam-groups 2 --batch-size 64",
    "retained dropout": "--retain-dropout --beam 2 --seed 7 --batch-size 64",
    "alignments": "--print-alignment --beam 5 --batch-size 64",
    "ensemble": "--beam 5 --batch-size 64",
}


@dataclass
class Hypothesis:
    """As fairseq prints it: of which sentence, its score, its sub-words, the scores of each, and the alignment."""

    sentence: int
    score: float
    words: str
    positions: list[float]
    alignment: str = ""


def decode(data: str, path: str, flags: str, kernels: str) -> list[Hypothesis]:
    """The hypotheses, by sentence and in the order of each sentence's."""
    command = [
        "fairseq-generate",
        data,
        "--user-dir",
        "skipln_fairseq",
        "--cpu",
        "--path",
        path,
        *flags.split(),
    ]
    overrides = ["--model-overrides", f"{{'kernels': '{kernels}'}}"]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=True)
    hypotheses = []
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition("-")
        fields = rest.split("\t")
        if kind == "H":
            hypotheses.append(Hypothesis(int(fields[0]), float(fields[1]), fields[2], []))
        elif kind == "P":
            hypotheses[-1].positions = [float(score) for score in fields[1].split()]
        elif kind == "A":
            hypotheses[-1].alignment = fields[1]
    return sorted(hypotheses, key=lambda one: one.sentence)


def compare(data: str, path: str, way: str) -> tuple[int, list[tuple[Hypothesis, Hypothesis]], float, float]:
    """Hypotheses, those that differ, and the largest differences of scores and positional scores of the others."""
    paths = f"{path}:{path}" if way == "ensemble" else path
    reference, fast = (decode(data, paths, WAYS[way], kernels) for kernels in ("reference", "fast"))
    score = position = 0.0
    differing = []
    for a, b in zip(reference, fast, strict=True):
        if (a.words, a.alignment) != (b.words, b.alignment):
            differing.append((a, b))
            continue
        score = max(score, abs(a.score - b.score))
        pairs = zip(a.positions, b.positions, strict=True)
        position = max(position, *(abs(x - y) for x, y in pairs))
    return len(reference), differing, score, position


def main(data: str, path: str, *ways: str) -> int:
    """Compare the named ways, or all."""
    headings = ("way", "hypotheses", "other words or alignments", "scores differ by", "positional scores by")
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    others = []
    for way in ways or WAYS:
        count, differing, score, position = compare(data, path, way)
        print(f"| {way} | {count} | {len(differing)} | {score:.1e} | {position:.1e} |", flush=True)
        others += [(way, a, b) for a, b in differing]
    for way, a, b in others:
        print(f"{way}, sentence {a.sentence}:\n  {a.score:.6f} {a.words}\n  {b.score:.6f} {b.words}")
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
