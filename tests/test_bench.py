"""The bench: its statistics against hand numbers, its batches, its naive contestant, and its command line."""

import argparse
import dataclasses
import json
import math
import os
import time
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import preprocess, run
from fairseq.data import Dictionary

from skipln_fairseq.bench import grow, lengths, statistics
from skipln_fairseq.bench.__main__ import main
from skipln_fairseq.bench.batches import MULTIPLE, batches, corpus, draw
from skipln_fairseq.bench.contestants import contestants
from skipln_fairseq.bench.leave import FORMS
from skipln_fairseq.bench.leave import summarise as summarise_leave
from skipln_fairseq.bench.memory import peak_of
from skipln_fairseq.bench.naive import NaiveModel, NaiveRecursion
from skipln_fairseq.bench.profile import by_kind
from skipln_fairseq.bench.render import KINDS, LAYOUTS, markdown
from skipln_fairseq.bench.report import summarise
from skipln_fairseq.errors import UserError
from tests.build import batch, build

SMALL = (
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "1", "--max-tokens", "128", "--rounds", "1"),
)
MINIATURE = (*SMALL, "--batches", "2", "--starts", "1")
SEEDS = (1, 2)


def dictionary(words=20):
    made = Dictionary()
    for word in range(words):
        made.add_symbol(f"w{word}")
    return made


def bench(*flags, succeeds=True):
    return run("-m", "skipln_fairseq.bench", *flags, succeeds=succeeds)


# Profile


def test_an_operator_counts_as_what_it_does():
    found = by_kind(
        {
            "aten::mm": 1.0,
            "aten::addmm": 2.0,
            "aten::bmm": 4.0,
            "aten::native_layer_norm_backward": 8.0,
            "_LeaveBackward": 16.0,
            "aten::_log_softmax": 32.0,
            "aten::bernoulli_": 64.0,
            "aten::copy_": 128.0,
            "aten::addcdiv_": 256.0,
            "aten::add_": 512.0,
        }
    )
    assert list(found) == [*KINDS, "rest"]
    assert list(found.values()) == [3.0, 4.0, 24.0, 64.0, 32.0, 128.0, 256.0, 512.0]


def test_a_profile_is_tabled(tmp_path):
    flags = ("--shapes", "tiny", "--contestants", "stock", "plain+fused", *SMALL)
    bench("profile", *flags, "--output", tmp_path / "profile.json")
    report = json.loads((tmp_path / "profile.json").read_text())
    stock, ours = report["heats"][0]["runs"]
    assert (
        min(stock["milliseconds"][kind] for kind in ("matrix products", "dropout", "loss", "skips and norms"))
        > 0
    )
    assert ours["milliseconds"]["skips and norms"] > 0
    header, _, *rows = markdown(report).splitlines()[:4]
    assert [line.count("|") for line in (header, *rows)] == [len(KINDS) + 5] * 3


# Statistics


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


# Lengths and batches


def test_a_histogram_is_read_back():
    text = lengths.histogram([(3, 4), (2, 9), (3, 4), (3, 2)])
    assert text == "2 9:1\n3 2:1 4:2\n"
    assert lengths.pairs(text).tolist() == [[2, 9], [3, 2], [3, 4], [3, 4]]


def test_multi30k_has_the_lengths_that_preprocessing_reported():
    """29,000 sentences, 479,585 and 507,859 tokens: the log of the recipe multi30k-en-de."""
    found = lengths.multi30k()
    assert found.shape == (29000, 2)
    assert found.sum(0).tolist() == [479585, 507859]


def test_the_lengths_of_binarised_data_are_its_sentences(texts, tmp_path, capsys):
    preprocess(texts, tmp_path)
    sides = ((texts / f"train.{side}").read_text("utf-8").splitlines() for side in ("en", "de"))
    words = [[len(line.split()) + 1 for line in lines] for lines in sides]
    found = lengths.of_data(tmp_path)
    assert found.T.tolist() == words
    main(["histogram", str(tmp_path)])
    assert sorted(lengths.pairs(capsys.readouterr().out).tolist()) == sorted(found.tolist())


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


