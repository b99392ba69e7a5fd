"""Time and memory of one causal attention, forward and backward, by length: softmax (SDPA) against FAVOR+.

    python examples/favor/speed.py OUTPUT [--lengths 256 1024 …] [--rounds 3] [--device cuda]

Every measurement is a process of its own, rounds interleave the contestants, and the table has medians of the
rounds, their ratio, and the peak of the process's memory above what it held before (CPU: resident set; GPU: the
allocator's).
Writes ``speed.json``, ``speed.md`` and ``speed.svg`` to OUTPUT.
"""

import argparse
import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from skipln_fairseq.common.files import whole, write_text
from skipln_fairseq.nn.attention import Favor, FavorConfig

HEADS, DIM = 4, 64
CONTESTANTS = ("softmax", "favor 64", "favor 256")


def measure(contestant: str, length: int, device: str) -> dict[str, float]:
    """Seconds of the fastest of three forward and backward passes, and the megabytes that they needed."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, HEADS, length, DIM, device=device, requires_grad=True) for _ in range(3))
    if contestant == "softmax":

        def attend():
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        favor = Favor(DIM, FavorConfig(features=int(contestant.split()[1]))).to(device)
        padding = torch.zeros(1, length, dtype=torch.bool, device=device)

        def attend():
            return favor.causal(q * DIM**-0.25, k * DIM**-0.25, v, padding)

    gradient = torch.randn(1, HEADS, length, DIM, device=device)
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for _ in range(3):
        synchronise()
        start = time.perf_counter()
        attend().backward(gradient)
        synchronise()
        seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else after - before
    return {"seconds": min(seconds), "megabytes": memory}


def draw(results: list[dict], output: Path) -> None:
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq's logging would show its debugging
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "favor"})
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), constrained_layout=True)
    for axes, quantity, label in zip(
        panels,
        ("seconds", "megabytes"),
        ("seconds, forward and backward", "MiB above the inputs"),
        strict=True,
    ):
        for contestant, colour, marker in zip(
            CONTESTANTS, ("#D55E00", "#56B4E9", "#0072B2"), "os^", strict=True
        ):
            points = [(r["length"], r[quantity]) for r in results if r["contestant"] == contestant]
            axes.loglog(
                *zip(*points, strict=True), marker=marker, color=colour, label=contestant, markersize=4
            )
        axes.set_xlabel("length")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    with whole(output / "speed.svg") as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None})


def slope(results: list[dict], contestant: str) -> float:
    """Of log seconds against log length, over the longer half of the lengths."""
    points = [(r["length"], r["seconds"]) for r in results if r["contestant"] == contestant]
    points = points[len(points) // 2 - 1 :]
    logs = torch.tensor(points, dtype=torch.float64).log()
    x, y = (logs - logs.mean(0)).unbind(1)
    return (x @ y / (x @ x)).item()


def table(results: list[dict], device: str) -> str:
    by = {(r["contestant"], r["length"]): r for r in results}
    lengths = sorted({r["length"] for r in results})
    lines = [
        "| length | softmax s | favor 64 s (ratio) | favor 256 s (ratio) | softmax MiB | favor 256 MiB |",
        "|" + "---|" * 6,
    ]
    for length in lengths:
        soft, *favors = (by[contestant, length] for contestant in CONTESTANTS)
        times = " | ".join(f"{f['seconds']:.3f} ({soft['seconds'] / f['seconds']:.2f}×)" for f in favors)
        memory = f"{soft['megabytes']:.0f} | {favors[-1]['megabytes']:.0f}"
        lines.append(f"| {length} | {soft['seconds']:.3f} | {times} | {memory} |")
    slopes = ", ".join(f"{c} {slope(results, c):.2f}" for c in CONTESTANTS)
    lines += [
        "",
        f"Slope of log time over log length, longer half: {slopes}. Ratio: softmax's time divided by favor's.",
    ]
    what = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{platform.processor() or platform.machine()}, CPU"
    )
    lines.append(
        f"{what}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {HEADS} heads of {DIM}."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.lengths[0], arguments.device)))
        return
    runs: dict[tuple[str, int], list[dict]] = {}
    for _ in range(arguments.rounds):
        for length in arguments.lengths:
            for contestant in CONTESTANTS:
                command = [sys.executable, __file__, str(arguments.output), "--one", contestant]
                command += ["--lengths", str(length), "--device", arguments.device]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                runs.setdefault((contestant, length), []).append(json.loads(done.stdout.splitlines()[-1]))
    results = [
        {"contestant": contestant, "length": length}
        | {quantity: statistics.median(run[quantity] for run in found) for quantity in found[0]}
        | {"all_seconds": [run["seconds"] for run in found]}
        for (contestant, length), found in runs.items()
    ]
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output / "speed.json", json.dumps(results, indent=1) + "\n")
    write_text(arguments.output / "speed.md", table(results, arguments.device))
    draw(results, arguments.output)
    print(table(results, arguments.device))


if __name__ == "__main__":
    main()
