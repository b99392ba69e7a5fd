"""``--ddp-backend fully_sharded`` through the commands: the training and the checkpoints are those without shards."""

import pytest
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.bfloat16 import CPUINFO, multiplies_bfloat16
from skipln_fairseq.compat.sharding import refuse_beside_sharding
from tests.compat.test_torchrun import NO_DROPOUT, free_port
from tests.models.test_workers_norms import MEMBERS
from tests.support.build import parse
from tests.support.commands import SIZES, TRAIN, run, start, wait
from tests.support.image_commands import TRAIN as TRAIN_ON_IMAGES

LAST = "checkpoint_last.pt"
SHARDED = ("--ddp-backend=fully_sharded", "--min-params-to-wrap=0")


def train(processes, folder, *argv, shards=SHARDED, succeeds=True):
    """What the first of so many processes printed; several of them hold parts."""
    argv = (*argv, *shards, "--save-dir", folder)
    if processes == 1:
        return run("fairseq-train", *argv)
    env = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    started = []
    for rank in map(str, range(processes)):
        place = folder.parent / f"{folder.name}-{rank}"
        place.mkdir(exist_ok=True)
        mine = env | {"RANK": rank, "LOCAL_RANK": rank}
        started.append((place, start(place, "fairseq-train", *argv, env=mine)))
    first, *_ = [wait(*one, succeeds) for one in started]
    return first


def load(file):
    return torch.load(file, weights_only=True)


def assert_close(file, other, **tolerance):
    """The weights and the optimizer's state of two checkpoints, which are ordinary ones."""
    one, two = load(file), load(other)
    assert one.keys() == two.keys()
    for part in ("model", "last_optimizer_state"):
        torch.testing.assert_close(two[part], one[part], **tolerance)


