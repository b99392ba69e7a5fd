"""The probe: its numbers against hand computations, its files, its command line and the training log."""

import argparse
import csv
import math
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics
from fairseq.models.transformer import TransformerModelBase
from matplotlib.image import imread

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.common.files import write_all
from skipln_fairseq.models.family import example
from skipln_fairseq.nn import SKIPS, build_connection
from skipln_fairseq.nn.norm.power import GroupScaling
from skipln_fairseq.nn.skip.siamese import SiameseSkip
from skipln_fairseq.nn.skip.streams import Streams
from skipln_fairseq.probe.__main__ import main, told_apart
from skipln_fairseq.probe.batch import random_batch
from skipln_fairseq.probe.draw import draw
from skipln_fairseq.probe.log import ProbedModel, add_probe_args, probed
from skipln_fairseq.probe.measure import measure
from skipln_fairseq.probe.panel import panels
from skipln_fairseq.probe.ratio import coefficients, ratios
from skipln_fairseq.probe.streams import STREAM_QUANTITIES
from skipln_fairseq.probe.subject import Batch, Variant, measure_variant
from skipln_fairseq.probe.watch import QUANTITIES, SubLayer, sub_layers
from tests.support.build import LAST, Task, batch, build_connection_model, wiring
from tests.support.commands import TRAIN, run

