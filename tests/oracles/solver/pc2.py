"""Li et al. 2024: a prediction, then E of a mean with the outputs before, and a mean of its result with these."""

from .ema2 import solve as predict


def correct(run, prediction, numbers, history, norms):
    rough, refined = norms
    before, after = numbers["predicted"], numbers["corrected"]
    assert len(before) == len(after) == len(history) + 1
    terms = [*history, rough(prediction)]
    corrected = refined(run(sum(w * z for w, z in zip(before, terms, strict=True))))
    history.append(corrected)
    return sum(w * z for w, z in zip(after, history, strict=True))


def solve(run, y, numbers, per_block, history, norms):
    if not history:
        history.append(y)
    return correct(run, predict(run, y, numbers, per_block), numbers, history, norms)
