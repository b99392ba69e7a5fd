"""The bench: its statistics against hand numbers, its batches, its contestants and what they are compared on."""

import argparse
import dataclasses
import math
from collections import Counter
from functools import partialmethod

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary

from skipln_fairseq.bench import grow, lengths, statistics
from skipln_fairseq.bench.batches import MULTIPLE, batches, corpus, draw
from skipln_fairseq.bench.contestants import contestants
from skipln_fairseq.bench.family import members
from skipln_fairseq.bench.leave import FORMS
from skipln_fairseq.bench.leave import summarise as summarise_leave
from skipln_fairseq.bench.memory import peak_of
from skipln_fairseq.bench.naive import NaiveModel, NaiveRecursion
from skipln_fairseq.bench.profile import by_kind
from skipln_fairseq.bench.render import KINDS
from skipln_fairseq.bench.worker import Job
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.nn import NORMS
from tests.support.build import batch, build

SEEDS = (1, 2)


def dictionary(words=20):
    made = Dictionary()
    for word in range(words):
        made.add_symbol(f"w{word}")
    return made


def test_an_operator_counts_as_what_it_does():
    found = by_kind(
        {
            "aten::mm": 1.0,
            "aten::addmm": 2.0,
            "aten::bmm": 4.0,
            "aten::native_layer_norm_backward": 8.0,
            "_LeaveBackward": 16.0,
            "skipln::leave_backward": 1024.0,
            "aten::_log_softmax": 32.0,
            "skipln::cross_entropies": 2048.0,
            "aten::bernoulli_": 64.0,
            "aten::copy_": 128.0,
            "aten::addcdiv_": 256.0,
            "aten::add_": 512.0,
        }
    )
    assert list(found) == [*KINDS, "rest"]
    assert list(found.values()) == [3.0, 4.0, 1048.0, 64.0, 2080.0, 128.0, 256.0, 512.0]


def test_quartiles_lie_between_neighbours():
    assert statistics.quartiles([5.0, 1.0, 2.0, 4.0]) == (3.0, 1.75, 4.25)


def test_a_ratio_is_paired_by_round_before_its_median_is_taken():
    """The ratio of medians would be 30 / 20 = 1.5."""
    found = statistics.ratio([30.0, 12.0, 88.0], [20.0, 10.0, 80.0])
    assert found == pytest.approx((1.2, 1.1, 1.5))


@pytest.mark.parametrize(
    ("n", "k"),
    # the greatest k with 2·P(Binomial(n, ½) < k) ≤ 5 %, from tables of the sign test
    [(1, 1), (3, 1), (5, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18)],
)
def test_the_interval_of_a_median_has_the_sign_tests_ends(n, k):
    values = np.random.default_rng(n).permutation(np.arange(1.0, n + 1)).tolist()
    assert statistics.interval(values) == ((n + 1) / 2, k, n + 1 - k)


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    draws = np.random.default_rng(1).exponential(size=(4000, 10))
    held = [low <= math.log(2) <= high for _, low, high in map(statistics.interval, draws.tolist())]
    exact = 1 - 2 * sum(math.comb(10, i) for i in range(2)) / 2**10
    assert np.mean(held) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / len(held)))


def test_a_histogram_is_read_back():
    text = lengths.histogram([(3, 4), (2, 9), (3, 4), (3, 2)])
    assert text == "2 9:1\n3 2:1 4:2\n"
    assert lengths.pairs(text).tolist() == [[2, 9], [3, 2], [3, 4], [3, 4]]


def test_multi30k_has_the_lengths_that_preprocessing_reported():
    """29,000 sentences, 479,585 and 507,859 tokens: the log of the recipe multi30k-en-de."""
    found = lengths.multi30k()
    assert found.shape == (29000, 2)
    assert found.sum(0).tolist() == [479585, 507859]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_epoch_of_batches_has_every_sentence_once_and_keeps_the_limit(seed):
    asked = lengths.multi30k()[::20]
    data = corpus(asked, dictionary(), seed)
    epoch = batches(data, 256, seed)
    assert sorted(index for batch in epoch for index in batch) == list(range(len(asked)))
    found = Counter()
    # batches of more than eight sentences have a multiple of eight, save what is left over in the end
    assert sum(len(indices) > MULTIPLE and len(indices) % MULTIPLE != 0 for indices in epoch) <= 1
    for indices in epoch:
        sample = data.collater([data[index] for index in indices])
        source, target = sample["net_input"]["src_tokens"], sample["target"]
        assert max(source.numel(), target.numel()) <= 256
        assert sample["ntokens"] == target.ne(1).sum()
        real = zip(source.ne(1).sum(1).tolist(), target.ne(1).sum(1).tolist(), strict=True)
        found.update(real)
        assert target[target.ne(1)].ge(2).all()
        assert target.eq(2).sum() == len(indices)
    assert found == Counter(map(tuple, asked.tolist()))