DIM = 6
TINY = (
    *("--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "12", "--encoder-layers", "1"),
    *("--encoder-attention-heads", "2", "--decoder-layers", "1", "--decoder-attention-heads", "2"),
)
SMALL_BATCH = ("--seeds", "1", "--sentences", "2", "--length", "4", "--words", "9")
GATE = torch.sigmoid(torch.arange(DIM) / 10)
PADDING = torch.tensor([[False, False, True], [False, False, False]])


def mean_loss(model):
    """Cross entropy of the next token, a mean over the real ones."""
    source, lengths, target = batch()
    logits, _ = model(source, lengths, target)
    return F.cross_entropy(logits.flatten(0, 1), target.roll(-1, 1).flatten(), ignore_index=1)


def connection_and_inputs(skip, norm, norm_options=(), **options):
    """A connection with norm parameters off the identity, and F(x) and x, in double precision."""
    torch.manual_seed(0)
    config = wiring(skip, norm, norm_options=norm_options, **options)
    connection = build_connection(DIM, config, **LAST).double()
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    return connection, torch.randn(2, 3, DIM).double(), torch.randn(2, 3, DIM).double()


def frozen(norm, name, v):
    """N(v) written out, its statistics (and AdaNorm's bracket) without gradient."""
    real = v[~PADDING].detach()
    features = v.detach().mean(-1, keepdim=True), v.detach().var(-1, keepdim=True, correction=0)
    if name == "layer":
        return norm.weight * (v - features[0]) / (features[1] + norm.eps).sqrt() + norm.bias
    if name == "ada":
        y = (v - features[0]) / (features[1] + norm.eps).sqrt()
        return norm.scale * (1 - norm.slope * y.detach()) * y
    if name == "rms":
        return norm.weight * v / (v.detach().square().mean(-1, keepdim=True) + norm.eps).sqrt()
    if name == "scale":
        return norm.weight * v / v.detach().norm(dim=-1, keepdim=True)
    if name == "batch":
        return norm.weight * (v - real.mean(0)) / (real.var(0, correction=0) + norm.eps).sqrt() + norm.bias
    if isinstance(norm.scaling, GroupScaling):
        runs = v.detach().unflatten(-1, (norm.scaling.groups, -1))
        scale = (runs.square().mean(-1, keepdim=True) + norm.eps).sqrt().expand_as(runs).flatten(-2)
        v = v / scale
        real = v[~PADDING].detach()
    return norm.weight * v / (real.square().mean(0) + norm.eps).sqrt() + norm.bias  # power, warming up


PUBLISHED = (("published", True), ("groups", 2))


@pytest.mark.parametrize(
    ("norm", "norm_options"),
    [*((norm, ()) for norm in ("layer", "ada", "rms", "scale", "batch", "power")), ("power", PUBLISHED)],
)
def test_a_recursions_coefficients_equal_autograd_with_constant_statistics(norm, norm_options):
    connection, f_x, x = connection_and_inputs("recursive", norm, norm_options, order=3)
    a, b = coefficients(connection.skip, f_x, x, PADDING)
    f_x.requires_grad_()
    x.requires_grad_()
    y = f_x
    for inner in connection.skip.norms:
        y = frozen(inner, norm, x + y)
    slopes = torch.autograd.grad((x + y).sum(), (x, f_x))
    for found, expected in zip((a, b), slopes, strict=True):
        torch.testing.assert_close(found[~PADDING], expected[~PADDING], rtol=1e-6, atol=1e-9)


def test_order_2_has_the_ratio_one_plus_sigma_by_w():
    connection, f_x, x = connection_and_inputs("recursive", "layer", order=2)
    inner = connection.skip.norms[0]
    sigma = ((x + f_x).var(-1, keepdim=True, correction=0) + inner.eps).sqrt()
    expected = 1 + sigma / inner.weight
    a, b = coefficients(connection.skip, f_x, x)
    torch.testing.assert_close(a / b, expected)
    torch.testing.assert_close(ratios(connection.skip, f_x, x)[0], expected.median())
    norms = ((1 + inner.weight / sigma) * x).norm() / (inner.weight / sigma * f_x).norm()
    torch.testing.assert_close(ratios(connection.skip, f_x, x)[1], norms)


def test_a_recursion_leaves_running_statistics_alone():
    connection, f_x, x = connection_and_inputs("recursive", "batch", order=2)
    before = {name: value.clone() for name, value in connection.state_dict().items()}
    ratios(connection.skip, f_x, x, PADDING)
    torch.testing.assert_close(connection.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("skip", "options", "expected"),
    [
        ("plain", {}, lambda skip: (1, 1)),
        ("expanded", {"scale": -2.0}, lambda skip: (-2, 1)),
        ("deepnorm", {}, lambda skip: (0.81, 1)),  # of one layer a side
        ("learned", {"scale": 2.0, "vector": True}, lambda skip: (skip.scale, 1)),
        ("admin", {}, lambda skip: (1 + skip.shift, 1)),
        ("layerscale", {"scale": 0.5}, lambda skip: (1, skip.scale)),
        ("b2t", {}, lambda skip: (1, 1)),
        ("highway", {}, lambda skip: (1 - GATE, GATE)),
        ("dual", {}, lambda skip: (1, 1)),
    ],
)
def test_the_ratio_of_every_other_skip_counts_real_tokens_only(skip, options, expected):
    connection, f_x, x = connection_and_inputs(skip, "layer", **options)
    if skip == "highway":  # of constant gates, to be known here
        torch.nn.init.zeros_(connection.skip.gate.weight)
        connection.skip.gate.bias.data = torch.arange(DIM).double() / 10
    a, b = expected(connection.skip)
    a, b = (torch.as_tensor(part).detach().expand(DIM) for part in (a, b))
    spoilt = f_x.masked_fill(PADDING.unsqueeze(-1), 1e9)
    coefficient_ratio, term_ratio = ratios(connection.skip, spoilt, x, PADDING)
    assert float(coefficient_ratio) == pytest.approx(float((a / b).abs().median()))
    assert float(term_ratio) == pytest.approx(float((a * x)[~PADDING].norm() / (b * f_x)[~PADDING].norm()))


def test_a_fresh_rezero_has_only_x():
    connection = build_connection(DIM, wiring("rezero", "none"))
    assert [float(ratio) for ratio in ratios(connection.skip, torch.ones(2, DIM), torch.ones(2, DIM))] == [
        math.inf
    ] * 2


def test_the_ratio_is_blank_where_a_norm_has_no_statistics():
    connection, f_x, x = connection_and_inputs("recursive", "dyt", order=2)
    assert ratios(connection.skip, f_x, x) is None
    assert ratios(connection_and_inputs("recursive", "dyt", order=1)[0].skip, f_x, x) is not None


@pytest.mark.parametrize("name", ["plain", "pre", "no-norm", "rskip-3-shared", "hyper-dynamic"])
@pytest.mark.parametrize("flags", [(), ("--checkpoint-activations",)])
def test_norms_equal_those_of_autograd(name, flags):
    """A layer's output is its last sub-layer's, and torch keeps its gradient without any help of the probe."""
    readings = {r.place: r for r in measure(build_connection_model(name, *flags).double(), mean_loss)}
    slots = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}
    assert list(readings) == [
        SubLayer(side, layer, s) for side in slots for layer in (0, 1) for s in slots[side]
    ]

    model = build_connection_model(name).double().eval()  # no dropout
    outputs = {}
    for side in slots:
        for layer, module in enumerate(getattr(model, side).layers):

            def keep(module, inputs, output, key=(side, layer)):
                outputs[key] = output[0] if isinstance(output, tuple) else output
                outputs[key].retain_grad()

            module.register_forward_hook(keep)
    mean_loss(model).backward()
    source, _, target = batch()
    for (side, layer), y in outputs.items():
        reading = readings[SubLayer(side, layer, "ffn")]
        real = y.transpose(0, 1)[{"encoder": source, "decoder": target}[side].ne(1)]
        assert reading.activation_norm == pytest.approx(real.square().sum(-1).sqrt().mean().item())
        assert reading.gradient_norm == pytest.approx(y.grad.square().sum().sqrt().item())
        weight = getattr(model, side).layers[layer].fc2.weight
        assert reading.fc2_gradient_norm == pytest.approx(weight.grad.square().sum().sqrt().item())
    assert math.isnan(readings[SubLayer("encoder", 0, "self_attn")].fc2_gradient_norm)


