"""The leave-step's Triton kernels: their numbers in Triton's interpreter, which needs no GPU, and that they compile."""

import importlib.util
import itertools
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from skipln_fairseq.nn.kernels.leave import cuda, eager
from skipln_fairseq.nn.kernels.leave.step import Step

triton = pytest.importorskip("triton")
tl = triton.language

FLOATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
# What a result's own type may cost, relative to the result. Triton's interpreter rounds bfloat16 towards 0, by up to
# twice what a GPU does; that a GPU is told to round to the nearest is seen where the kernels are compiled.
ROUNDING = {torch.float32: 2**-24, torch.float16: 2**-11, torch.bfloat16: 2**-7}
SEED = 0x1234_5678_9ABC_DEF1  # its two words differ


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: counters (…, 4) of uint32 to words (…, 4)."""
    c = [word.astype(np.uint64) for word in np.moveaxis(counter, -1, 0)]
    k = [np.uint64(word) for word in key]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        one, two = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(two >> shift) ^ c[1] ^ k[0], two & low, (one >> shift) ^ c[3] ^ k[1], one & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, -1).astype(np.uint32)


def noise(rows, dim: int, step: Step) -> torch.Tensor:
    """What F(x) is multiplied with, (rows, dim) in float64, for the rows of these numbers."""
    quarters = -(-dim // 4)
    number = np.asarray(rows, np.uint64)[:, None] * np.uint64(quarters) + np.arange(quarters, dtype=np.uint64)
    low, high = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter = np.stack([low, high, 0 * low, 0 * low], -1)
    words = philox(counter, (step.seed & 0xFFFFFFFF, step.seed >> 32)).reshape(len(number), 4 * quarters)[
        :, :dim
    ]
    return torch.from_numpy((words >= int(step.drop * 2**32)) / (1 - step.drop))


def oracle(grad, f, x, weights, biases, step: Step):
    """Output, statistics and gradients by autograd in float64."""
    f, x, *parameters = (t.double().requires_grad_() for t in (f, x, *weights, *biases))
    y = f * noise(range(f[..., 0].numel()), f.size(-1), step).view_as(f) if step.drop else f
    statistics = []
    half = len(parameters) // 2
    for weight, bias in zip(parameters[:half], parameters[half:], strict=True):
        v = step.scale * x + y
        mean, variance = v.mean(-1, keepdim=True), v.var(-1, keepdim=True, unbiased=False)
        rstd = (variance + step.eps).rsqrt()
        y = (v - mean) * rstd * weight + bias
        statistics.append(torch.cat([mean, rstd], -1).view(-1, 2).detach())
    if not half:
        y = step.scale * x + y
    gradients = torch.autograd.grad(y, [f, x, *parameters], grad.double())
    return y.detach(), statistics, gradients


def case(shape, norms, dtype=torch.float32, parameters=torch.float32):
    """(grad, f, x, weights, biases)"""
    generator = torch.Generator().manual_seed(7)
    grad, f, x = (torch.randn(shape, generator=generator).to(dtype) for _ in range(3))
    weights = [(1 + 0.3 * torch.randn(shape[-1], generator=generator)).to(parameters) for _ in range(norms)]
    biases = [torch.randn(shape[-1], generator=generator).to(parameters) for _ in range(norms)]
    return grad, f, 0.5 + x, weights, biases


@pytest.fixture(scope="module")
def interpreted():
    """Calls a function in a process in which Triton interprets kernels: it must know before its import."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            pool.submit(torch.set_num_threads, 1).result()
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=300)


def close(got: torch.Tensor, expected: torch.Tensor, norms: int) -> None:
    """Besides the result's own rounding, that of the arithmetic in float32: some eight units of it a norm."""
    size = expected.abs().max() if expected.numel() else 0
    bound = ROUNDING[got.dtype] * expected.abs() + (norms + 1) * 2**-21 * size
    assert got.shape == expected.shape
    assert ((got.double() - expected).abs() <= bound).all(), ((got.double() - expected).abs() / size).max()


