"""The fast forms on a GPU, against the reference on the same GPU or in float64. Skipped without one."""

import warnings

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from skipln_fairseq.nn.kernels.cross_entropy import cross_entropies_
from skipln_fairseq.nn.kernels.leave import cuda, leave
from tests.models.test_compile import whole
from tests.nn.kernels.chains import CHAINS, Draw, exact, here, in_form
from tests.nn.kernels.test_leave import both_ways
from tests.support.build import CONNECTIONS, batch, build, build_connection_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# of the result's type: half a unit in the last place, and as much again for a gain or bias in that type
UNITS = {torch.float32: 2**-19, torch.float16: 2**-10, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 16), (33, 7), (64, 512), (20, 1024)])
@pytest.mark.parametrize("order", [0, 1, 2, 8])
def test_leave_step(order, shape, dtype):
    assert cuda.fits(torch.ones(1, dtype=dtype, device="cuda"))
    found, expected = both_ways(order, dtype, shape, device="cuda")
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs).abs().max() <= (order + 1) * UNITS[dtype] * theirs.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain(name, dtype):
    f, x, dy = (Draw((33, 512), dtype, seed, "cuda").vector() for seed in (1, 2, 3))
    chain = CHAINS[name](Draw(512, dtype, device="cuda"))
    found, _ = in_form(here, cuda, f, x, chain, dy)
    for ours, theirs in zip(found, exact(f, x, chain, dy), strict=True):
        assert (ours.double() - theirs).abs().max() <= 4 * UNITS[dtype] * theirs.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout(dtype):
    ones, zeros = (
        torch.ones(400, 512, dtype=dtype, device="cuda"),
        torch.zeros(400, 512, dtype=dtype, device="cuda"),
    )
    torch.manual_seed(1)
    y = leave(ones.requires_grad_(), zeros, drop=0.3)
    (gradient,) = torch.autograd.grad(y.sum(), ones)
    assert torch.equal(gradient, y)
    assert abs(y.eq(0).double().mean() - 0.3) < 0.005  # 204,800 draws: three standard deviations are 0.003


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONNECTIONS)
def test_models(name, dtype):
    """Both forms are as far from float64 as their type is: the fast one at most twice as far as the reference."""
    tokens = [tensor.cuda() for tensor in batch()]
    features = {}
    for kernels, wanted in (("reference", torch.float64), ("reference", dtype), ("fast", dtype)):
        model = build_connection_model(name, "--dropout", "0", "--kernels", kernels).cuda().to(wanted)
        features[kernels, wanted] = model(*tokens, features_only=True)[0].double()
    exact = features["reference", torch.float64]
    reference, fast = ((features[k, dtype] - exact).abs().max() for k in ("reference", "fast"))
    assert fast <= 2 * reference + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 5000, generator=generator).to("cuda", dtype)
    target = torch.randint(0, 5000, (64,), generator=generator).cuda()
    exact = logits.double().log_softmax(-1)
    nll, every = cross_entropies_(logits, target, ignored=1)
    torch.testing.assert_close(nll.double(), -exact.gather(1, target[:, None])[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(every.double(), -exact.sum(1), rtol=1e-5, atol=1e-2)


def gradients(model, called):
    """The output and all gradients of a forward and backward, called as a model or as what wraps it."""
    model.zero_grad()
    out = called(*(tensor.cuda() for tensor in batch()))[0]
    out.float().square().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def one_process(tmp_path):
    """A group of this process alone."""
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["plain", "rskip-2", "sandwich-rms", "hyper-dynamic"])
def test_torchs_data_parallel_has_the_models_gradients(name, one_process):
    model = build_connection_model(name, "--dropout", "0").cuda()
    alone = gradients(model, model)
    wrapped = gradients(model, DistributedDataParallel(model, device_ids=[0]))
    for ours, theirs in zip(wrapped, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def waits(model):
    """How often the host waits for the GPU in the second forward and backward."""
    gradients(model, model)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            gradients(model, model)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in warned)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_host_waits_no_more_often_than_in_fairseqs_model(name):
    stock = waits(build("transformer").cuda().half())
    assert waits(build_connection_model(name).cuda().half()) <= stock


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_models_compute_what_they_do_by_themselves(dtype):
    made = whole("recursive", "0").cuda().to(dtype)
    given = [one.cuda() for one in batch()]
    found, expected = torch.compile(made, fullgraph=True)(*given), made(*given)
    torch.testing.assert_close(
        found, expected, rtol=4 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
    )