@pytest.mark.parametrize("skip", SKIPS)
def test_every_skip_type_is_measured_at_every_sub_layer(skip):
    wanted = Variant(skip, (*TINY, *example(SKIPS[skip].declaration).split()))
    (measured,) = measure_variant(wanted, 2, [1], Batch(sentences=2, length=5, words=9))
    assert measured.layers == (2, 2)
    assert len(measured.readings) == 10
    # F of several streams is added to no x that it reads
    blank = {"coefficient_ratio", "term_ratio"} if issubclass(SKIPS[skip], (Streams, SiameseSkip)) else set()
    blank |= set() if issubclass(SKIPS[skip], Streams) else STREAM_QUANTITIES.keys()
    for reading in measured.readings:
        assert all(getattr(reading, quantity) >= 0 for quantity in QUANTITIES.keys() - blank)
        assert all(math.isnan(getattr(reading, quantity)) for quantity in blank)


def test_seeds_are_drawn_apart_and_again_the_same():
    def last(seeds):
        found = measure_variant(
            Variant("plain", (*TINY, "--skip-type", "plain")), None, seeds, Batch(2, 5, 9)
        )
        return [one.last_fc2_gradient for one in found]

    assert last([1, 2]) == [*last([1]), *last([2])]
    assert last([1]) != last([2])


def test_random_sentences_end_and_are_shifted_as_fairseqs():
    sample = random_batch(Task(), 3, 5, seed=1)
    assert (sample["target"][:, -1] == 2).all()
    assert (sample["net_input"]["prev_output_tokens"][:, 0] == 2).all()
    assert sample["net_input"]["prev_output_tokens"][:, 1:].equal(sample["target"][:, :-1])
    text = random_batch(Task(), 3, 5, seed=1, translates=False)
    assert text["net_input"]["src_tokens"][:, 1:].equal(text["target"][:, :-1])


