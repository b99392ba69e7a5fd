"""A step and an update of a model in parts on two processes are those of the model in one process."""

import traceback

import pytest
import torch
from fairseq import optim
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from torch import distributed as dist
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from skipln_fairseq.compat.sharding import OPTIMIZERS
from skipln_fairseq.compat.shards import ShardedModel, clip
from skipln_fairseq.models.family import declarations, example
from tests.models.test_workers_norms import EXACT, MEMBERS, sentences
from tests.support.build import build, parse
from tests.support.commands import SERVER

EVERY = {f"{variant.axis} {variant.choice}": example(variant) for variant in declarations()}
EVERY["source transparent"] += " --transparent-dropout=0"
QUICK = {
    "in one piece": "--min-params-to-wrap=1000000",
    "all embeddings are one": "--share-all-embeddings",
    "the decoder's are one": "--share-decoder-input-output-embed",
    "checkpointed": "--checkpoint-activations --min-params-to-wrap=1000000",
    "checkpointed mixing": "--checkpoint-activations --depth-mixing=dlcl --skip-type=plain --norm-placement=pre",
    "checkpointed batch": "--checkpoint-activations --skip-type=plain --skip-norm=batch",
    "checkpointed solver": "--checkpoint-activations --encoder-solver=rk2-gated --skip-type=plain --norm-placement=pre",
    "whole scalars": "--skip-type=gpas --skip-norm=derf --qk-norm=unit --qk-norm-length=9",
    "a whole scalar that layers share": "--encoder-solver=pc2 --skip-type=plain --norm-placement=pre",
    "values": "--value-residual=learnable --cross-attention-source=transparent --transparent-dropout=0",
    "admin": "--skip-type=admin",
    **MEMBERS,
}
ALL = EVERY | QUICK


def step(model, rank=None):
    """The gradients of a worker's sentences, or of all."""
    source, lengths, target = sentences(rank)
    log_probs = model(source, lengths, target)[0].log_softmax(-1)
    log_probs.gather(-1, target.unsqueeze(-1))[target.ne(1)].sum().backward()


def full(named):
    """Named tensors, put together."""
    return {name: one.full_tensor() if isinstance(one, DTensor) else one for name, one in named}


def local(tensor):
    """What this process has of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def compare_step(flags, rank):
    """Whether the clipped gradients are those of one process with all sentences, and which part is here."""
    models = [
        build("transformer_rskip", "--dropout=0", "--min-params-to-wrap=0", *flags.split()).double()
        for _ in range(2)
    ]
    ours, one = ShardedModel(models[0], dist.group.WORLD), models[1]
    step(ours, rank)
    ours.all_reduce_grads()
    step(one)
    for parameter in one.parameters():
        if parameter.grad is not None:
            parameter.grad /= 2  # which is the mean over two workers
    gradients = {name: p.grad for name, p in ours.module.named_parameters() if p.grad is not None}
    norm = clip(list(gradients.values()), 1.0)
    expected = torch.nn.utils.clip_grad_norm_(one.parameters(), 1.0)
    torch.testing.assert_close(norm, expected, **EXACT)
    wanted = {name: p.grad for name, p in one.named_parameters() if p.grad is not None}
    assert any(gradient.abs().max() > 0.01 for gradient in wanted.values())
    torch.testing.assert_close(full(gradients.items()), wanted, **EXACT)
    parts = sum(local(p).numel() for p in ours.parameters())
    return parts / sum(p.numel() for p in one.parameters())


def compare_optimizer(name, rank):
    """Whether the parameters are those of one process after three updates."""
    models = [build("transformer_rskip", "--dropout=0", "--skip-type=gpas").double() for _ in range(2)]
    ours, one = ShardedModel(models[0], dist.group.WORLD), models[1]
    cfg = convert_namespace_to_omegaconf(parse("transformer_rskip", "--optimizer", name, "--lr=0.01"))
    sizes = []
    for model, which in ((ours, rank), (one, None)):
        optimizer = optim.build_optimizer(cfg.optimizer, list(model.parameters()))
        for _ in range(3):
            optimizer.zero_grad()
            step(model, which)
            optimizer.all_reduce_grads(model)
            optimizer.multiply_grads(0.02 if model is ours else 0.01)
            optimizer.step()
        values = tree_leaves(list(optimizer.optimizer.state.values()))
        sizes.append(sum(local(value).numel() for value in values if torch.is_tensor(value)))
    assert sizes[0] <= 0.52 * sizes[1]  # the state is in parts, too
    # most of them divide by the gradients' size, and some of these are nothing but rounding
    found, expected = full(ours.module.named_parameters()), dict(one.named_parameters())
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def worker(rank, folder, names):
    """In a process of its own: meet the other one, compare, and leave in a file what was found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name in names:
        try:
            found[name] = (
                compare_optimizer(name, rank) if name in OPTIMIZERS else compare_step(ALL[name], rank)
            )
        except BaseException:
            found[name] = traceback.format_exc()
    dist.barrier()
    torch.save(found, f"{folder}/{rank}.pt")


def meet(folder, names):
    """What two processes found."""
    processes = [SERVER.Process(target=worker, args=(rank, str(folder), list(names))) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
        process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return meet(tmp_path_factory.mktemp("shards"), (*QUICK, *OPTIMIZERS))


@pytest.fixture(scope="module")
def workers_of_every_choice(tmp_path_factory):
    return meet(tmp_path_factory.mktemp("shards"), EVERY)


def assert_same_step(workers, name):
    """Both found it, and each of them holds half of the parameters."""
    for found in workers:
        assert not isinstance(found[name], str), found[name]
        assert found[name] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", QUICK)
def test_a_step_is_that_of_one_process(workers, name):
    assert_same_step(workers, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_step_with_every_choice_is_that_of_one_process(workers_of_every_choice, name):
    assert_same_step(workers_of_every_choice, name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_of_an_optimizer_are_those_of_one_process(workers, name):
    for found in workers:
        assert found[name] is None, found[name]
