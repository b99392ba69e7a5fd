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

from skipln_fairseq.nn.kernels.chain import Link
from skipln_fairseq.nn.kernels.leave import cuda, eager, program
from skipln_fairseq.nn.kernels.leave.step import flat, read
from tests.nn.kernels.chains import CHAINS, NORMS, Draw, exact, here, in_form, layers

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


def noise(rows, dim: int, drop: float, seed: int) -> torch.Tensor:
    """What F(x) is multiplied with, (rows, dim) in float64, for the rows of these numbers."""
    quarters = -(-dim // 4)
    number = np.asarray(rows, np.uint64)[:, None] * np.uint64(quarters) + np.arange(quarters, dtype=np.uint64)
    low, high = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter = np.stack([low, high, 0 * low, 0 * low], -1)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(len(number), 4 * quarters)[:, :dim]
    return torch.from_numpy((words >= int(drop * 2**32)) / (1 - drop))


def case(shape, dtype=torch.float32):
    """(dy, f, x)"""
    dy, f, x = (Draw(shape, dtype, seed).vector() for seed in (1, 2, 3))
    return dy, f, 0.5 + x


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


def check(interpreted, dy, f, x, chain, drop=0.0, seed=0, by=1) -> None:
    """``by`` is how many times the rounding of layer norms a chain may have."""
    found, statistics = in_form(interpreted, cuda, f, x, chain, dy, drop, seed)
    dropped = noise(range(f[..., 0].numel()), f.size(-1), drop, seed).view_as(f) if drop else 1.0
    assert [t.dtype for t in found] == 3 * [f.dtype] + (len(found) - 3) * [torch.float32]
    norms = sum(link.norm is not None and link.norm.parts > 0 for link in chain)
    for got, want in zip(found, exact(f, x, chain, dy, dropped), strict=True):
        close(got, want, by * (norms + 1) - 1)
    assert statistics.dtype == torch.float32
    assert statistics.shape == (*f.shape[:-1], norms, 2)


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
    row, column = program._block(1, ROWS, WIDTH)
    value = program._noise(first + row, seed, inverse, THRESHOLD, D, 1, ROWS, WIDTH)
    tl.store(out + row * D + column, value, mask=column < D)


def noise_from(first: int, dim: int, drop: float) -> torch.Tensor:
    out = torch.empty(4, dim)
    width = triton.next_power_of_2(dim)
    write_noise[(1,)](out, first, SEED, 1 / (1 - drop), int(drop * 2**32), dim, 4, width)
    return out


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])  # thresholds on either side of 2³¹
@pytest.mark.parametrize(
    "first", [0, 2**31 - 2, 2**33 - 2, 2**40 + 5]
)  # the block's number leaves its low word
def test_noise_of_any_row(interpreted, first, drop):
    expected = noise(range(first, first + 4), 10, drop, SEED)
    assert (expected == 0).any()
    torch.testing.assert_close(interpreted(noise_from, first, 10, drop), expected.float(), rtol=0, atol=0)


@pytest.mark.parametrize(("order", "drop"), [(0, 0.0), (0, 0.7), (1, 0.7), (2, 0.0), (3, 0.1), (8, 0.7)])
@pytest.mark.parametrize(
    "shape",
    [(5, 1), (33, 7), (1, 16), (5, 40), (3, 11, 100), (33, 512)],  # the last: several blocks to a program
    ids=str,
)
def test_values_and_gradients(interpreted, shape, order, drop):
    check(interpreted, *case(shape), layers(order, Draw(shape[-1]), 1.3, eps=1e-3), drop, SEED)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 40), torch.float32), ((33, 7), torch.float16), ((3, 2, 70), torch.bfloat16)],
    ids=str,
)
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain(interpreted, name, shape, dtype):
    check(interpreted, *case(shape, dtype), CHAINS[name](Draw(shape[-1], seed=len(name))), 0.25, SEED, by=4)


@pytest.mark.parametrize(("dtype", "parameters"), list(itertools.product(FLOATS, FLOATS)))
def test_half_precision_rounds_nothing_but_the_results(interpreted, dtype, parameters):
    chain = layers(2, Draw(72, parameters), 0.7)
    check(interpreted, *case((33, 72), dtype), chain, 0.25, 3)


def test_parameters_of_several_types(interpreted):
    wide, half = Draw(24), Draw(24, torch.bfloat16)
    chain = [Link(wide.vector(), norm=NORMS["layer"](half, 1e-5))]
    check(interpreted, *case((5, 24), torch.bfloat16), chain)


def test_rows_wider_than_a_warp_takes(interpreted):
    check(interpreted, *case((3, 5000)), layers(2, Draw(5000)), 0.1, SEED)


FACTORS = st.one_of(st.integers(-8, 8).map(lambda n: n / 4), st.none())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 40),
    dim=st.integers(
        8, 130
    ),  # of few elements next to nothing is left without their mean and slope but rounding
    links=st.lists(
        st.tuples(FACTORS, st.just(1.0) | FACTORS, st.sampled_from(list(NORMS))), min_size=1, max_size=4
    ),
    drop=st.floats(0, 0.95),
    dtype=st.sampled_from(list(FLOATS)),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_step(interpreted, rows, dim, links, drop, dtype, seed):
    draw = Draw(dim)
    factor = lambda number: draw.vector() if number is None else number  # noqa: E731
    chain = [Link(factor(a), factor(b), NORMS[name](draw, 1e-2)) for a, b, name in links]
    check(interpreted, *case((rows, dim), dtype), chain, drop, seed, by=8)


