"""The order of the variants after fewer updates."""

import pytest
from scipy import stats

from skipln_fairseq.compare.early_ranks import early_ranks

FAST = [(100, 4.0), (200, 3.9), (400, 3.9), (800, 3.8)]
SLOW = [(100, 6.0), (200, 4.0), (400, 3.5), (800, 3.6)]
MIDDLE = [(100, 5.0), (200, 4.5), (400, 3.7), (800, 3.0)]


def test_ranks_are_of_the_lowest_loss_until_then():
    found = early_ranks({"fast": [FAST], "slow": [SLOW], "middle": [MIDDLE]}, {})
    assert found["updates"] == [100, 200, 400, 800]
    assert found["ranks"] == {"fast": [1, 1, 3, 3], "slow": [3, 2, 1, 2], "middle": [2, 3, 2, 1]}
    assert found["chosen"] == {}


def test_tau_compares_with_the_last_order():
    found = early_ranks({"fast": [FAST], "slow": [SLOW], "middle": [MIDDLE]}, {})
    last = [3, 2, 1]
    assert found["tau"] == pytest.approx(
        [stats.kendalltau(order, last).statistic for order in ([1, 3, 2], [1, 2, 3], [3, 1, 2], last)]
    )
    assert found["tau"] == pytest.approx([-1 / 3, -1, 1 / 3, 1])


def test_the_mean_over_seeds_decides():
    """The lowest seed would put a first, the highest would put b first."""
    seeds = {"a": [1.0, 4.0], "b": [2.0], "c": [1.5, 2.4]}
    found = early_ranks(
        {name: [[(1, loss), (2, loss)] for loss in losses] for name, losses in seeds.items()}, {}
    )
    assert found["ranks"] == {"a": [3, 3], "b": [2, 2], "c": [1, 1]}


def test_equals_share_a_rank_and_have_no_tau():
    found = early_ranks({"a": [[(1, 3.0), (2, 3.0)]], "b": [[(1, 3.0), (2, 3.0)]]}, {})
    assert found["ranks"] == {"a": [1, 1], "b": [1, 1]}
    assert found["tau"] == [None, None]


def test_a_training_that_ended_keeps_its_best():
    found = early_ranks({"ended": [[(2, 3.0), (4, 3.5)]], "long": [[(2, 4.0), (4, 3.4), (8, 3.2)]]}, {})
    assert found["updates"] == [2, 4, 8]
    assert found["ranks"] == {"ended": [1, 1, 1], "long": [2, 2, 2]}


def test_a_seed_without_a_loss_has_no_rank():
    found = early_ranks({"a": [[(1, 3.0), (4, 2.0)], []], "b": [[(1, 4.0), (4, 1.0)]]}, {})
    assert found["ranks"] == {"a": [None, None, None], "b": [1, 1, 1]}


def test_the_value_that_tuning_would_have_chosen():
    curves = {"a": [FAST], "b": [SLOW], "none": [[]]}
    tried = {"a": {"0.1": SLOW, "0.2": FAST, "0.9": []}, "b": {"0.1": [], "0.2": []}, "none": {"0.1": []}}
    found = early_ranks(curves, tried)
    assert found["chosen"] == {"a": ["0.2", "0.2", "0.1", "0.1"], "b": [None] * 4}
    assert "none" not in found["ranks"]


def test_tau_is_of_those_that_have_a_rank_in_both():
    """Two that change places; two others have a seed without a curve."""
    half = {name: [[(1, 9.0), (2, 9.0)], []] for name in ("b", "d")}
    found = early_ranks({"a": [[(1, 4.0), (2, 3.8)]], "c": [[(1, 5.0), (2, 1.0)]], **half}, {})
    assert found["tau"] == pytest.approx([-1, 1])
    alone = early_ranks({"a": [[(1, 4.0), (2, 3.8)]], **half}, {})
    assert alone["tau"] == [None, None]


@pytest.mark.parametrize(
    "curves", [{}, {"a": [FAST]}, {"a": [FAST], "b": [[]]}, {"a": [[(5, 1.0)]], "b": [[(5, 2.0)]]}]
)
def test_nothing_to_compare(curves):
    assert early_ranks(curves, {}) is None


def test_no_order_before_all_were_validated():
    """The first half of the length lies before the first validation of one run of b."""
    for late in ([[(400, 3.0), (800, 2.0)]], [FAST, [(400, 3.0), (800, 2.0)]]):
        assert early_ranks({"a": [FAST], "b": late}, {})["updates"] == [400, 800]


@pytest.mark.parametrize("tune", [None, {"flag": "lr", "values": [1.0, 2.0], "seed": 1}])
def test_a_report_has_the_order(compared, tmp_path, tune):
    changes = {"tune": tune, "train": {"arch": "a"}} if tune else {}
    table, _ = compared(variants={"plain": None, "good": {"good": True}}, **changes)
    assert table["early_ranks"]["updates"] == [1, 3]
    assert table["early_ranks"]["ranks"] == {"plain": [1, 1], "good": [1, 1]}
    assert bool(table["tuning_curves"]) == bool(tune)
    folder = tmp_path / "work" / "grid"
    cell = "1 (1.0)" if tune else "1"
    markdown = (folder / "report.md").read_text()
    assert f"| variant | 1 | 3 |\n| --- | ---: | ---: |\n| plain | {cell} | {cell} |" in markdown
    assert ("In brackets stands the lr" in markdown) == bool(tune)
    assert f"<tr><td>good</td><td>{cell}</td><td>{cell}</td></tr>" in (folder / "report.html").read_text()
    assert "\n| τ | – | – |\n" in markdown


def test_trainings_of_different_lengths_are_not_ranked_by_updates(compared, tmp_path):
    variants = {"plain": {"max-update": 3}, "good": {"good": True, "max-update": 9}}
    table, _ = compared(variants=variants)
    assert table["early_ranks"] is None
    assert "Kendall" not in (tmp_path / "work" / "grid" / "report.md").read_text()
    table, _ = compared(variants={name: flags | {"max-update": 9} for name, flags in variants.items()})
    assert table["early_ranks"]
