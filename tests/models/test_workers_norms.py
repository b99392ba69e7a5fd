"""Two data-parallel workers are one process with the joined batch: norms over the batch, and Admin's measurement."""

import traceback
from contextlib import nullcontext

import pytest
import torch
from torch import distributed as dist
from torch import nn

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images.running_statistics import BatchNorm2d, average_running_statistics
from skipln_fairseq.models.admin import profile
from skipln_fairseq.models.family import declarations, example
from skipln_fairseq.nn import NORMS, AdminSkip
from skipln_fairseq.nn.norm.statistics import standing_in
from tests.compat.test_torchrun import free_port
from tests.support.build import batch, build
from tests.support.commands import SERVER, TRAIN, run, start, wait

# Everything is in float64: two orders of summation differ by some 1e-15, a wrong statistic by far more.
EXACT = {"rtol": 1e-10, "atol": 1e-12}
DIM = 5
MAKE_NORM = {
    "batch": NORMS["batch"],
    "power": lambda dim: NORMS["power"](dim, warmup=2),  # two of the four steps, so that both phases are seen
    "published power": lambda dim: NORMS["power"](dim, warmup=2, published=True, groups=1),
}
# Real tokens on each worker in each sentence of so many positions; None: no mask at all, as fairseq gives it
# where no sentence is padded.
SHARES = {
    "masks of different sizes": (([6, 2, 5], 6), ([1, 4], 4)),
    "no mask on one worker": (([3, 1], 5), (None, 7)),
    "nothing but padding on one worker": (([4, 2], 4), ([0, 0, 0], 2)),
}
MODELS = {
    "batch": "--skip-type plain --skip-norm batch",
    "power": "--skip-type plain --skip-norm power --norm-placement pre --power-warmup 1",
    "recursive batch": "--skip-order 3 --skip-norm batch",
    "checkpointed": "--skip-type plain --skip-norm batch --norm-placement sandwich --checkpoint-activations",
}
ADMIN = "--skip-type admin"
LAYERDROP = {
    "batch": "--encoder-layerdrop 0.2 --skip-type plain --skip-norm batch",
    "power in one slot": "--decoder-layerdrop 0.2 --skip-type plain --decoder-ffn-skip-norm power",
    "on the other side": "--encoder-layerdrop 0.2 --skip-type plain --decoder-skip-norm batch",
    "per token": "--encoder-layerdrop 0.2 --decoder-layerdrop 0.2",
    "no layerdrop": "--skip-type plain --skip-norm batch",
}


def share(rank, name, step):
    """A worker's part of a batch: vectors (time, sentences, DIM), what weighs its loss, and the padding mask."""
    lengths, positions = SHARES[name][rank]
    sentences = 2 if lengths is None else len(lengths)
    generator = torch.Generator().manual_seed(100 * step + rank)
    v, weights = torch.randn(2, positions, sentences, DIM, generator=generator, dtype=torch.float64)
    mask = None if lengths is None else torch.arange(positions)[:, None] >= torch.tensor(lengths)
    return 3 * v + rank, weights, mask


def joined(name, step):
    """The same for one process: all positions of both workers behind each other."""
    shares = [share(rank, name, step) for rank in (0, 1)]
    masks = [torch.zeros(v.shape[:2], dtype=torch.bool) if mask is None else mask for v, _, mask in shares]
    v, weights = (torch.cat([part[i].flatten(0, 1) for part in shares]) for i in (0, 1))
    return v, weights, torch.cat([mask.flatten() for mask in masks])