def test_batches_follow_from_the_seed_and_workers_share_an_epoch():
    data = {seed: corpus(lengths.multi30k()[::50], dictionary(), seed) for seed in SEEDS}
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 (fairseq's)
    assert batches(data[1], 256, 1) == batches(corpus(lengths.multi30k()[::50], dictionary(), 1), 256, 1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert batches(data[1], 256, 1) != batches(data[1], 256, 2)
    ids = {
        rank: {int(index) for sample in draw(data[1], 256, 1, 3, rank, 2) for index in sample["id"]}
        for rank in (0, 1)
    }
    assert not ids[0] & ids[1]
    same = draw(data[1], 256, 1, 1, 0, 1)[0]["target"], draw(data[2], 256, 1, 1, 0, 1)[0]["target"]
    assert same[0].shape != same[1].shape or not torch.equal(*same)
    with pytest.raises(UserError, match=r"^--max-tokens 20: the longest sentence has \d+$"):
        batches(data[1], 20, 1)
    with pytest.raises(UserError, match=r"^--batches 1000: the data have \d+ for each process$"):
        draw(data[1], 256, 1, 1000, 0, 1)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_naive_recursion_computes_what_ours_does(order, seed):
    """With the same parameters under its own names: outputs and gradients, in float64 to rounding."""
    flags = ("--skip-order", str(order), "--dropout", "0")
    # the reference attention, since stock's, which the naive contestant has, takes its softmax in float32
    ours = build("transformer_rskip", *flags, "--kernels", "reference", seed=seed).double()
    theirs = build("transformer_naive_rskip", *flags, seed=seed).double()
    assert isinstance(theirs, NaiveModel)
    assert sum(isinstance(module, NaiveRecursion) for module in theirs.modules()) == 2 * 2 + 2 * 3
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "layer_norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def renamed(name):
        if "layer_norm" not in name:
            return name
        if ".skip.norms." in name:
            return name.replace(".skip.norms.", ".norms.")
        return name.replace("_layer_norm.", f"_layer_norm.norms.{order - 1}.")

    state = {renamed(name): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)  # strictly: the same parameters and no others
    sample = batch(seed)
    for model in (ours, theirs):
        model(*sample)[0].logsumexp(-1).sum().backward()
    torch.testing.assert_close(theirs(*sample)[0], ours(*sample)[0], rtol=1e-10, atol=1e-12)
    gradients = {renamed(name): parameter.grad for name, parameter in ours.named_parameters()}
    found = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert all(gradient.abs().max() > 1e-6 for gradient in found.values() if gradient.dim() > 1)
    torch.testing.assert_close(found, gradients, rtol=1e-8, atol=1e-10)


def test_contestants_are_bases_with_changes_in_every_precision():
    found = contestants(["stock", "naive-3+fused", "mine: --arch transformer --dropout 0"], ["fp32", "bf16"])
    names = ["stock", "naive-3+fused", "mine"]
    assert [one.name for one in found] == [*names, *(f"{name}+bf16" for name in names)]
    fused = ("--criterion", "fused_label_smoothed_cross_entropy")
    assert found[1].flags == ("--arch", "transformer_naive_rskip", "--skip-order", "3", *fused)
    assert found[5].flags == ("--arch", "transformer", "--dropout", "0", "--bf16")
    growing = contestants(["stock", "order-K+bf16"], ["fp32"], 4)
    assert [(one.name, one.series) for one in growing] == [
        ("stock", "stock"),
        ("order-4+bf16", "order-K+bf16"),
    ]
    assert growing[1].flags == ("--arch", "transformer_rskip", "--skip-order", "4", "--bf16")


def trained(compiled, folder):
    """The parameters of a small model after two updates, with batches of different sizes."""
    size = ("--encoder-layers", "1", "--decoder-layers", "1", "--encoder-embed-dim", "16")
    flags = ("--arch", "transformer", *size, "--encoder-ffn-embed-dim", "24", "--dropout", "0")
    pairs = lengths.equal(16, 64)
    pairs[:8] //= 2
    job = Job("stock", flags, 30, pairs, 128, 2, 1, 1, "cpu", str(folder), compiled=compiled)
    runner = job.runner()
    runner.step(0), runner.step(1)
    return runner.trainer.get_model().state_dict()


def test_a_compiled_contestant_trains_as_it_does_by_itself(tmp_path, monkeypatch):
    """Its graphs are traced, in one go for all sizes, and run by torch's own operations here."""
    assert [one.compiled for one in contestants(["stock", "stock+compile"], ["bf16"])] == [False, True]
    assert not any(one.compiled for one in members())
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    expected = trained(False, tmp_path)
    assert not torch._dynamo.utils.counters["stats"]
    found = trained(True, tmp_path)
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] < 12
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name])