def read_csv(folder):
    with (folder / "probe.csv").open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def check_files(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["probe.csv", "probe.png", "probe.svg"]
    assert imread(folder / "probe.png").std() > 0
    assert ElementTree.parse(folder / "probe.svg").getroot().tag.endswith("svg")
    return read_csv(folder)


def test_the_default_call_draws_the_gradient_picture(tmp_path):
    printed = run(
        "-m", "skipln_fairseq.probe", "--depths", 1, 2, *SMALL_BATCH, "--output", tmp_path / "new" / "probe"
    )
    assert "rSkip+LN" in printed.output
    assert "DEBUG" not in printed.output
    rows = check_files(tmp_path / "new" / "probe")
    depths = defaultdict(set)
    for row in rows:
        depths[row["variant"]].add((row["encoder_layers"], row["decoder_layers"]))
    assert list(depths)[:3] == ["Post-LN", "Pre-LN", "rSkip+LN, order 2"]
    assert all(depths[name] == {("1", "1"), ("2", "2")} for name in list(depths)[:3])
    assert list(depths)[3:] == [
        f"λ = {scale}, {norm}" for norm in ("no norm", "LN") for scale in ("0.5", "1", "2")
    ]
    for row in rows:
        assert float(row["gradient_norm"]) > 0
        assert bool(row["fc2_gradient_norm"]) == (row["sub_layer"] == "ffn")
        if row["variant"].startswith("λ"):
            assert row["coefficient_ratio"] == str(float(row["variant"].split()[2].rstrip(",")))


def test_variants_and_depths_stand_side_by_side(tmp_path, capsys):
    variants = ("--variant", "A: --skip-type plain", "--variant", "B: --skip-order 2 --skip-norm dyt")
    main([*TINY, *variants, "--depths", "1", "2", *SMALL_BATCH, "--seeds", "2", "--output", str(tmp_path)])
    rows = check_files(tmp_path)
    assert {(r["variant"], r["decoder_layers"], r["seed"]) for r in rows} == {
        (variant, depth, seed) for variant in "AB" for depth in "12" for seed in "12"
    }
    assert len(rows) == 2 * 2 * (5 + 10)
    assert {row["coefficient_ratio"] for row in rows if row["variant"] == "B"} == {""}
    assert "2+2" in capsys.readouterr().out


def test_the_figure_shows_what_was_measured():
    wanted = Variant("plain", (*TINY, "--skip-type", "plain"))
    measured = [one for depth in (1, 2) for one in measure_variant(wanted, depth, [1, 2, 3], Batch(2, 5, 9))]
    axes = draw(panels(measured)).axes
    assert [a.get_title() for a in axes[:2]] == ["Last feed-forward weight", "Gradient"]
    depths, medians = axes[0].get_lines()[0].get_data()
    assert list(depths) == [1, 2]
    assert list(medians) == [sorted(one.last_fc2_gradient for one in measured[i : i + 3])[1] for i in (0, 3)]
    positions, gradients = axes[1].get_lines()[0].get_data()
    assert [int(p) for p in positions[~(gradients != gradients)]] == list(
        range(1, 11)
    )  # the deepest, no seam
    assert all(a.get_xlabel() and a.get_ylabel() and a.get_legend() for a in axes)


def test_a_language_model_and_one_model_alone(tmp_path, capsys):
    flags = ("--arch", "transformer_lm_rskip_tiny", "--decoder-layers", "1")
    main([*flags, *SMALL_BATCH, "--output", str(tmp_path)])
    assert [(row["side"], row["sub_layer"]) for row in check_files(tmp_path)] == [
        ("decoder", "self_attn"),
        ("decoder", "ffn"),
    ]
    assert "decoder.0.ffn" in capsys.readouterr().out


def test_a_checkpoint_is_measured_on_its_data(trained, data, tmp_path, capsys):
    files = ("--path", str(trained.checkpoint), "--data", str(data), "--output", str(tmp_path))
    main([*files, "--seeds", "3", "--sentences", "2"])
    rows = check_files(tmp_path)
    assert {row["variant"] for row in rows} == {"checkpoint_last"}
    assert len(rows) == 3 * 10
    assert len({row["gradient_norm"] for row in rows[::10]}) > 1  # of other batches
    assert "checkpoint_last" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/one.pt", "b/two.pt"], ["one", "two"]),
        (["runs/a/best.pt", "runs/b/best.pt"], ["a", "b"]),
        (["runs/a/seed-1/best.pt", "runs/b/seed-2/best.pt"], ["a/seed-1", "b/seed-2"]),
        (["best.pt", "runs/a/best.pt"], ["best", "runs/a/best"]),
        (["a/best.pt", "a/b/best.pt", "a/b/last.pt"], ["best", "b/best", "b/last"]),
        (["/x/best.pt", "y/best.pt"], ["/x", "y"]),
        (["a/best.pt", "a/best.bin"], ["a/best.pt", "a/best.bin"]),
        (["a/best.v1", "a/best.v2"], ["a/best.v1", "a/best.v2"]),
    ],
)
def test_checkpoints_of_one_name_are_told_apart_by_their_folders(files, names):
    assert told_apart([Path(file) for file in files]) == names


