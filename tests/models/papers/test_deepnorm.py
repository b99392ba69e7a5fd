"""What Wang et al. 2022 (arXiv:2203.00555) say of DeepNorm: its constants, its first values, its first update."""

import pytest
import torch
import torch.nn.functional as F

from skipln_fairseq.nn.skip.deepnorm import deepnorm_constants
from tests.support.papers import model_of, tokens


@pytest.mark.parametrize(
    ("layers", "encoder", "decoder"),
    [
        ((6, 6), (1.417938, 0.496989), (2.059767, 0.343295)),
        ((18, 6), (1.866112, 0.377630), (2.059767, 0.343295)),  # 0.81 · 629856^(1/16)
        ((100, 100), (3.415742, 0.206310), (4.161791, 0.169904)),  # 0.81 · 10^(5/8) and 300^(1/4)
        ((6, 0), (1.861210, 0.379918), None),  # 12^(1/4) and 48^(−1/4)
        ((0, 12), None, (2.213364, 0.319472)),  # 24^(1/4) and 96^(−1/4)
        ((0, 0), None, None),
    ],
)
def test_deepnorm_constants_are_those_of_the_papers_table(layers, encoder, decoder):
    """DeepNorm paper, figure 2: α and β by depth; the numbers come from repeated square roots."""
    constants = deepnorm_constants(*layers)
    expected = {"encoder": encoder, "decoder": decoder}
    assert constants.keys() == {side for side, pair in expected.items() if pair}
    for side, pair in constants.items():
        assert pair == pytest.approx(expected[side], abs=1e-6)


def test_deepnorm_scales_x_by_alpha_and_initialises_f_with_gain_beta():
    """DeepNorm paper, figure 2: Xavier normal, gain β for v, out, fc1, fc2 and gain 1 for q and k.

    Each matrix has at least 2¹⁶ entries, so the relative standard error of its deviation is 1/√2¹⁷ = 0.28 %;
    the tolerance is four of these. A uniform draw of that deviation would end at 1.73 deviations.
    """
    model = model_of("--skip-type", "deepnorm", layers=(3, 2), width=256)
    # N⁴M = 162: 0.81 · 162^(1/16), 0.87 · 162^(−1/16); 6^(1/4), 24^(−1/4)
    constants = {"encoder": (1.113217, 0.633030), "decoder": (1.565085, 0.451801)}
    seen = set()
    for side, (alpha, beta) in constants.items():
        for layer in getattr(model, side).layers:
            for name, module in layer.named_modules():
                kind = name.split(".")[-1]
                if kind == "skip":
                    assert module.scale == pytest.approx(alpha, abs=1e-6)
                if not isinstance(module, torch.nn.Linear):
                    continue
                gain = 1.0 if kind in ("q_proj", "k_proj") else beta
                deviation = gain * (2 / (module.in_features + module.out_features)) ** 0.5
                entries = module.weight.detach()
                assert entries.std().item() == pytest.approx(deviation, rel=0.011), (side, name)
                assert entries.abs().max() > 3 * deviation
                seen.add((side, name))
    assert len(seen) == 6 + 10  # each projection of both kinds of layer


def first_update(skip, depth, seed, rate=1e-3):
    """Mean change of a position's logits by one step of SGD on the weights of every F, over the rate."""
    model = model_of("--skip-type", skip, layers=(depth, depth), seed=seed).double()
    *source_and_shifted, target = tokens(seed, sentences=4, length=8)
    before, _ = model(*source_and_shifted)
    F.cross_entropy(before.flatten(0, 1), target.flatten()).backward()
    with torch.no_grad():
        for layer in (*model.encoder.layers, *model.decoder.layers):
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    module.weight -= rate * module.weight.grad
        after, _ = model(*source_and_shifted)
    return (after - before).norm(dim=-1).mean().item() / rate


def test_deepnorm_bounds_the_first_update():
    """DeepNorm paper, its theorem: a step of SGD changes the output by O(rate), whatever the depth.

    The same batch and rate at all depths. Measured over the rate, means of three seeds: 2.9, 2.1, 3.3, 3.5 from
    6-6 to 100-100 layers, seeds about 2 apart; Post-LN 147, 397, 2300 from 6-6 to 54-54, where single seeds
    grow 4 to 30 times. The theorem is about the weights of F, and so is this step: neither α nor β shrinks the
    effect of a norm's gain and bias, which adds up over the layers.
    """
    deep = [sum(first_update("deepnorm", depth, seed) for seed in range(3)) / 3 for depth in (6, 18, 50, 100)]
    assert max(deep) < 2.5 * min(deep)
    assert max(deep) < 8

    post = [sum(first_update("plain", depth, seed) for seed in range(3)) / 3 for depth in (6, 18, 54)]
    assert post[0] > 10 * max(deep)
    assert post[1] > 1.5 * post[0]
    assert post[2] > 5 * post[0]