def check(interpreted, grad, f, x, weights, biases, step: Step) -> None:
    y, saved = interpreted(cuda.forward, f, x, weights, biases, step)
    df, dx, dw, db = interpreted(cuda.backward, grad, f, x, weights, biases, step, saved)
    expected, statistics, gradients = oracle(grad, f, x, weights, biases, step)
    assert [t.dtype for t in (y, df, dx)] == 3 * [f.dtype]
    assert [t.dtype for t in (*dw, *db)] == [t.dtype for t in (*weights, *biases)]
    for got, want in zip((y, df, dx, *dw, *db), (expected, *gradients), strict=True):
        close(got, want, len(weights))
    (saved,) = saved
    assert saved.dtype == torch.float32
    assert saved.shape == (f[..., 0].numel(), len(weights), 2)
    for got, want in zip(saved.unbind(1), statistics, strict=True):
        close(got, want, len(weights))


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (4 * (0xFFFFFFFF,), 2 * (0xFFFFFFFF,), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_oracles_philox_gives_the_known_answers(counter, key, words):
    assert philox(np.array(counter, np.uint32), key).tolist() == list(words)


@triton.jit
def write_noise(
    out,
    first,
    seed,
    inverse,
    THRESHOLD: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row, column = cuda._block(1, ROWS, WIDTH)
    value = cuda._noise(first + row, seed, inverse, THRESHOLD, D, 1, ROWS, WIDTH)
    tl.store(out + row * D + column, value, mask=column < D)


def noise_from(first: int, dim: int, step: Step) -> torch.Tensor:
    out = torch.empty(4, dim)
    width = triton.next_power_of_2(dim)
    write_noise[(1,)](out, first, step.seed, 1 / (1 - step.drop), int(step.drop * 2**32), dim, 4, width)
    return out


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])  # thresholds on either side of 2³¹
@pytest.mark.parametrize(
    "first", [0, 2**31 - 2, 2**33 - 2, 2**40 + 5]
)  # the block's number leaves its low word
def test_noise_of_any_row(interpreted, first, drop):
    step = Step(drop=drop, seed=SEED)
    expected = noise(range(first, first + 4), 10, step)
    assert (expected == 0).any()
    torch.testing.assert_close(interpreted(noise_from, first, 10, step), expected.float(), rtol=0, atol=0)


@pytest.mark.parametrize(("norms", "drop"), [(0, 0.0), (0, 0.7), (1, 0.7), (2, 0.0), (3, 0.1), (8, 0.7)])
@pytest.mark.parametrize(
    "shape",
    [(5, 1), (33, 7), (1, 16), (5, 40), (3, 11, 100), (33, 512)],  # the last: several blocks to a program
    ids=str,
)
def test_values_and_gradients(interpreted, shape, norms, drop):
    step = Step(scale=1.3, drop=drop, eps=1e-3, seed=SEED)
    check(interpreted, *case(shape, norms), step)


@pytest.mark.parametrize(("dtype", "parameters"), list(itertools.product(FLOATS, FLOATS)))
def test_half_precision_rounds_nothing_but_the_results(interpreted, dtype, parameters):
    step = Step(scale=0.7, drop=0.25, eps=1e-5, seed=3)
    check(interpreted, *case((33, 72), 2, dtype, parameters), step)


def test_rows_wider_than_a_warp_takes(interpreted):
    check(interpreted, *case((3, 5000), 2), Step(drop=0.1, seed=SEED))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 40),
    dim=st.integers(
        8, 130
    ),  # of few elements next to nothing is left without their mean and slope but rounding
    norms=st.integers(0, 5),
    scale=st.integers(-8, 8).map(lambda n: n / 4),
    drop=st.floats(0, 0.95),
    dtype=st.sampled_from(list(FLOATS)),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_step(interpreted, rows, dim, norms, scale, drop, dtype, seed):
    check(interpreted, *case((rows, dim), norms, dtype), Step(scale, drop, 1e-2, seed))


def test_equals_the_eager_form(interpreted):
    grad, f, x, weights, biases = case((6, 3, 48), 3)
    step = Step(scale=1.3, eps=1e-5)
    results = []
    for call, form in ((interpreted, cuda), (lambda function, *arguments: function(*arguments), eager)):
        y, saved = call(form.forward, f, x, weights, biases, step)
        df, dx, dw, db = call(form.backward, grad, f, x, weights, biases, step, saved)
        results.append((y, df, dx, *dw, *db))
    for got, want in zip(*results, strict=True):
        close(got, want.double(), len(weights))


