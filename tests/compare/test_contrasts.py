"""Pairs of variants that a grid compares besides those with the baseline."""

import numpy as np
import pytest

from skipln_fairseq.compare.contrasts import compare
from skipln_fairseq.compare.significance import Spread, of_both, over_examples, over_seeds


class Cell:
    """A score, and the same for each of 40 examples but for some chance."""

    score = "BLEU"

    def __init__(self, mean, seed):
        self._each = mean + np.random.default_rng(seed).normal(size=(40, 1))

    def result(self):
        return {"scores": {"BLEU": float(self._each.mean())}}

    def statistics(self):
        return self._each

    def scored(self, sums):
        return float(sums[0]) / 40


CELLS = {
    name: {seed: Cell(mean, 10 * number + seed) for seed in seeds}
    for number, (name, mean, seeds) in enumerate(
        [("a", 10.0, (1, 2, 3)), ("b", 14.0, (1, 2, 3)), ("c", 14.0, (2, 3, 4)), ("none", 0.0, ())]
    )
}
NONE = ()
POOL = Spread(0.2, 6)


def test_a_pair_has_the_difference_and_the_tests_of_its_two_variants():
    found, errors = compare([("b", "a")], CELLS, NONE, POOL)
    row = found["b", "a"]
    sides = [[CELLS[name][seed] for seed in (1, 2, 3)] for name in ("a", "b")]
    scores = [[cell.result()["scores"]["BLEU"] for cell in side] for side in sides]
    assert row["difference"] == pytest.approx(np.mean(scores[1]) - np.mean(scores[0]))
    p_examples, error = over_examples(
        *(sum(c.statistics() for c in side) for side in sides), sides[0][0].scored
    )
    by_seeds = over_seeds(*scores, POOL)
    assert errors == [error]
    assert (row["p_examples"], row["p_seeds"]) == (p_examples, by_seeds.p(row["difference"]))
    assert row["p"] == row["p_corrected"] == of_both(by_seeds, error, row["difference"])
    assert row["verdict"] == "better"
    other = compare([("a", "b")], CELLS, NONE, POOL)[0]["a", "b"]
    assert (other["difference"], other["verdict"]) == (-row["difference"], "worse")


def test_p_is_corrected_over_the_pairs_that_are_asked_for_also_where_one_is_missing():
    one = compare([("c", "b")], CELLS, NONE, POOL)[0]["c", "b"]
    three, _ = compare([("c", "b"), ("none", "a"), ("none", "b")], CELLS, NONE, POOL)
    assert three["c", "b"]["p_corrected"] == min(1, 3 * one["p"])
    assert three["none", "a"]["verdict"] == "missing"
    assert three["none", "a"]["p"] is three["none", "a"]["difference"] is None


def test_the_seeds_that_both_have_are_compared():
    row = compare([("c", "b")], CELLS, NONE, POOL)[0]["c", "b"]
    means = [np.mean([CELLS[name][seed].result()["scores"]["BLEU"] for seed in (2, 3)]) for name in "bc"]
    assert row["difference"] == pytest.approx(means[1] - means[0])


def test_a_pair_of_a_variant_that_is_left_alone_has_its_own_spread():
    pairs = [("b", "a")]
    alone, errors = compare(pairs, CELLS, ["a"], POOL)
    assert errors == []
    without, _ = compare(pairs, CELLS, NONE, None)
    assert alone["b", "a"] == without["b", "a"]
    assert alone["b", "a"]["p_seeds"] != compare(pairs, CELLS, NONE, POOL)[0]["b", "a"]["p_seeds"]


def test_the_report_shows_the_pairs_of_the_grid(compared, tmp_path):
    table, _ = compared(contrasts=[["good", "same"]])
    (good,) = table["contrasts"]
    assert (good["variant"], good["against"], good["verdict"]) == ("good", "same", "better")
    assert good["difference"] == pytest.approx(table["rows"]["good"]["mean"] - table["rows"]["same"]["mean"])
    folder = tmp_path / "work" / "grid"
    row = f"| good | same | {good['difference']:+.2f} |"
    assert row in (folder / "report.md").read_text()
    assert '<td>good</td><td class="text">same</td>' in (folder / "report.html").read_text()
    compared()
    assert "| against |" not in (folder / "report.md").read_text()
