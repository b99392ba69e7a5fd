"""The tests of a comparison beside textbooks, simulations and sacreBLEU."""

import json
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from scipy import stats

from skipln_fairseq.compare import significance
from tests.support.comparisons import SENTENCES


def test_holm_corrects_as_in_the_books():
    ps = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert significance.holm(ps) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def p_of_seeds(a, b, pool):
    return significance.over_seeds(a, b, pool).p(np.mean(b) - np.mean(a))


def test_of_two_systems_the_pooled_test_is_students():
    a, b = [30.1, 30.9, 30.4], [31.2, 31.9, 31.3]
    expected = stats.ttest_ind(a, b).pvalue
    assert p_of_seeds(a, b, significance.pooled([a, b])) == pytest.approx(expected)
    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert p_of_seeds(a, b, None) == pytest.approx(expected)


def test_the_pool_has_the_spread_within_systems():
    """That of an analysis of variance: its F is the square of t for two systems."""
    systems = [[1.0, 2.0, 4.0], [5.0, 5.5, 7.0], [0.0, 3.0]]
    pool = significance.pooled([*systems, [9.0]])
    residuals = np.concatenate([np.array(s) - np.mean(s) for s in systems])
    assert pool.freedom == 5
    assert pool.deviation == pytest.approx(np.sqrt(np.sum(residuals**2) / 5))
    assert significance.pooled([[1.0]]) is None


def of_variances(*variances):
    return {name: [-(v**0.5), 0.0, v**0.5] for name, v in enumerate(variances)}


@pytest.mark.parametrize(("systems", "share"), [(2, 0.975), (3, 0.871), (5, 0.684), (8, 0.516), (12, 0.392)])
def test_a_wider_spread_is_found_as_in_the_books(systems, share):
    """Cochran's critical values at 5 % for three results, of the largest variance's share of the sum."""
    for off, found in ((-0.001, []), (0.001, [0])):
        largest = (systems - 1) * (share + off) / (1 - share - off)
        assert significance.wider(of_variances(largest, *[1.0] * (systems - 1))) == found


def test_all_wider_spreads_are_found_one_after_the_other():
    assert significance.wider(of_variances(1, 1, 90, 1, 1000, 1, 1, 1)) == [4, 2]
    assert significance.wider({**of_variances(1, 1, 1), "two seeds": [0.0, 99.0]}) == []
    assert significance.wider({**of_variances(0, 0, 0), "one": [5.0]}) == []
    assert significance.wider(of_variances(0, 2, 0)) == []
    assert significance.wider(of_variances(5)) == significance.wider({}) == []


@pytest.mark.parametrize(
    ("systems", "family", "of_examples"), [(2, 1, 0), (2, 2, 0.3), (12, 11, 0), (12, 11, 1)]
)
def test_the_detectable_difference_is_found_as_often_as_said(systems, family, of_examples):
    """``of_examples``: their variance, of which that of a difference of seeds is 2 / 3."""
    by_examples = significance.Error(of_examples, 999)
    shift = significance.detectable(significance.Error(2 / 3, 2 * systems), by_examples, family)
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(2000):
        scores = rng.normal(size=(systems, 3))
        by_seeds = significance.over_seeds(*scores[:2], significance.pooled(scores.tolist()))
        difference = scores[1].mean() - scores[0].mean() + shift + np.sqrt(of_examples) * rng.normal()
        found += significance.of_both(by_seeds, by_examples, difference) < significance.LEVEL / family
    assert found / 2000 == pytest.approx(significance.POWER, abs=0.03)


@pytest.mark.parametrize("freedom", [2, 4, 22])
@pytest.mark.parametrize("of_examples", [0.1, 1])
@pytest.mark.parametrize("level", [0.05, 0.0045])
def test_few_seeds_find_no_more_than_said(freedom, of_examples, level):
    """Also where one of many tests is looked at, as Holm's method does."""
    rng = np.random.default_rng(1)
    count, found = 8000, 0
    differences = rng.normal(size=count) * np.sqrt(1 + of_examples)
    for difference, spread in zip(differences, rng.chisquare(freedom, count) / freedom, strict=True):
        by_seeds, by_examples = significance.Error(spread, freedom), significance.Error(of_examples, 999)
        found += significance.of_both(by_seeds, by_examples, difference) < level
    assert found / count < 1.5 * level + 0.0005


