"""Time the cross-entropies' two forms, in turns: ``OMP_NUM_THREADS=1 python examples/performance/cross_entropies.py``.

Forward and backward of 2,048 tokens; medians of nine rounds in milliseconds, and the median of the rounds' ratios.
"""

import statistics
import time

import torch

from skipln_fairseq.nn.kernels.cross_entropy import blocks, cpu

ROUNDS = 9
TOKENS = 2048
FORMS = {"torch's operations": blocks, "C": cpu}


def milliseconds(form, logits, target):
    """Of one forward and backward, which writes over the logits."""
    ones = torch.ones(TOKENS)
    start = time.perf_counter()
    _, _, log_sum = form.forward(logits, target, 1)
    form.backward_(logits, target, 1, log_sum, ones, 1e-5 * ones)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    torch.manual_seed(1)
    print(f"| words | type | {' ms | '.join(FORMS)} ms | ratio |\n| ---: | --- | ---: | ---: | ---: |")
    for words in (4_000, 10_000, 32_000):
        drawn, target = torch.randn(TOKENS, words), torch.randint(2, words, (TOKENS,))
        for dtype in (torch.float32, torch.bfloat16):
            times = {name: [] for name in FORMS}
            for _ in range(ROUNDS):
                for name, form in FORMS.items():
                    times[name].append(milliseconds(form, drawn.to(dtype, copy=True), target))
            ratio = statistics.median(ours / theirs for theirs, ours in zip(*times.values(), strict=True))
            shown = " | ".join(f"{statistics.median(of_form):.1f}" for of_form in times.values())
            print(f"| {words:,} | {str(dtype).removeprefix('torch.')} | {shown} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
