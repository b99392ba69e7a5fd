"""What a corpus of millions of lines costs: start-up, memory and speed, in one folder and in parts, by processes.

    python examples/large-data/measure.py --pairs 3000000 --parts 4 --updates 200

It generates the lines, binarises them, trains a tiny model on CPUs in each way, and writes ``measured.json``. Data that
are there are not made again: the trainings alone are repeated where the machine was not quiet.
"""

import argparse
import io
import json
import logging
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from skipln_fairseq.common.files import write_json, write_text
from skipln_fairseq.recipes.generator import generate
from skipln_fairseq.runs import progress, run
from skipln_fairseq.runs.machine import where

LANGS = ("en", "de")
MODEL = (
    *("--arch", "transformer_rskip_tiny", "--share-all-embeddings", "--optimizer", "adam", "--lr", "0.001"),
    *("--max-tokens", "2048", "--cpu", "--num-workers", "0", "--no-save", "--disable-validation"),
    *("--log-format", "json", "--log-interval", "10", "--seed", "1"),
)


def prepare(folder: Path, pairs: int, parts: int, workers: int) -> dict[str, float]:
    """Text and binary data, whole and in parts of one dictionary; gives seconds."""
    seconds = {"generate": time.perf_counter()}
    for number in range(parts):
        text = folder / f"text-{number}"
        text.mkdir(parents=True)
        sides = zip(*generate(pairs // parts, seed=number), strict=True)
        for lang, lines in zip(LANGS, sides, strict=True):
            (text / f"train.{lang}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    whole = folder / "text-whole"
    whole.mkdir()
    for lang in LANGS:
        with (whole / f"train.{lang}").open("wb") as file:
            for number in range(parts):
                with (folder / f"text-{number}" / f"train.{lang}").open("rb") as part:
                    shutil.copyfileobj(part, file)
    seconds["generate"] = time.perf_counter() - seconds["generate"]
    for name in ("whole", *map(str, range(parts))):
        dictionary = () if name == "whole" else ("--srcdict", str(folder / "whole" / "dict.en.txt"))
        command = ["fairseq-preprocess", "--user-dir", "skipln_fairseq", "-s", "en", "-t", "de"]
        command += ["--joined-dictionary", "--trainpref", str(folder / f"text-{name}" / "train"), *dictionary]
        command += ["--destdir", str(folder / name), "--workers", str(workers)]
        usage = run(command, folder / "preprocess.log")
        seconds["preprocess" if name == "whole" else f"preprocess {name}"] = usage.seconds
        if name == "whole":
            seconds["preprocess MiB"] = usage.peak_bytes / 2**20
    return seconds


def resident(process: int) -> float:
    """MiB of the largest of a process and all below it."""
    found = [_private(process)]
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            found += [resident(int(child)) for child in (task / "children").read_text().split()]
    return max(found)


def _private(process: int) -> float:
    """Its own pages. What it reads of a mapped file is the system's cache, which gives way to anything else."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024


def train(data: str, processes: int, updates: int, folder: Path) -> dict[str, object]:
    """Seconds to the first update, memory of the largest process over the updates, tokens in a second."""
    launcher = ["torchrun", "--nproc_per_node", str(processes), "--no-python"] if processes > 1 else []
    command = [*launcher, "fairseq-train", data, "--user-dir", "skipln_fairseq", *MODEL]
    command += ["--max-update", str(updates), "--save-dir", str(folder / "none")]
    command += ["--distributed-world-size", str(processes)]
    start, pid, first, memory, speeds = time.perf_counter(), 0, None, {}, []

    def started(process) -> None:
        nonlocal pid
        pid = process.pid

    def on_line(line: str) -> None:
        nonlocal first
        told = progress(line)
        if told and "train_inner" in line:
            first = first or time.perf_counter() - start
            memory[told[0]] = resident(pid)
            speeds.append(float(json.loads(line[line.index("{") :])["wps"]))

    run(command, folder / f"train-{processes}.log", on_line, on_start=started)
    order = sorted(memory)
    return {
        "seconds to update 10": first,
        "MiB at update": {n: round(memory[n]) for n in (order[0], order[len(order) // 2], order[-1])},
        "tokens/s": sorted(speeds)[len(speeds) // 2],
    }


def draw(rows: dict[tuple[str, int], dict[str, object]]) -> str:
    """An SVG picture of the tokens in a second and of the seconds to the start, over processes."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq lets all speak
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("tokens/s", "seconds to update 10"), strict=True):
        for data in dict.fromkeys(name for name, _ in rows):
            points = [(processes, found[key]) for (name, processes), found in rows.items() if name == data]
            axes.plot(*zip(*points, strict=True), marker="o", label=data)
        axes.set(title=key, xlabel="processes", xticks=sorted({processes for _, processes in rows}))
        axes.set_ylim(bottom=0)
        axes.legend()
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "large-data", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3_000_000)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="of fairseq-preprocess")
    parser.add_argument("--folder", type=Path, default=Path("runs/large-data"))
    args = parser.parse_args()
    made_of = {"pairs": args.pairs, "parts": args.parts, "workers": args.workers}
    prepared = args.folder / "prepared.json"  # written last
    if not prepared.exists() or json.loads(prepared.read_text())["of"] != made_of:
        shutil.rmtree(args.folder, ignore_errors=True)
        write_json(prepared, {"of": made_of, "seconds": prepare(args.folder, **made_of)})
    seconds = json.loads(prepared.read_text())["seconds"]
    print({name: round(number, 1) for name, number in seconds.items()}, flush=True)
    whole = str(args.folder / "whole")
    parts = os.pathsep.join(str(args.folder / str(number)) for number in range(args.parts))
    rows = {}
    for name, data in (("whole", whole), (f"{args.parts} parts", parts)):
        for processes in (1, 2):
            rows[name, processes] = found = train(data, processes, args.updates, args.folder)
            print(name, processes, found, flush=True)
    size = sum(file.stat().st_size for file in Path(whole).iterdir()) / 2**20
    report = {
        "command": " ".join(sys.argv),
        "pairs": args.pairs,
        "whole MiB": round(size),
        "where": where("cpu"),
    }
    trained = [{"data": name, "processes": processes, **found} for (name, processes), found in rows.items()]
    write_json(args.folder / "measured.json", {**report, "prepared": seconds, "trained": trained})
    write_text(args.folder / "measured.svg", draw(rows))


if __name__ == "__main__":
    main()
