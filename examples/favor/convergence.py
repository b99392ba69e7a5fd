"""How near FAVOR+ comes to softmax attention with more features: ``python examples/favor/convergence.py OUTPUT.svg``.

Values are drawn from N(0, 1), queries and keys from N(0, 1/4) (at N(0, 1), where exp(‖x + y‖²) is about e¹⁶ on average,
4,096 features are still too few), 512 positions, one head of 64; the error is the root mean square of the difference of
the outputs divided by that of softmax's, means and ranges over 15 draws of ω.
"""

import logging
import sys
from pathlib import Path

import matplotlib
import torch

from skipln_fairseq.common.files import whole
from skipln_fairseq.nn.attention import Favor, FavorConfig

matplotlib.use("Agg")
logging.getLogger("matplotlib").setLevel(logging.WARNING)
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a backend that needs no display)

FEATURES = (16, 64, 256, 1024, 4096)
CURVES = {
    "positive, orthogonal": (FavorConfig(), "#0072B2", "o-"),
    "positive, independent": (FavorConfig(orthogonal=False), "#56B4E9", "s--"),
    "hyperbolic, orthogonal": (FavorConfig(kernel="hyperbolic"), "#009E73", "^-"),
    "trigonometric, orthogonal": (FavorConfig(kernel="trigonometric"), "#D55E00", "v-"),
}


@torch.no_grad()
def errors(config: FavorConfig, features: int) -> torch.Tensor:
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 1, 1, 512, 64)
    q, k = q / 2, k / 2
    exact = (q @ k.transpose(-1, -2) / 8).softmax(-1) @ v
    padding = torch.zeros(1, 512, dtype=torch.bool)
    found = []
    for seed in range(15):
        favor = Favor(64, FavorConfig(config.kernel, features, config.orthogonal, seed=seed))
        out = favor(q * 64**-0.25, k * 64**-0.25, v, padding)
        found.append((out - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    return torch.stack(found)


def main(output: Path) -> None:
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "favor"})
    figure, axes = plt.subplots(figsize=(5.4, 3.6), constrained_layout=True)
    for name, (config, colour, style) in CURVES.items():
        found = torch.stack([errors(config, features) for features in FEATURES])
        axes.loglog(FEATURES, found.mean(1), style, color=colour, label=name, markersize=4)
        axes.fill_between(FEATURES, found.amin(1), found.amax(1), color=colour, alpha=0.15)
        print(name, [f"{m}: {error:.3f}" for m, error in zip(FEATURES, found.mean(1).tolist(), strict=True)])
    axes.set_xlabel("ω vectors, m")
    axes.set_ylabel("relative error of the output")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with whole(output) as beside:
        figure.savefig(beside, format=output.suffix[1:], metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