# Contestants


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


# Memory


def test_the_peak_counts_what_is_alive_at_one_time():
    """a is freed before c is made: two tensors of 4,000 bytes at the peak, not three; the one before does not count."""
    x = torch.ones(1000)

    def step():
        a = x + 1
        b = a * 2
        del a
        return b + 1

    assert 8000 <= peak_of(step, cuda=False) < 8000 + 200


# The command line


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A miniature run of two contestants, started twice, what it printed, and its report."""
    file = tmp_path_factory.mktemp("bench") / "new folder" / "train.json"
    flags = ("--shapes", "tiny", "--contestants", "stock", "order-2", "--output", file)
    return bench(*flags, *MINIATURE, "--starts", "2").output, json.loads(file.read_text()), file


def test_a_report_says_what_was_measured_where(report):
    printed, found, _ = report
    first = printed.splitlines()[0]
    for part in ("python -m skipln_fairseq.bench --shapes tiny", "seed 1", "1 thread(s)", torch.__version__):
        assert part in first
    assert found["where"]["torch"] == torch.__version__
    counts = {"threads": 1, "rounds": 1, "starts": 2, "warmup": 1, "batches": 2, "max_tokens": 128, "seed": 1}
    assert found["settings"] == {"device": "cpu", "dtype": ["fp32"], **counts}
    (heat,) = found["heats"]
    stock, ours = heat["runs"]
    for name, one in zip(("stock", "order-2"), heat["runs"], strict=True):
        assert one["contestant"] == name
        assert name in printed
        assert len(one["seconds"]) == len(one["cpu_seconds"]) == 2
        assert min(*one["seconds"], *one["cpu_seconds"]) > 0
        assert (one["tokens"], one["sentences"]) == (stock["tokens"], stock["sentences"])
        assert 0 < one["tokens"] <= 2 * 128
    assert ours["parameters"] == stock["parameters"] + 5 * 2 * 16
    # float32 parameters and Adam's two moments, each side's table of positions, and a few counters
    for one in heat["runs"]:
        assert 0 <= one["bytes"]["state"] - 4 * (3 * one["parameters"] + 2 * 1026 * 16) < 2000
        assert one["bytes"]["step"] > 4 * one["parameters"]


def test_summaries_follow_from_the_raw_numbers(report):
    runs = report[1]["heats"][0]["runs"]
    again = json.loads(json.dumps(summarise([{**run, "summary": None} for run in runs])))
    assert again == runs
    ratios = [a / b for a, b in zip(runs[1]["seconds"], runs[0]["seconds"], strict=True)]
    summary = runs[1]["summary"]
    assert summary["time_ratio"] == pytest.approx([sum(ratios) / 2, min(ratios), max(ratios)])
    assert summary["tokens_per_second"] == pytest.approx(runs[1]["tokens"] / (sum(runs[1]["seconds"]) / 2))


def test_a_table_has_a_row_of_full_cells_for_every_contestant(report, capsys):
    _, found, file = report
    lines = markdown(found).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0] == ["shape", *LAYOUTS["training"].headings]
    assert [row[:2] for row in cells[2:]] == [["tiny", name] for name in ("stock", "order-2")]
    assert all(len(row) == len(cells[0]) and all(row[:-1]) for row in cells)
    stock = found["heats"][0]["runs"][0]
    assert cells[2][2].startswith(f"{stock['summary']['seconds'][0] * 1000 / 2:.3g}"[:2])
    main(["table", str(file), "--markdown"])
    assert capsys.readouterr().out == markdown(found)
    main(["table", str(file)])
    assert "order-2" in capsys.readouterr().out


def test_what_grows_is_tabled_and_drawn(tmp_path):
    """Two workers have two batches where one has one, and every parameter once each."""
    flags = ("--contestants", "stock", "--values", "1", "2", "--output", tmp_path / "grow-AXIS.json")
    bench("grow", "processes", *flags, *MINIATURE)
    file = tmp_path / "grow-processes.json"
    report = json.loads(file.read_text())
    assert [heat["value"] for heat in report["heats"]] == [1, 2]
    alone, together = (heat["runs"][0] for heat in report["heats"])
    assert alone["parameters"] == together["parameters"]
    assert together["bytes"]["state"] == 2 * alone["bytes"]["state"]
    assert 1.5 * alone["tokens"] < together["tokens"] < 3 * alone["tokens"]
    assert "tiny, processes 2" in markdown(report)

    main(["draw", str(file)])
    picture = file.with_suffix(".svg").read_bytes()
    for word in (b"processes", b"stock", b"real target tokens a second"):
        assert word in picture
    main(["draw", str(file), "--output", str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_bytes() == picture


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


@pytest.mark.parametrize("order", [1, 3])
def test_both_forms_of_the_leave_step_are_the_same_function(order):
    generator = torch.Generator().manual_seed(order)
    f_x, x = torch.randn(2, 5, 16, generator=generator)
    norms = [torch.nn.LayerNorm(16) for _ in range(order)]
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


def test_the_leave_step_is_tabled_and_drawn(tmp_path):
    file = tmp_path / "leave.json"
    small = ("--orders", "1", "2", "--rounds", "2", "--rows", "32", "--dim", "16", "--repeats", "1")
    printed = bench("leave", "--dtype", "fp32", "bf16", *small, "--output", file).output
    report = json.loads(file.read_text())
    places = [(f"32 × 16 {dtype}", order) for dtype in ("fp32", "bf16") for order in (1, 2)]
    assert [(heat["shape"], heat["value"]) for heat in report["heats"]] == places
    assert all([run["contestant"] for run in heat["runs"]] == list(FORMS) for heat in report["heats"])
    assert all(len(run["seconds"]["backward"]) == 2 for heat in report["heats"] for run in heat["runs"])
    assert "32 × 16 bf16, order 2" in printed
    assert markdown(report).count("| modules |") == len(places)
    main(["draw", str(file)])
    assert b"fused bf16" in file.with_suffix(".svg").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shapes", "huge"], "--shapes huge: valid are tiny, iwslt, wmt"),
        (["--contestants", "stok"], "--contestants stok: valid are stock, null, plain, order-K"),
        (["--contestants", "order-K"], "--contestants order-K: valid are"),
        (["--contestants", "stock", "stock"], "--contestants stock: two contestants have this name"),
        (["--contestants", "stock+tf32"], "--contestants stock+tf32: valid are"),
        (["--rounds", "0"], "--rounds 0: valid is a whole number of at least 1"),
        (["--warmup", "-1"], "--warmup -1: valid is a whole number of at least 0"),
        (["--dtype", "fp8"], "--dtype fp8: valid are fp32, bf16, fp16"),
        (["--dtype", "fp16"], "--dtype fp16 needs --device cuda"),
        (["--device", "tpu"], "--device tpu: valid are cpu, cuda"),
        (["--data", "nowhere"], "--data nowhere: no binarised sentence pairs in this folder"),
        (["--output", "report.txt"], "--output report.txt: name a file that ends in .json"),
        (["leave", "--orders", "0"], "--orders 0: valid is a whole number of at least 1"),
        (["leave", "--dropout", "1"], "--dropout 1.0: valid is a number from 0 to below 1"),
        (["leave", "--rows", "0"], "--rows 0: valid is a whole number of at least 1"),
        (["grow", "width"], "grow width: valid are order, depth, length, threads, processes"),
        (["grow", "length", "--values", "2000"], "--values 2000: no sentence of this length fits"),
        (["grow", "depth", "--values", "0"], "--values 0: valid is a whole number of at least 1"),
        (["grow", "threads", "--threads", "2"], "--threads has no meaning with grow threads"),
        (["grow", "length", "--data", "here"], "--data has no meaning with grow length"),
        (["profile", "--shapes", "tiny", "huge"], "--shapes huge: valid are tiny, iwslt, wmt"),
        (["table", "nowhere.json"], "nowhere.json: No such file or directory"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(flags, message):
    with pytest.raises(UserError) as refused:
        main(flags)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU"):
        main(["--device", "cuda"])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"heats": []}', '{"kind": "x", "heats": []}'])
def test_a_file_that_is_no_report_is_named(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(UserError, match=r"file\.json: not a report of this benchmark"):
        main(["table", str(tmp_path / "file.json")])


def test_a_report_in_which_nothing_grows_is_not_drawn(report):
    with pytest.raises(UserError, match="nothing grows in it"):
        main(["draw", str(report[2])])


@pytest.mark.parametrize(
    ("contestant", "message"),
    [
        ("broken: --arch nothing", "broken: --arch nothing is unknown"),
        (
            "broken: --arch transformer --encoder-attention-heads 3",
            "broken: AssertionError: embed_dim must be",
        ),
    ],
)
def test_a_failing_contestant_is_named_in_one_line(tmp_path, contestant, message):
    flags = ("--shapes", "tiny", "--contestants", contestant, "--output", tmp_path / "x.json")
    output = bench(*flags, *MINIATURE, succeeds=False).output
    assert output.splitlines()[-1].startswith(f"skipln_fairseq: error: {message}")
    assert "Traceback" not in output
    assert not (tmp_path / "x.json").exists()


TEAM = """
import os, tempfile
tempfile.tempdir = "{folder}"
import skipln_fairseq
from skipln_fairseq.bench import race
from skipln_fairseq.bench.contestants import contestants
from skipln_fairseq.bench.lengths import equal
from skipln_fairseq.bench.shapes import SHAPES
from skipln_fairseq.errors import UserError