@pytest.mark.parametrize(("of_seeds", "of_examples"), [(1, 0), (0, 1), (1, 1)])
def test_equal_systems_are_told_apart_as_rarely_as_said(of_seeds, of_examples, monkeypatch):
    """Scores that are means over 40 examples, which differ by chance of the seeds, of the examples, or of both."""
    monkeypatch.setattr(significance, "RESAMPLES", 100)
    rng = np.random.default_rng(1)
    found = {"examples": 0, "seeds": 0, "both": 0}
    for _ in range(400):
        # differences of the second system from the first, by example; the spread of a mean of 40 is that of a seed
        by_example = of_examples * rng.normal(size=40) * np.sqrt(40 * 2 / 3)
        seeds = of_seeds * rng.normal(size=(12, 3)) + 1e-3 * rng.normal(size=(12, 3))
        first = np.stack([np.full(40, seeds[0].sum()), np.full(40, 3.0)], 1)
        second = np.stack([seeds[1].sum() + 3 * by_example, np.full(40, 3.0)], 1)
        p, by_examples = significance.over_examples(first, second, lambda sums: sums[0] / sums[1])
        by_seeds = significance.over_seeds(seeds[0], seeds[1], significance.pooled(seeds.tolist()))
        difference = seeds[1].mean() - seeds[0].mean() + by_example.mean()
        found["examples"] += p < 0.05
        found["seeds"] += by_seeds.p(difference) < 0.05
        found["both"] += significance.of_both(by_seeds, by_examples, difference) < 0.05
    assert found["both"] / 400 < 0.08
    if of_seeds and of_examples:  # what either test alone takes for a difference
        assert found["examples"] / 400 > 0.1
        assert found["seeds"] / 400 > 0.1


def test_without_a_spread_only_equal_scores_are_no_difference():
    assert p_of_seeds([1.0, 1.0], [1.0, 1.0], None) == 1
    assert p_of_seeds([1.0, 1.0], [0.0, 0.0], None) == 0
    assert significance.over_seeds([1.0], [0.0, 2.0], None) is None


def bleu_statistics(systems):
    metric = sacrebleu.BLEU()
    return sum(np.array(metric._extract_corpus_statistics(lines, [SENTENCES]), float) for lines in systems)


def scored(sums):
    return sacrebleu.BLEU()._compute_score_from_stats(sums).score


def corrupted(share, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(w for w in line.split() if rng.random() > share) for line in SENTENCES]


def test_sentences_are_tested_as_sacrebleu_does(tmp_path):
    """Its own command, on the files of one seed, which counts one side of a distribution with two."""
    baseline, other = corrupted(0.3, 1), corrupted(0.28, 2)
    found, _ = significance.over_examples(bleu_statistics([baseline]), bleu_statistics([other]), scored)
    for name, lines in (("refs", SENTENCES), ("a", baseline), ("b", other)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sacrebleu",
            "refs",
            "-i",
            "a",
            "b",
            "--paired-bs",
            "-f",
            "json",
            "-m",
            "bleu",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(done.stdout)[1]["BLEU"]["p_value"]
    assert 0.01 < theirs < 0.4
    assert found == pytest.approx(2 * theirs, rel=0.3)


def test_the_same_sentences_of_more_seeds_are_no_further_evidence():
    """Three seeds with the same translations say what one says."""
    baseline, other = corrupted(0.3, 1), corrupted(0.28, 2)
    once, error = significance.over_examples(bleu_statistics([baseline]), bleu_statistics([other]), scored)
    thrice, same = significance.over_examples(
        bleu_statistics([baseline] * 3), bleu_statistics([other] * 3), scored
    )
    assert thrice == pytest.approx(once, abs=0.01)
    assert same.variance == pytest.approx(error.variance, rel=0.01)


def test_equal_systems_do_not_differ():
    same = bleu_statistics([corrupted(0.3, 1)])
    assert significance.over_examples(same, same, scored)[0] == 1