def test_untrained_models_stand_beside_a_checkpoint(trained, data, tmp_path):
    """They are fresh models of its flags, on the same batches; its own rows are what they are without them."""
    shared = ("--data", str(data), "--seeds", "2", "--sentences", "2")
    path = ("--path", str(trained.checkpoint))
    calls = {
        "alone": path,
        "both": (*path, "--untrained"),
        "fresh": ("--arch", "transformer_rskip_tiny"),
    }
    for name, arguments in calls.items():
        main([*arguments, *shared, "--output", str(tmp_path / name)])
    alone, both, fresh = (check_files(tmp_path / name) for name in calls)
    assert both[20:] == alone
    assert {row["variant"] for row in both[:20]} == {"checkpoint_last, untrained"}

    def measured(rows):
        return [[row[name] for name in ("seed", "position", *QUANTITIES)] for row in rows]

    assert measured(both[:20]) == measured(fresh)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "--skip-type plain"], "valid is 'NAME: FLAGS'"),
        (["--variant", "A: --skip-order 1", "--variant", "A: --skip-order 2"], "--variant A: two variants"),
        (["--variant", "A: --bogus 3"], "A: unrecognized arguments: --bogus 3"),
        (["--skip-order", "0"], "--skip-order 0: valid is a whole number"),
        (["--arch", "nope"], "--arch nope is unknown"),
        (["--arch", "transformer", *TINY], "TransformerModel has no layers of this plugin's Transformers"),
        (["--seeds", "0"], "--seeds 0: valid is a whole number of at least 1"),
        (["--depths", "6", "-1"], "--depths -1: valid"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--path", "nowhere.pt"], "--path nowhere.pt does not exist"),
        (["--path", "nowhere.pt", "--depths", "2"], "--path is a finished model"),
        (["--untrained"], "--untrained goes with --path"),
        (["--output", __file__], "is a file: name a folder"),
        (["--picture", "grow"], "--picture grow: valid are gradients, growth"),
        (
            ["--picture", "growth", "--skip-order", "2"],
            "--picture growth: valid are gradients, growth, of models",
        ),
        (["--picture", "trained"], "--picture trained: valid are gradients, growth"),
        (["--picture", "growth", "--path", __file__], "--picture growth: valid are gradients, growth"),
    ],
)
def test_bad_input_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as error:
        main([*SMALL_BATCH, *arguments])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_line_and_a_status(tmp_path):
    printed = run(
        "-m", "skipln_fairseq.probe", "--skip-order", "x", "--output", tmp_path / "p", succeeds=False
    )
    assert printed.output.strip().splitlines() == [
        "skipln_fairseq: error: --skip-order x: valid is a whole number of at least 1"
    ]
    assert not (tmp_path / "p").exists()