heat = race.Heat(
    SHAPES["tiny"], ("--encoder-layers", "1", "--decoder-layers", "1"), equal(4, 64), 64, 1, 1, 1, 0, 1, 1, 1, "cpu"
)
teams = []
class Team(race.Team):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        teams.append(self)
    def ask(self, method, *arguments):
        print("pids", *(process.pid for team in teams for process in team.processes), flush=True)
        happen(self)
        return super().ask(method, *arguments)
race.Team = Team
def happen(team):
    {happen}
try:
    race.race(heat, contestants({names}, ["fp32"]))
except UserError as error:
    print("error", error)
print("alive", [process.is_alive() for team in teams for process in team.processes])
"""


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("names", "happen", "printed"),
    [
        (["stock"], "pass", ""),
        (
            ["stock", "plain"],
            "team.processes[0].kill()",
            ": its process ended, it was killed, as where memory runs out",
        ),
        (["stock"], "os.kill(os.getpid(), 9)", None),
    ],
)
def test_no_process_survives(tmp_path, names, happen, printed):
    """A comparison that ends well, whose contestant is killed, and that is killed itself."""
    killed = printed is None
    code = TEAM.replace("{happen}", happen).replace("{names}", repr(names)).replace("{folder}", str(tmp_path))
    lines = run("-c", code, succeeds=not killed).output.splitlines()
    pids = [int(pid) for pid in next(line for line in lines if line.startswith("pids")).split()[1:]]
    assert len(pids) == len(names)
    if not killed:
        assert lines[-1] == f"alive {[False] * len(names)}"
        assert [line for line in lines if line.startswith("error")] == [
            line for line in lines if printed and line.endswith(printed)
        ]
        assert any(line.startswith("error") for line in lines) == bool(printed)
    deadline = time.monotonic() + 30
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, pids))