def test_a_gradient_that_is_one_number_expanded(interpreted):
    grad, f, x, weights, biases = case((5, 24), 2)
    check(interpreted, torch.ones(()).expand_as(grad), f, x, weights, biases, Step())


def test_a_mean_far_from_zero(interpreted):
    grad, f, x, weights, biases = case((4, 512), 1)
    y, _ = interpreted(cuda.forward, f, x + 300, weights, biases, Step())
    expected, _, _ = oracle(grad, f, x + 300, weights, biases, Step())
    # x + f and the sum of a row are rounded at 300·2⁻²⁴ each; the mean square less the squared mean, at 300²·2⁻²⁴
    assert (y - expected).abs().max() < 3e-4


@pytest.mark.parametrize("dim", [16, 40])
def test_an_overflow_stays_visible(interpreted, dim):
    grad, f, x, weights, biases = case((3, dim), 2)
    f[1] *= 1e30
    y, saved = interpreted(cuda.forward, f, x, weights, biases, Step())
    df, dx, dw, _ = interpreted(cuda.backward, grad, f, x, weights, biases, Step(), saved)
    for found in (y, df, dx):
        assert found[[0, 2]].isfinite().all()
        assert found[1].isnan().all()
    assert torch.stack(dw).isnan().all()


def test_which_tensors_it_takes():
    with FakeTensorMode():
        takes = [cuda.fits(torch.empty(2, cuda.WIDEST, dtype=dtype, device="cuda")) for dtype in FLOATS]
        refuses = [
            torch.empty(2, 8),
            torch.empty(2, 8, dtype=torch.float64, device="cuda"),
            torch.empty(2, cuda.WIDEST + 1, device="cuda"),
            torch.empty(2, 0, device="cuda"),
        ]
        assert all(takes)
        assert not any(cuda.fits(f) for f in refuses)


def test_imports_without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location(cuda.__name__, cuda.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert cuda.available()
    assert not module.available()
    assert not module.fits(torch.empty(2, 8))


def compiled(kernel, dtype: str, constants: dict):
    """The kernel as an H100 would run it."""
    pointers = {"weights": "*fp32", "biases": "*fp32", "statistics": "*fp32", "sums": "*fp32"}
    numbers = {"seed": "i64", "rows": "i32", "scale": "fp32", "eps": "fp32", "inverse": "fp32"}
    warps = constants.pop("num_warps")
    signature = {
        name: "constexpr" if name in constants else pointers.get(name) or numbers.get(name) or f"*{dtype}"
        for name in kernel.arg_names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if signature[name].startswith("*")
    }
    source = triton.compiler.ASTSource(kernel, signature, constants, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": warps})


@pytest.mark.parametrize(
    ("dtype", "dim", "norms"), [("fp16", 512, 8), ("bf16", 1024, 2), ("fp32", 1024, 2), ("fp16", 40, 0)]
)
@pytest.mark.parametrize("name", ["_forward", "_backward"])
def test_compiles_for_an_h100_without_spilling_and_with_wide_loads(
    name, dtype, dim, norms, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    itemsize = 4 if dtype == "fp32" else 2
    if name == "_forward":
        constants = {"SLOTS": 32, **cuda._forward_shape(dim, itemsize)}
    else:
        constants = cuda._backward_shape(dim, itemsize, norms)
    constants |= {"THRESHOLD": 2**30, "K": norms, "D": dim}
    made = compiled(getattr(cuda, name), dtype, constants)
    assert "ld.global.v4" in made.asm["ptx"]
    assert dtype != "bf16" or "cvt.rn.bf16x2.f32" in made.asm["ptx"]
    (tmp_path / "cubin").write_bytes(made.asm["cubin"])
    program = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [program, "-res-usage", tmp_path / "cubin"], capture_output=True, text=True, check=True
    ).stdout
    assert " STACK:0 " in usage
    assert " LOCAL:0 " in usage