def test_equals_the_eager_form(interpreted):
    dy, f, x = case((6, 3, 48))
    chain = layers(3, Draw(48), 1.3)
    results = [in_form(call, form, f, x, chain, dy) for call, form in ((interpreted, cuda), (here, eager))]
    for got, want in zip(*([*found, kept] for found, kept in results), strict=True):
        close(got, want.double(), 3)


def test_a_gradient_that_is_one_number_expanded(interpreted):
    dy, f, x = case((5, 24))
    check(interpreted, torch.ones(()).expand_as(dy), f, x, layers(2, Draw(24)))


def test_a_mean_far_from_zero(interpreted):
    dy, f, x = case((4, 512))
    chain = layers(1, Draw(512))
    (y, *_), _ = in_form(interpreted, cuda, f, x + 300, chain, dy)
    expected, *_ = exact(f, x + 300, chain, dy)
    # x + f and the sum of a row are rounded at 300·2⁻²⁴ each; the mean square less the squared mean, at 300²·2⁻²⁴
    assert (y - expected).abs().max() < 3e-4


@pytest.mark.parametrize("dim", [16, 40])
def test_an_overflow_stays_visible(interpreted, dim):
    dy, f, x = case((3, dim))
    f[1] *= 1e30
    (y, df, dx, *sums), _ = in_form(interpreted, cuda, f, x, layers(2, Draw(dim)), dy)
    for found in (y, df, dx):
        assert found[[0, 2]].isfinite().all()
        assert found[1].isnan().all()
    assert torch.stack(sums[::2]).isnan().all()


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
    for module in (program, cuda):
        spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
        fresh = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module.__name__, fresh)
        spec.loader.exec_module(fresh)
    assert cuda.available()
    assert not fresh.available()
    assert not fresh.fits(torch.empty(2, 8))


def compiled(kernel, dtype: str, constants: dict, capability: int):
    """The kernel as such a GPU would run it."""
    pointers = {"table": "*fp32", "statistics": "*fp32", "sums": "*fp32"}
    numbers = {"seed": "i64", "rows": "i32", "inverse": "fp32"}
    warps = constants.pop("num_warps")
    signature = {
        name: "constexpr" if name in constants else pointers.get(name) or numbers.get(name) or f"*{dtype}"
        for name in kernel.arg_names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if signature[name].startswith("*")
    }
    constants = {name: value for name, value in constants.items() if name in signature}
    source = triton.compiler.ASTSource(kernel, signature, constants, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"num_warps": warps})


def constants(name: str, dtype: str, dim: int, chain) -> dict:
    """What such a kernel is compiled for."""
    parameters, parts, numbers = flat(chain, dim)
    step = read(tuple(parts), tuple(numbers), 0.25)
    itemsize = 4 if dtype == "fp32" else 2
    shape = (
        cuda._forward_shape(dim, itemsize)
        if name == "_forward"
        else cuda._backward_shape(dim, itemsize, step)
    )
    told = cuda._constants(step, 0) | {"SLOTS": 32, "PARAMETERS": len(parameters), "D": dim, **shape}
    return {key: value for key, value in told.items() if key not in ("seed", "inverse")}


@pytest.mark.parametrize(
    ("dtype", "dim", "order"), [("fp16", 512, 8), ("bf16", 1024, 2), ("fp32", 1024, 2), ("fp16", 40, 0)]
)
@pytest.mark.parametrize("name", ["leave_forward", "leave_backward"])
def test_compiles_for_an_h100_without_spilling_and_with_wide_loads(
    name, dtype, dim, order, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    made = compiled(getattr(program, name), dtype, constants(name, dtype, dim, layers(order, Draw(dim))), 90)
    assert "ld.global.v4" in made.asm["ptx"]
    assert dtype != "bf16" or "cvt.rn.bf16x2.f32" in made.asm["ptx"]
    assert not spills(made, tmp_path)


def spills(made, folder: Path) -> bool:
    """Whether a kernel keeps anything but registers of its own."""
    (folder / "cubin").write_bytes(made.asm["cubin"])
    program = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [program, "-res-usage", folder / "cubin"], capture_output=True, text=True, check=True
    ).stdout
    return " STACK:0 " not in usage or " LOCAL:0 " not in usage


GPUS = [(75, "fp16"), (75, "bf16"), (80, "bf16"), (86, "fp16"), (89, "fp32"), (90, "bf16"), (100, "fp16")]


@pytest.mark.parametrize(("capability", "dtype"), GPUS)
def test_compiles_for_other_gpus(capability, dtype, tmp_path, monkeypatch):
    """The chain that has every part, forward and backward."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for name in ("leave_forward", "leave_backward"):
        told = constants(name, dtype, 512, CHAINS["everything"](Draw(512)))
        assert compiled(getattr(program, name), dtype, told, capability).asm["cubin"]


@pytest.mark.parametrize("norm", NORMS)
def test_no_norm_spills(norm, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    chain = [Link(norm=NORMS[norm](Draw(512), 1e-5))]
    made = compiled(program.leave_backward, "fp16", constants("leave_backward", "fp16", 512, chain), 90)
    assert not spills(made, tmp_path)
