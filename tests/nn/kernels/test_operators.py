"""The kernels as operators of torch: what traces a model sees them, and a stand-in for a tensor gets through."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from skipln_fairseq.nn.kernels import cross_entropy
from skipln_fairseq.nn.kernels.chain import Link, Norming, Part
from skipln_fairseq.nn.kernels.leave import leave
from skipln_fairseq.nn.kernels.leave.step import flat

DIM = 8
LEAVE, LEAVE_BACKWARD = (getattr(torch.ops.skipln, name).default for name in ("leave", "leave_backward"))


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer_norm(seed, **options):
    return Norming(Part.LAYER, 1e-5, drawn(DIM, seed=seed), drawn(DIM, seed=seed + 1), **options)


CHAINS = {
    "sum": [Link()],
    "post": [Link(norm=layer_norm(1))],
    "recursive": [Link(2.0, norm=layer_norm(1)), Link(2.0, norm=layer_norm(3))],
    "rms": [Link(norm=Norming(Part.RMS, 1e-6, drawn(DIM, seed=1)))],
    "layerscale": [Link(1.0, drawn(DIM, seed=1))],
    "res-post": [Link(0.0, norm=layer_norm(1)), Link(drawn(1, seed=3))],
}


def inputs(chain, dtype, drop=0.0, learns=True):
    f, x = (drawn(3, 2, DIM, seed=seed, dtype=dtype) for seed in (5, 6))
    parameters, parts, numbers = flat(chain, DIM)
    tensors = [one.detach().to(dtype).clone().requires_grad_(learns) for one in (f, x, *parameters)]
    seed = torch.tensor(2**40 + 3) if drop else None
    return [*tensors[:2], seed, tensors[2:], parts, numbers, drop]


@pytest.mark.parametrize(
    ("name", "dtype"),
    # a type has a form of its own, a chain has not
    [
        *((name, torch.float32) for name in CHAINS),
        ("recursive", torch.bfloat16),
        ("recursive", torch.float64),
    ],
)
def test_the_leave_step_is_an_operator_as_torch_wants_it(name, dtype):
    opcheck(LEAVE, tuple(inputs(CHAINS[name], dtype, 0.3)))


def test_its_backward_is_an_operator_too():
    f, x, seed, parameters, *fixed = inputs(CHAINS["recursive"], torch.float32, 0.3, learns=False)
    y, statistics = LEAVE(f, x, seed, parameters, *fixed)
    opcheck(LEAVE_BACKWARD, (torch.ones_like(y), f, x, seed, parameters, statistics, *fixed))


def test_tensors_of_another_layout_are_what_they_are():
    f, x, seed, parameters, *fixed = inputs(CHAINS["recursive"], torch.float32, learns=False)
    expected, kept = LEAVE(f, x, seed, parameters, *fixed)
    turned = [one.transpose(0, 1).contiguous().transpose(0, 1) for one in (f, x, torch.ones_like(f))]
    opcheck(LEAVE, (*turned[:2], seed, parameters, *fixed))
    assert torch.equal(LEAVE(*turned[:2], seed, parameters, *fixed)[0], expected)
    calls = (
        LEAVE_BACKWARD(dy, f, x, seed, parameters, kept, *fixed)
        for f, x, dy in ((f, x, turned[2] * 1), turned)
    )
    assert all(torch.equal(one, other) for one, other in zip(*calls, strict=True))


def test_cross_entropy_is_an_operator_as_torch_wants_it():
    logits, target = drawn(6, 11).requires_grad_(), torch.tensor([1, 0, 3, 10, 1, 2])
    opcheck(cross_entropy._operator, (logits, target, 1))
    rows = [drawn(6, seed=seed) for seed in range(3)]
    opcheck(cross_entropy._operator_backward_, (drawn(6, 11), target, 1, *rows))


# autograd asks the device itself for its streams, even of stand-ins
DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_stand_in_gets_through_forward_and_backward(device, dtype):
    def call(context):
        with context:
            like = {"device": device, "dtype": dtype, "requires_grad": True}
            f, x, w, b = (torch.empty(*shape, **like) for shape in 2 * [(3, 5, DIM)] + 2 * [(DIM,)])
            y = leave(f, x, [Link(norm=Norming(Part.LAYER, 1e-5, w, b))], drop=0.1)
            logits = y.flatten(0, 1) * 1
            target = torch.empty(15, dtype=torch.long, device=device)
            nll, every = cross_entropy.cross_entropies_(logits, target, 1)
            (nll.sum() + every.sum()).backward()
            for one in (y, f.grad, x.grad, w.grad, b.grad):
                assert (one.device.type, one.dtype) == (device, dtype)
            assert (nll.device.type, nll.dtype) == (device, torch.float32)

    call(torch.device("meta") if device == "meta" else FakeTensorMode())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_stand_in_on_a_gpu_that_is_not_there_gets_through(dtype):
    with FakeTensorMode():
        f = torch.empty(3, 5, DIM, device="cuda", dtype=dtype)
        w = torch.empty(DIM, device="cuda", dtype=dtype)
        seed = torch.randint(2**63 - 1, ())
        fixed = ([Part.LAYER | Part.GAIN], [1.0, 1.0, 1e-5, 1.0, 0.0], 0.1)
        y, statistics = LEAVE(f, f, seed, [w], *fixed)
        df, dx, sums = LEAVE_BACKWARD(y, f, f, seed, [w], statistics, *fixed)
        for one, kind in (
            (y, dtype),
            (df, dtype),
            (dx, dtype),
            (statistics, torch.float32),
            (sums, torch.float32),
        ):
            assert (one.device.type, one.dtype) == ("cuda", kind)


def compiled_and_not(function, *tensors):
    found = []
    for form in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        given = [one.clone().requires_grad_() for one in tensors]
        torch.manual_seed(4)
        out = form(*given)
        found.append([out.detach(), *torch.autograd.grad(out.square().sum(), given)])
    return found


def test_one_compiled_graph_has_the_cross_entropy_too():
    target = torch.tensor([1, 0, 3, 7, 1, 2])

    def loss(f, x, w, vectors):
        y = leave(f, x, [Link(norm=Norming(Part.LAYER, 1e-5, w))], drop=0.5)
        nll, every = cross_entropy.cross_entropies_(y @ vectors.t(), target, 1)
        return nll + 0.1 * every

    tensors = drawn(6, DIM), drawn(6, DIM, seed=1), drawn(DIM, seed=2), drawn(11, DIM, seed=3)
    for ours, theirs in zip(*compiled_and_not(loss, *tensors), strict=True):
        assert torch.equal(ours, theirs)


def test_a_compiled_graph_draws_another_dropout_in_each_call():
    f, x = drawn(40, DIM), torch.zeros(40, DIM)
    form = torch.compile(lambda f, x: leave(f, x, drop=0.5), fullgraph=True, backend="aot_eager")
    assert not torch.equal(form(f, x), form(f, x))


def test_exported_it_is_one_operator_and_takes_other_sizes():
    class Module(torch.nn.Module):
        def forward(self, f, x):
            return leave(f, x, CHAINS["recursive"])

    rows = torch.export.Dim("rows")
    program = torch.export.export(Module(), (drawn(5, DIM), drawn(5, DIM)), dynamic_shapes=2 * ({0: rows},))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"].count(LEAVE) == 1
    f, x = drawn(9, DIM), drawn(9, DIM, seed=1)
    assert torch.equal(program.module()(f, x), leave(f, x, CHAINS["recursive"]))


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_transforms_of_functions_are_refused(transform):
    with pytest.raises(RuntimeError, match="functorch transforms"):
        transform(lambda f: leave(f, torch.ones(DIM), CHAINS["post"]).sum())(torch.ones(3, DIM))
