"""Decode real text with fairseq's operations and with the quick ones, in many ways, and compare every line.

    python examples/performance/exact.py DATA CHECKPOINT

Prints a row for each way: hypotheses, how many differ in their words, and the largest difference of scores and of
positional scores (base 2, as printed) among the others. Exits with 1 where words differ.
"""

import subprocess
import sys

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


def decode(data: str, path: str, flags: str, kernels: str) -> list[list[str]]:
    """The lines of hypotheses, positional scores and alignments, in their order by sentence."""
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
    lines = [line.split("\t") for line in done.stdout.splitlines() if line[:2] in ("H-", "P-", "A-")]
    return sorted(lines, key=lambda line: (int(line[0][2:]), line[0][0]))


def compare(one: list[list[str]], other: list[list[str]]) -> tuple[int, int, float, float]:
    """Hypotheses, how many differ, and the largest differences of scores and positional scores."""
    hypotheses = differing = 0
    score = position = 0.0
    same = True
    for a, b in zip(one, other, strict=True):
        if a[0].startswith("A-"):
            continue  # they come before their sentence's hypotheses, and are compared as words below
        if a[0].startswith("H-"):
            hypotheses += 1
            same = a[2] == b[2]
            differing += not same
            if same:
                score = max(score, abs(float(a[1]) - float(b[1])))
        elif same:
            pairs = zip(a[1].split(), b[1].split(), strict=True)
            position = max(position, *(abs(float(x) - float(y)) for x, y in pairs))
    differing += sum(a != b for a, b in zip(one, other, strict=True) if a[0].startswith("A-"))
    return hypotheses, differing, score, position


def main(data: str, path: str) -> int:
    """Compare all ways."""
    worst = 0
    headings = ("way", "hypotheses", "other words or alignments", "scores differ by", "positional scores by")
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for way, flags in WAYS.items():
        paths = f"{path}:{path}" if way == "ensemble" else path
        found = compare(*(decode(data, paths, flags, kernels) for kernels in ("reference", "fast")))
        print(f"| {way} | {found[0]} | {found[1]} | {found[2]:.1e} | {found[3]:.1e} |", flush=True)
        worst = max(worst, found[1])
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