# 180 sentences are 12 batches: two updates an epoch, whatever the number of processes
UPDATE_FREQ = {1: 6, 2: 3, 3: 2}
# Sums in another order are rounded otherwise. Adam would divide such a difference by a gradient that is as small, and
# ReLU would switch a unit on.
SMOOTH = (*NO_DROPOUT, "--adam-eps=1e-4", "--activation-fn=gelu")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def train_epochs(processes, folder, data, epochs, **how):
    more = (*SMOOTH, "--clip-norm=0.5", f"--update-freq={UPDATE_FREQ[processes]}", f"--max-epoch={epochs}")
    return train(processes, folder, data, *TRAIN, *more, **how).losses()


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """The folder of a run of one process, and its losses."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train_epochs(1, folder, data, 4, shards=())


@pytest.mark.parametrize(
    "order",
    [(1, 2, 1), pytest.param((3, 1, 3, 2), marks=pytest.mark.slow)],
    ids=["1, 2, 1", "3, 1, 3, 2"],
)
def test_each_epoch_goes_on_with_another_number_of_processes(order, uninterrupted, data, tmp_path):
    whole, expected = uninterrupted
    found = []
    for epoch, processes in enumerate(order, 1):
        found += train_epochs(processes, tmp_path / "run", data, epoch)
    assert found == expected[: len(found)]
    assert_close(whole / f"checkpoint{len(order)}.pt", tmp_path / "run" / LAST, **CLOSE)


def test_its_checkpoint_translates(uninterrupted, data, tmp_path):
    train_epochs(2, tmp_path / "run", data, 1)
    translations = []
    for file in (tmp_path / "run" / LAST, uninterrupted[0] / "checkpoint1.pt"):
        done = run("fairseq-generate", data, "--path", file, "--cpu", "--beam=2", "--max-len-b=5")
        translations.append([line.split("\t")[::2] for line in done.lines("H")])
    assert len(translations[0]) == 15
    assert translations[0] == translations[1]


KINDS = {
    "float32": "--no-reshard-after-forward --heartbeat-timeout=100",
    "bfloat16": "--bf16 --checkpoint-activations",
    "bfloat16 alone": "--memory-efficient-bf16",
}


@pytest.mark.parametrize(
    "kind",
    ["bfloat16", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("float32", "bfloat16 alone"))],
)
def test_a_resumed_run_is_the_uninterrupted_one(kind, data, tmp_path):
    """In the middle of an epoch, bit for bit."""
    flags = (*KINDS[kind].split(), "--dropout=0.1", "--clip-norm=0.5")
    whole = train(2, tmp_path / "whole", data, *TRAIN, *flags)
    first = train(2, tmp_path / "resumed", data, *TRAIN, *flags, "--max-update=3")
    rest = train(2, tmp_path / "resumed", data, *TRAIN, *flags, "--load-checkpoint-on-all-dp-ranks")
    assert len(whole.losses()) == 6
    assert first.losses() + rest.losses() == whole.losses()
    assert_close(tmp_path / "whole" / LAST, tmp_path / "resumed" / LAST, rtol=0, atol=0)


def test_bfloat16(data, tmp_path):
    """Gradients are rounded to 8 bits after they are summed, and not before: no master is off by half an update."""
    flags = (*SMOOTH, "--bf16", "--skip-type=gpas")  # whose scalars stay whole
    alone = train(1, tmp_path / "one", data, *TRAIN, *flags, "--update-freq=2", shards=())
    together = train(2, tmp_path / "two", data, *TRAIN, *flags)
    for (_, expected), (_, found) in zip(alone.losses(), together.losses(), strict=True):
        assert float(found) == pytest.approx(float(expected), abs=0.005)
    one, two = (
        load(tmp_path / name / LAST)["last_optimizer_state"]["fp32_params"] for name in ("one", "two")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=0.001)  # six updates of up to 0.002
    embedded = load(tmp_path / "two" / LAST)["model"]["decoder.embed_tokens.weight"]
    assert torch.equal(embedded, embedded.bfloat16().float()) is multiplies_bfloat16(CPUINFO)


OTHERS = {
    "admin": "--skip-type=admin",
    "batch": "--skip-type=plain --skip-norm=batch",
    **MEMBERS,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_two_processes_without_shards_find_the_same(name, data, tmp_path):
    """What is measured, counted and kept besides parameters."""
    # nine batches: one stands in for a tenth
    assert_parts_are_wholes(tmp_path, data, *TRAIN, *SMOOTH, "--batch-size=20", *OTHERS[name].split())


@pytest.mark.slow
def test_networks_of_fairseq(data, tmp_path):
    small = (
        f"--{side}-{what}"
        for side in ("encoder", "decoder")
        for what in ("layers=2", "embed-dim=64", "ffn-embed-dim=64")
    )
    assert_parts_are_wholes(tmp_path, data, *TRAIN, *SMOOTH, "--arch=transformer", *small)


@pytest.mark.slow
def test_networks_of_images(tmp_path):
    """With weights that are centred after every update."""
    flags = ("--arch=vgg11", "--normalisation=mimic", "--lr=0.01", "--max-update=2")
    assert_parts_are_wholes(tmp_path, "digits", *TRAIN_ON_IMAGES, *flags, shards=SHARDED[:1])


@pytest.mark.slow
def test_language_models(texts, tmp_path):
    preprocess = (
        "--only-source",
        "--destdir",
        tmp_path / "data",
        *(f"--{s}pref={texts / s}.en" for s in SIZES),
    )
    run("fairseq-preprocess", *preprocess)
    small = (
        "--decoder-embed-dim=16",
        "--decoder-ffn-embed-dim=32",
        "--decoder-layers=2",
        "--decoder-attention-heads=2",
    )
    flags = ("--task=language_modeling", "--tokens-per-sample=32", "--arch=transformer_lm_rskip", *small)
    assert_parts_are_wholes(tmp_path, tmp_path / "data", *TRAIN, *flags, *SMOOTH)


def assert_parts_are_wholes(folder, *argv, shards=SHARDED):
    """Two processes with shards find what two without them find."""
    parts = train(2, folder / "parts", *argv, shards=shards)
    wholes = train(2, folder / "wholes", *argv, shards=())
    assert parts.losses()
    assert parts.losses() == wholes.losses()
    assert_close(folder / "parts" / LAST, folder / "wholes" / LAST, **CLOSE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--store-ema", "does not go with --store-ema: a second model"),
        ("--eval-bleu", "does not go with --eval-bleu: translations end"),
        ("--encoder-layerdrop=0.1", "does not go with --encoder-layerdrop: each process"),
        ("--adaptive-softmax-cutoff=10", "does not go with --adaptive-softmax-cutoff: the criterion"),
        ("--quant-noise-pq=0.1", "does not go with --quant-noise-pq: it changes"),
        ("--use-bmuf", "does not go with --use-bmuf: "),
        ("--cpu-offload", "does not go with --cpu-offload: "),
        ("--use-sharded-state", "does not go with --use-sharded-state: a checkpoint is one whole file"),
        ("--fp16-adam-stats", "does not go with --fp16-adam-stats: "),
        ("--fp32-reduce-scatter", "does not go with --fp32-reduce-scatter: "),
        ("--zero-sharding=os", "does not go with --zero-sharding: "),
        ("--optimizer=adafactor", "with --optimizer adafactor: valid are adadelta, "),
    ],
)
def test_what_cannot_be_sharded_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError) as error:
        parse("transformer_rskip", "--cpu", "--ddp-backend=fully_sharded", *flags.split())
    assert f"--ddp-backend fully_sharded {message}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flag", ["fp16", "amp"])
def test_half_precision_with_a_loss_scale_is_refused(flag):
    """Which a CPU refuses for itself."""
    flags = parse("transformer_rskip", "--cpu", "--ddp-backend=fully_sharded")
    setattr(flags, flag, True)
    with pytest.raises(UserError, match=f"does not go with --{flag}: it trains in float32, or with --bf16"):
        refuse_beside_sharding(flags)


def test_adam_is_fairseqs_own():
    """Where it finds apex's it would take that."""
    assert parse("transformer_rskip", "--cpu", "--ddp-backend=fully_sharded").use_old_adam
    assert not parse("transformer_rskip", "--cpu").use_old_adam


def test_a_run_that_diverges_ends_and_saves_nothing(data, tmp_path):
    """All processes end by themselves, without waiting for each other."""
    ended = train(2, tmp_path / "run", data, *TRAIN, "--lr=1e38", succeeds=False)
    assert "FloatingPointError: gradients are Nan/Inf" in ended.output
    assert not (tmp_path / "run" / "crash.pt").exists()
