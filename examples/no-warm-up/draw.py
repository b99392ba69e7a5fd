"""Learning curves of run.sh's logs: ``python examples/no-warm-up/draw.py WORK/no-warm-up OUTPUT.svg``."""

import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from skipln_fairseq.common.files import whole

NAMES = {
    "post": "Post-LN",
    "post-warm-up": "Post-LN, 300 updates of warm-up",
    "rskip-2": "rSkip+LN, order 2",
    "rskip-3": "rSkip+LN, order 3",
    "admin": "Admin",
    "deepnorm": "DeepNorm",
    "pre": "Pre-LN",
}
# Okabe and Ito's colours: distinct with any colour vision
COLOURS = ["#D55E00", "#999999", "#0072B2", "#56B4E9", "#E69F00", "#CC79A7", "#009E73"]


def curve(log: Path, kind: str, loss: str, updates: str) -> list[tuple[int, float]]:
    """(update, loss in bits a token) of every entry that fairseq-train logged as *kind*."""
    entries = map(json.loads, re.findall(rf"\| {kind} \| (\{{.*\}})", log.read_text(encoding="utf-8")))
    return [(int(entry[updates]), float(entry[loss])) for entry in entries]


def main(folder: Path, output: Path) -> None:
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "no-warm-up"})
    figure, axes = plt.subplots(figsize=(6.4, 3.8), constrained_layout=True)
    for (name, title), colour in zip(NAMES.items(), COLOURS, strict=True):
        log = folder / f"{name}.log"
        if not log.exists():
            print(f"{title}: not trained")
            continue
        points = curve(log, "valid", "valid_nll_loss", "valid_num_updates")
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=title, markersize=3, linewidth=1.3)
        print(f"{title}: validation {points[-1][1]:.2f} bits a token after {points[-1][0]} updates")
    axes.set_xlabel("updates")
    axes.set_ylabel("validation loss, bits a token")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    with whole(output) as beside:
        figure.savefig(beside, format=output.suffix[1:], metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
