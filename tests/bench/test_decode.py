"""``python -m skipln_fairseq.bench decode``."""

import json
from types import SimpleNamespace

import pytest
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModel

from skipln_fairseq.bench.__main__ import main
from skipln_fairseq.bench.decoding import CONTESTANTS
from skipln_fairseq.bench.render import rows
from skipln_fairseq.common.errors import UserError
from tests.support.build import Task, batch, parse
from tests.support.commands import run

QUICK = ("--starts=1", "--rounds=2", "--warmup=0", "--sentences=4", "--batch-sizes", "2", "--beams", "1", "2")


@pytest.fixture(scope="module")
def report(data, trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("decode") / "decode.json"
    flags = ("--path", trained.checkpoint, "--data", data, "--output", output, *QUICK)
    run(
        "-m",
        "skipln_fairseq.bench",
        "decode",
        *flags,
        "--contestants",
        "reference",
        "fast",
        "fast+int8",
        user_dir=None,
    )
    return json.loads(output.read_text())


def test_every_size_and_contestant_is_measured(report):
    assert [heat["shape"] for heat in report["heats"]] == ["batch 2, beam 1", "batch 2, beam 2"]
    for heat in report["heats"]:
        assert [one["contestant"] for one in heat["runs"]] == ["reference", "fast", "fast+int8"]
        for one in heat["runs"]:
            assert len(one["seconds"]) == 2
            assert min(one["seconds"]) > 0
            assert one["sentences"] == 4
            middle = sorted(one["seconds"])
            speed = one["sentences"] / ((middle[0] + middle[1]) / 2)
            assert one["summary"]["sentences_per_second"] == pytest.approx(speed)
        reference, fast, _ = heat["runs"]
        assert reference["tokens"] == fast["tokens"]  # they find the same
        assert fast["summary"]["peak_bytes"] > 4 * fast["parameters"]


def test_speeds_are_told_as_ratios(report):
    for _, found in rows(report):
        assert found[0][2] == "1.00"
        low, high = found[1][2].rstrip(")").split("(")[1].split("–")
        assert float(low) <= float(found[1][2].split(" ")[0]) <= float(high)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--contestants", "faster"], "--contestants faster: valid are stock, reference, fast"),
        (["--contestants", "fast", "fast"], "--contestants: each once"),
        (["--beams", "0"], "valid are whole numbers of at least 1"),
        (["--dtype", "bf16"], "contestants say their type"),
        ([], "none.pt does not exist"),
        (["--path", __file__, "--data", "/none"], "--data /none is no folder"),
    ],
)
def test_bad_input_is_one_line(flags, line, tmp_path):
    with pytest.raises(UserError) as error:
        main(["decode", "--path", str(tmp_path / "none.pt"), "--data", str(tmp_path), *flags])
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_stock_is_refused_before_anything_is_measured(data, trained, tmp_path):
    flags = ("--path", trained.checkpoint, "--data", data, "--output", tmp_path / "decode.json", *QUICK)
    finished = run("-m", "skipln_fairseq.bench", "decode", *flags, user_dir=None, succeeds=False)
    assert "--contestants stock needs a checkpoint that is a model of fairseq's own" in finished.output
    assert not (tmp_path / "decode.json").exists()


@pytest.mark.parametrize(
    ("flags", "is_stock"),
    [
        ("--skip-type plain", True),
        ("--skip-order 1", True),
        ("--skip-type plain --encoder-normalize-before --decoder-normalize-before", True),
        ("--skip-order 2", False),
        ("--skip-type plain --skip-norm rms", False),
        ("--skip-type plain --norm-placement res-post", False),
        # with fairseq's names of parameters, and another equation
        ("--skip-type expanded --skip-scale 2", False),
    ],
)
def test_what_stock_is_measured_with(flags, is_stock):
    """A model of fairseq's own that computes what the checkpoint's does; else it is refused."""
    args, contestant = parse("transformer_rskip", *flags.split()), object.__new__(CONTESTANTS["stock"])
    contestant.cfg, contestant.task = SimpleNamespace(model=args), Task(40)
    source, lengths, target = batch()
    inputs = {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": target}
    contestant.samples = [{"net_input": inputs}]
    model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, contestant.task)
    if is_stock:
        assert type(contestant.stock_of(model)) is TransformerModel
    else:
        with pytest.raises(UserError, match="--contestants stock needs a checkpoint"):
            contestant.stock_of(model)