def test_the_peak_counts_what_is_alive_at_one_time():
    """a is freed before c is made: two tensors of 4,000 bytes at the peak, not three; the one before does not count."""
    x = torch.ones(1000)

    def step():
        a = x + 1
        b = a * 2
        del a
        return b + 1

    assert 8000 <= peak_of(step, cuda=False) < 8000 + 200


def heats(axis, *flags):
    """What ``grow`` compares, without a run: the heats and their contestants."""
    parser = argparse.ArgumentParser()
    grow.add_arguments(parser)
    args, more = parser.parse_known_args([axis, *map(str, flags)])
    return grow.heats(args, more)


def test_each_axis_changes_what_it_names_and_nothing_else():
    usual = heats("order", "--values", "3", "--dropout", "0")[0].heat
    for axis, field in {"threads": "threads", "processes": "processes"}.items():
        for value, point in zip((1, 2), heats(axis, "--dropout", "0"), strict=True):
            changed = dataclasses.replace(usual, **{field: value, "lengths": None})
            assert dataclasses.replace(point.heat, lengths=None) == changed
    (deep,) = heats("depth", "--values", "7", "--dropout", "0")
    assert deep.heat.flags == ("--dropout", "0", "--encoder-layers", "7", "--decoder-layers", "7")
    (long,) = heats("length", "--values", "100")
    drawn = draw(corpus(long.heat.lengths, dictionary(), 1), long.heat.max_tokens, 1, long.heat.batches, 0, 1)
    assert [tuple(sample["target"].shape) for sample in drawn] == [
        (8, 100)
    ] * 2  # 1024 // 100 = 10, a multiple of 8
    names = [[one.name for one in point.contestants] for point in heats("order")]
    assert names == [["stock", f"order-{k}", f"naive-{k}"] for k in (1, 2, 4, 8)]


def test_flags_of_a_contestant_come_after_those_of_all_and_of_the_shape():
    point = heats("order", "--contestants", "x: --dropout 0.5", "--dropout", "0.3", "--values", "1")[0]
    flags = point.heat.job(point.contestants[0], 0, "folder").all_flags()
    assert [flags[i + 1] for i, flag in enumerate(flags) if flag == "--dropout"] == ["0.1", "0.3", "0.5"]
    assert flags.index("--share-all-embeddings") < flags.index("0.3")


@pytest.mark.parametrize("norm", ["layer", "rms", "ada"])
@pytest.mark.parametrize("order", [1, 3])
def test_both_forms_of_the_leave_step_are_the_same_function(order, norm):
    generator = torch.Generator().manual_seed(order)
    f_x, x = torch.randn(2, 5, 16, generator=generator)
    norms = [NORMS[norm](16) for _ in range(order)]
    modules, fused = (form(f_x, x, norms, 0.0) for form in FORMS.values())
    torch.testing.assert_close(fused, modules, rtol=1e-5, atol=1e-5)


def test_a_share_of_the_copy_counts_three_tensors_forward_and_five_backward():
    """A forward as long as a copy, which moves two tensors, moves 3/2 as many bytes a second; a backward 5/2."""
    modules = {"seconds": {"forward": [1.0, 4.0, 2.0], "backward": [1.0, 4.0, 4.0], "copy": [1.0, 4.0, 2.0]}}
    fused = {"seconds": {"forward": [0.5, 3.0, 1.0], "backward": [0.5, 1.0, 2.0], "copy": [1.0, 4.0, 4.0]}}
    first, second = (run["summary"] for run in summarise_leave([modules, fused]))
    assert first["forward_share"] == pytest.approx((1.5, 1.5, 1.5))
    assert first["backward_share"] == pytest.approx((2.5, 1.25, 2.5))
    assert first["time_ratio"] == (1, 1, 1)
    assert second["forward_share"] == pytest.approx((3, 2, 6))
    assert second["time_ratio"] == pytest.approx((0.5, 0.5, 0.5))