def train_norm(kind, batches, stands_in=False):
    """Outputs, input gradients, parameter gradients and running statistics of each step, and an evaluation."""
    norm = MAKE_NORM[kind](DIM).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, DIM))
    steps = []
    for v, weights, mask in batches:
        norm.zero_grad()
        v = v.clone().requires_grad_()
        with standing_in(norm) if stands_in else nullcontext():
            y = norm(v, mask)
        weights = 0 * weights if stands_in else weights
        real = 1.0 if mask is None else (~mask).unsqueeze(-1)
        (weights * y.tanh() * real).sum().backward()
        gradients = {name: p.grad.clone() for name, p in norm.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        steps.append((y.detach(), v.grad, gradients, buffers))
    norm.eval()
    v, _, mask = batches[0]
    return steps, norm(v, mask).detach()


def sentences(rank=None):
    """Source, lengths and target of one worker or of both; each worker's own is cut to its longest sentence."""
    source, _, target = batch(sentences=5)
    source[3:, :2] = 1  # the second worker's: shorter on both sides
    target[3:, -1:] = 1
    if rank is not None:
        part = slice(0, 3) if rank == 0 else slice(3, 5)
        source, target = source[part], target[part]
        source = source[:, source.ne(1).any(0)]
        target = target[:, target.ne(1).any(0)]
    return source, source.ne(1).sum(1), target


def train_model(name, rank=None):
    """The gradients of a step, summed over the workers, and all buffers after it."""
    model = build("transformer_rskip", "--dropout", "0", *MODELS[name].split()).double()
    source, lengths, target = sentences(rank)
    for _ in range(2):  # the second time PowerNorm is past its warm-up
        model.zero_grad()
        log_probs = model(source, lengths, target)[0].log_softmax(-1)
        log_probs.gather(-1, target.unsqueeze(-1))[target.ne(1)].sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    if rank is not None:
        for gradient in gradients.values():
            dist.all_reduce(gradient)
    return gradients, dict(model.named_buffers())


def measure_admin(rank=None):
    model = build("transformer_rskip", *ADMIN.split()).double()
    profile(model, *sentences(rank))
    return {name: m.profile for name, m in model.named_modules() if isinstance(m, AdminSkip)}


def refusal(flags):
    """What building a model with these flags is refused with, or None."""
    try:
        build("transformer_rskip", *flags.split())
    except UserError as error:
        return str(error)
    return None


def running_statistics(rank):
    """Of a BatchNorm of images that has seen others on each worker, before and after they are averaged."""
    batch_norm = nn.Sequential(BatchNorm2d(3))
    torch.manual_seed(rank)
    batch_norm(torch.randn(4, 3, 5, 5) * (1 + rank) + rank)
    before = [buffer.clone() for buffer in batch_norm.buffers()]
    average_running_statistics(batch_norm)
    return before, [buffer.clone() for buffer in batch_norm.buffers()]


def work(rank):
    """All that one of the two workers is asked for below."""
    found = {
        (kind, name): train_norm(kind, [share(rank, name, step) for step in range(4)])
        for kind in MAKE_NORM
        for name in SHARES
    }
    found |= {name: train_model(name, rank) for name in MODELS}
    name = next(iter(SHARES))
    for kind in MAKE_NORM:
        batches = [share(rank, name, step) for step in range(4)]
        found["second stands in", kind] = train_norm(kind, batches, stands_in=rank == 1)
    found["admin"] = measure_admin(rank)
    found["statistics"] = running_statistics(rank)
    found["refusals"] = {name: refusal(flags) for name, flags in LAYERDROP.items()}
    return found


def worker(rank, folder):
    """In a process of its own: meet the other one, work, and leave what was found in a file."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        found = work(rank)
        dist.barrier()
    except BaseException:
        found = traceback.format_exc()
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What each of two workers found."""
    folder = tmp_path_factory.mktemp("workers")
    processes = [SERVER.Process(target=worker, args=(rank, str(folder))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for one in found:
        assert not isinstance(one, str), one
    return found


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("kind", MAKE_NORM)
def test_norms_equal_one_process_with_the_joined_batch(workers, kind, name):
    """Outputs and input gradients of each worker, running statistics on both, and their parameters' gradients."""
    steps, evaluated = train_norm(kind, [joined(name, step) for step in range(4)])
    found = [one[kind, name] for one in workers]
    for step, expected in enumerate(steps):
        ours = [one[0][step] for one in found]
        for i in (0, 1):  # outputs, then input gradients
            both = torch.cat([one[i].flatten(0, 1) for one in ours])
            torch.testing.assert_close(both, expected[i], **EXACT)
        for parameter, gradient in expected[2].items():
            torch.testing.assert_close(ours[0][2][parameter] + ours[1][2][parameter], gradient, **EXACT)
        for one in ours:
            torch.testing.assert_close(one[3], expected[3], **EXACT)
    both = torch.cat([one[1].flatten(0, 1) for one in found])
    torch.testing.assert_close(both, evaluated, **EXACT)


@pytest.mark.parametrize("kind", MAKE_NORM)
def test_a_batch_that_stands_in_is_not_there(workers, kind):
    """The first worker finds what it would find alone; the second one has the same running statistics."""
    name = next(iter(SHARES))
    steps, _ = train_norm(kind, [share(0, name, step) for step in range(4)])
    found = [one["second stands in", kind][0] for one in workers]
    for expected, first, second in zip(steps, *found, strict=True):
        torch.testing.assert_close(first, expected, **EXACT)
        torch.testing.assert_close(second[3], expected[3], **EXACT)
        assert not second[1].any()


@pytest.mark.parametrize("name", MODELS)
def test_models_equal_one_process_with_the_joined_batch(workers, name):
    """All gradients, summed over the workers as fairseq does, and the running statistics of every norm."""
    gradients, buffers = train_model(name)
    assert any(gradient.abs().max() > 0.1 for gradient in gradients.values())
    for ours, our_buffers in (one[name] for one in workers):
        torch.testing.assert_close(ours, gradients, **EXACT)
        torch.testing.assert_close(our_buffers, buffers, **EXACT)


def test_admin_measures_the_joined_batch(workers):
    expected = measure_admin()
    assert len(expected) == 2 * 2 + 2 * 3
    for one in workers:
        torch.testing.assert_close(one["admin"], expected, **EXACT)


def test_layerdrop_with_a_norm_over_the_batch_is_refused_on_several_workers(workers):
    """There it would wait for ever; only on the side whose layers are dropped, and never on one worker."""
    for one in workers:
        refused = {name: message for name, message in one["refusals"].items() if message is not None}
        assert refused.keys() == {"batch", "power in one slot"}
        assert refused["batch"].startswith("--encoder-layerdrop with --skip-norm batch on several workers: ")
        assert refused["power in one slot"].startswith("--decoder-layerdrop with --skip-norm power on ")
        assert all("\n" not in message for message in refused.values())
    assert not any(refusal(flags) for flags in LAYERDROP.values())


def train_on_two(folder, data, *flags, succeeds=True):
    """fairseq-train as torchrun starts it, and what both processes printed."""
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    processes = []
    for rank in "01":
        (folder / rank).mkdir()
        mine = env | {"RANK": rank, "LOCAL_RANK": rank}
        flags = (*flags, "--save-dir", folder / "checkpoints")
        processes.append(start(folder / rank, "fairseq-train", data, *TRAIN, *flags, env=mine))
    return [wait(folder / rank, process, succeeds) for rank, process in zip("01", processes, strict=True)]


def test_fairseq_train_on_two_workers(tmp_path, data):
    """Both end well; fairseq itself compares their gradients in each step, and fails where they differ."""
    flags = ("--skip-type=plain", "--skip-norm=batch", "--decoder-skip-norm=power", "--max-update=3")
    first, _ = train_on_two(tmp_path, data, *flags)
    assert [update for update, _ in first.losses()] == ["1", "2", "3"]
    state = torch.load(tmp_path / "checkpoints/checkpoint_last.pt", weights_only=True)["model"]
    batches = {int(value) for name, value in state.items() if name.endswith(".batches")}
    assert batches == {3}


# Of each axis a choice that learns something or counts.
MEMBERS = {
    "between blocks": "--encoder-skip-type=prores --encoder-prores-updates=2 --encoder-depth-mixing=dlcl "
    "--encoder-skip-norm=seed --encoder-norm-placement=pre --encoder-solver=rk2-gated --encoder-initialisation=ds "
    "--qk-norm=unit --qk-norm-length=9 "
    "--decoder-skip-type=plain --decoder-norm-placement=pre --decoder-depth-mixing=attention",
    "streams": "--encoder-skip-type=hyper-dynamic --encoder-norm-placement=sandwich --qk-norm=rms "
    "--decoder-skip-type=branchnorm --decoder-branchnorm-updates=4 --decoder-skip-norm=bhyt",
}


# of a batch's own statistics, which tests above compare with the joined batch, two halves know two
JOINED = ("norm batch", "norm power", "skip admin")
# two workers draw other numbers than one
NO_DRAWS = {"transparent": "--transparent-dropout 0"}
EACH = {
    f"{variant.axis} {variant.choice}": f"{example(variant)} {NO_DRAWS.get(variant.choice, '')}"
    for variant in declarations()
    if f"{variant.axis} {variant.choice}" not in JOINED
}


@pytest.mark.parametrize("name", MEMBERS)
def test_two_workers_are_one_process_with_update_freq_2(name, tmp_path, data):
    counters = assert_two_are_one(MEMBERS[name], tmp_path, data)
    assert counters == {2}  # what the last update was told


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_every_choice_on_two_workers(name, tmp_path, data):
    assert_two_are_one(EACH[name], tmp_path, data)


def assert_two_are_one(choices, tmp_path, data):
    """All parameters and all counters after three updates of plain gradient descent; gives the counters."""
    flags = (
        *choices.split(),
        "--max-update=3",
        "--dropout=0",
        "--optimizer=sgd",
        "--lr=0.5",
        "--clip-norm=0",
    )
    train_on_two(tmp_path, data, *flags)
    one = tmp_path / "one"
    run("fairseq-train", data, *TRAIN, *flags, "--update-freq=2", "--save-dir", one)
    states = [
        torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]
        for folder in (tmp_path / "checkpoints", one)
    ]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
    return {int(value) for name, value in states[0].items() if name.endswith("skip.updates")}


def test_fairseq_train_refuses_layerdrop_on_two_workers(tmp_path, data):
    for finished in train_on_two(tmp_path, data, *LAYERDROP["batch"].split(), succeeds=False):
        last = finished.output.splitlines()[-1].removeprefix("[rank0]: ").removeprefix("[rank1]: ")  # torch's
        assert last.startswith("skipln_fairseq: error: --encoder-layerdrop with --skip-norm batch on several")
        assert "Traceback" not in finished.output


def test_running_statistics_of_images_are_averaged(workers):
    (first, after), (second, also_after) = (one["statistics"] for one in workers)
    for one, other, mean, same in zip(first[:2], second[:2], after[:2], also_after[:2], strict=True):
        assert not torch.allclose(one, other)
        torch.testing.assert_close(mean, (one + other) / 2)
        assert torch.equal(mean, same)