def test_nothing_is_written_where_one_file_fails(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail(file):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        write_all(tmp_path, {"a": lambda file: file.write_text("new"), "b": fail})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


class Watched(ProbedModel, TransformerModelBase):
    """fairseq's model of any two stacks, with the log mixed in."""


def watched(interval, name="rskip-2", *flags):
    model = build_connection_model(name, *flags)
    given = type("Args", (), {"probe_interval": interval} if interval is not None else {})
    return probed(Watched(model.cfg, model.encoder, model.decoder), given)


def train_step(model, update):
    """What fairseq's task does in one update, the loss summed as its criteria do; what was logged."""
    model.train()
    with metrics.aggregate(new_root=True) as logged:
        model.set_num_updates(update)
        source, lengths, target = batch()
        logits, _ = model(source, lengths, target)
        F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=1, reduction="sum").backward()
    return logged.get_smoothed_values()


@pytest.mark.parametrize("flags", [(), ("--checkpoint-activations",)])
def test_training_logs_what_the_tool_measures(flags):
    model = watched("2", "rskip-2", *flags, "--dropout", "0")
    assert train_step(model, 0) == {}
    logged = train_step(model, 1)
    assert train_step(model, 2) == {}
    asked = QUANTITIES.keys() - STREAM_QUANTITIES.keys()
    assert set(logged) == {f"{quantity}/{place}" for quantity in asked for place in sub_layers(model)}

    def loss(model):
        source, lengths, target = batch()
        logits, _ = model(source, lengths, target)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=1)

    for reading in measure(model, loss):
        for quantity in asked:
            assert logged[f"{quantity}/{reading.place}"] == pytest.approx(
                getattr(reading, quantity), rel=1e-3
            )


def test_evaluation_logs_nothing_and_an_unlogged_model_has_no_hook():
    model = watched("1")
    train_step(model, 0)
    with metrics.aggregate(new_root=True) as logged, torch.no_grad():
        model.eval()(*batch())
    assert logged.get_smoothed_values() == {}
    for interval in (None, "0", 0):
        model = watched(interval)
        assert train_step(model, 0) == {}
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_logging_changes_no_gradient():
    flags = ("--dropout", "0", "--kernels", "reference")
    first, second = watched("1", "rskip-2", *flags), watched(None, "rskip-2", *flags)
    for model in (first, second):
        train_step(model, 0)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.grad.equal(other.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_logged_model_still_scripts():
    model = watched("2").eval()
    model.set_num_updates(2)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(*batch())[0], model(*batch())[0])


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_a_bad_interval_is_refused(value):
    with pytest.raises(UserError, match=f"--probe-interval {value}: valid is a whole number of at least 0"):
        watched(value)


def test_the_flag_is_absent_unless_given():
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    add_probe_args(parser)
    assert not hasattr(parser.parse_args([]), "probe_interval")
    assert parser.parse_args(["--probe-interval", "7"]).probe_interval == "7"


def test_training_with_the_flag_logs_to_tensorboard(data, tmp_path):
    """Through fairseq-train: each sub-layer's quantities, in the log and as tensorboard's scalars."""
    flags = ("--max-update", "2", "--probe-interval", "2", "--tensorboard-logdir", tmp_path / "board")
    done = run("fairseq-train", data, *TRAIN, *flags, "--save-dir", tmp_path / "checkpoints")
    first, second = done.logged("train_inner")
    name = "gradient_norm/decoder.1.cross_attn"
    assert name not in first
    assert float(second[name]) > 0
    events = b"".join(file.read_bytes() for file in (tmp_path / "board" / "train_inner").iterdir())
    assert name.encode() in events
