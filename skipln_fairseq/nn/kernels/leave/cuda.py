"""The leave-step on a GPU: one Triton kernel forward and one backward, in float32, float16 and bfloat16.

A program takes ROWS rows at a time as a block of shape (CHUNKS, ROWS, WIDTH), in which element (c, r, w) is column
c·WIDTH + w of row r. WIDTH is what the 32 threads of a warp read with 16 bytes each, so Triton, which hands out a
block's last axis first, gives each warp rows of its own, and a row's sums need no shared memory. All arithmetic is in
float32.

Dropout is Philox4x32-10 (Salmon et al.: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with the seed as
the key: element j of row r takes word j mod 4 of block r·⌈D/4⌉ + ⌊j/4⌋, and is dropped where that word is below
⌊drop·2³²⌋. So each kernel knows every element's fate, whatever the launch's shape, and no mask is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .step import Step

try:
    import triton
    import triton.language as tl

    jit = triton.jit
    kernel = triton.jit(do_not_specialize=["rows", "seed"])  # which change from call to call
except ImportError:  # torch's builds for the CPU bring no Triton, and never call what follows
    triton = None
    jit = kernel = lambda function: function

__all__ = ["available", "backward", "fits", "forward"]

TYPES = (torch.float32, torch.float16, torch.bfloat16)
WIDEST = 16384
REGISTERS = 65536  # of a multiprocessor


@jit
def _block(CHUNKS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Rows and columns of a program's block, counted from its first row."""
    row = tl.arange(0, ROWS)[None, :, None].to(tl.int64)
    column = tl.arange(0, CHUNKS)[:, None, None] * WIDTH + tl.arange(0, WIDTH)[None, None, :]
    return row, column


@jit
def _noise(
    row,
    seed,
    inverse,
    THRESHOLD: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """What F(x) is multiplied with: 0 or 1/(1 − drop)."""
    chunk = tl.arange(0, CHUNKS)[:, None, None] * (WIDTH // 4)
    number = row * ((D + 3) // 4) + chunk + tl.arange(0, WIDTH // 4)[None, None, :]
    low, high = number.to(tl.uint32), (number >> 32).to(tl.uint32)
    zero = tl.zeros_like(low)
    a, b, c, d = tl.philox(seed, low, high, zero, zero)
    words = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (CHUNKS, ROWS, WIDTH))
    return tl.where(words < THRESHOLD, 0.0, inverse)


@jit
def _mean(v, D: tl.constexpr, CHUNKS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Each row's mean; the columns from D on are to be 0."""
    rows = tl.reshape(tl.trans(v, (1, 0, 2)), (ROWS, CHUNKS * WIDTH))
    return tl.sum(rows, axis=1)[None, :, None] * (1.0 / D)


@jit
def _parameter(table, k, column, D: tl.constexpr, ROWS: tl.constexpr):
    """Row k of a (K, D) table, once for every row of the block, which gives it the block's layout."""
    column += tl.zeros((1, ROWS, 1), tl.int32)
    return tl.load(table + k * D + column, mask=column < D, other=0.0).to(tl.float32)


@kernel
def _forward(
    f,
    x,
    y,
    weights,
    biases,
    statistics,
    seed: tl.int64,
    rows: tl.int32,
    scale,
    eps,
    inverse,
    THRESHOLD: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SLOTS: tl.constexpr,
):
    row, column = _block(CHUNKS, ROWS, WIDTH)
    row += tl.program_id(0).to(tl.int64) * ROWS
    inside = (row < rows) & (column < D)
    at = row * D + column
    scaled = scale * tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(f + at, mask=inside, other=0.0).to(tl.float32)
    if THRESHOLD > 0:
        v *= _noise(row, seed, inverse, THRESHOLD, D, CHUNKS, ROWS, WIDTH)
    # thread 2k of a row's threads keeps the mean and thread 2k + 1 the factor, so that one store writes them all
    slot = tl.arange(0, SLOTS)[None, None, :]
    kept = tl.zeros((1, ROWS, SLOTS), tl.float32)
    for k in tl.static_range(K):
        v += scaled
        mean = _mean(v, D, CHUNKS, ROWS, WIDTH)
        v -= mean
        if D < CHUNKS * WIDTH:
            v = tl.where(column < D, v, 0.0)
        variance = _mean(v * v, D, CHUNKS, ROWS, WIDTH)
        # 0 would make y the bias, and an overflow must stay visible
        rstd = tl.where(variance < float("inf"), tl.rsqrt(variance + eps), float("nan"))
        kept = tl.where(slot == 2 * k, mean, tl.where(slot == 2 * k + 1, rstd, kept))
        v = v * rstd * _parameter(weights, k, column, D, ROWS) + _parameter(biases, k, column, D, ROWS)
    if K == 0:
        v += scaled
    else:
        tl.store(statistics + row * (2 * K) + slot, kept, mask=(row < rows) & (slot < 2 * K))
    tl.store(y + at, v.to(y.dtype.element_ty), mask=inside)


@kernel
def _backward(
    grad,
    f,
    x,
    df,
    dx,
    weights,
    biases,
    statistics,
    sums,
    seed: tl.int64,
    rows: tl.int32,
    scale,
    inverse,
    THRESHOLD: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    first, column = _block(CHUNKS, ROWS, WIDTH)
    dw, db = (), ()
    for _ in tl.static_range(K):
        dw += (tl.zeros((CHUNKS, ROWS, WIDTH), tl.float32),)
        db += (tl.zeros((CHUNKS, ROWS, WIDTH), tl.float32),)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=1):
        row = first + tile * ROWS
        inside = (row < rows) & (column < D)
        at = row * D + column
        g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        scaled = scale * tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(f + at, mask=inside, other=0.0).to(tl.float32)
        if THRESHOLD > 0:
            noise = _noise(row, seed, inverse, THRESHOLD, D, CHUNKS, ROWS, WIDTH)
            y *= noise
        normal, rstd = (), ()
        for k in tl.static_range(K):
            mean = tl.load(statistics + row * (2 * K) + 2 * k, mask=row < rows, other=0.0)
            rstd += (tl.load(statistics + row * (2 * K) + 2 * k + 1, mask=row < rows, other=0.0),)
            normal += ((scaled + y - mean) * rstd[k],)
            if k + 1 < K:
                weight = _parameter(weights, k, column, D, ROWS)
                y = normal[k] * weight + _parameter(biases, k, column, D, ROWS)
        dv = g
        if K > 0:
            dv = tl.zeros_like(g)
        more_dw, more_db = (), ()
        for k in tl.static_range(K - 1, -1, -1):
            more_dw = (dw[k] + g * normal[k],) + more_dw  # noqa: RUF005 - Triton's language has no * here
            more_db = (db[k] + g,) + more_db  # noqa: RUF005
            g *= _parameter(weights, k, column, D, ROWS)
            level = _mean(g, D, CHUNKS, ROWS, WIDTH)
            slope = _mean(g * normal[k], D, CHUNKS, ROWS, WIDTH)
            g = (g - level - normal[k] * slope) * rstd[k]
            dv += g
        if K > 0:  # Triton 3.3 cannot carry an empty tuple round a loop
            dw, db = more_dw, more_db
        tl.store(dx + at, (scale * dv).to(dx.dtype.element_ty), mask=inside)
        if THRESHOLD > 0:
            g *= noise
        tl.store(df + at, g.to(df.dtype.element_ty), mask=inside)
    column = tl.reshape(column, (CHUNKS, WIDTH))
    own = sums + tl.program_id(0).to(tl.int64) * (2 * K * D)
    for k in tl.static_range(K):
        tl.store(own + k * D + column, tl.sum(dw[k], axis=1), mask=column < D)
        tl.store(own + (K + k) * D + column, tl.sum(db[k], axis=1), mask=column < D)


def _registers(norms: int, elements: int) -> int:
    """What a thread of the backward needs at so many elements a thread: as seen on an sm_90, to ten per cent or so."""
    return 14 + elements * (6 * norms + 1)


def _shape(dim: int, itemsize: int, elements: int) -> dict[str, int]:
    """The block for so many elements a thread, and the warps that share it."""
    padded = max(4, triton.next_power_of_2(dim))  # 4: a block of Philox
    width = min(padded, 32 * 16 // itemsize)
    warps = 4
    while (
        warps < 16 and 32 * warps * elements < padded
    ):  # with more of them a thread has fewer than 128 registers
        warps *= 2
    rows = max(1, 32 * warps * elements // padded)
    return {"CHUNKS": padded // width, "ROWS": rows, "WIDTH": width, "num_warps": warps}


def _forward_shape(dim: int, itemsize: int) -> dict[str, int]:
    return _shape(dim, itemsize, elements=32 if dim > 512 else 16)  # a warp to a row, as far as that goes


def _backward_shape(dim: int, itemsize: int, norms: int) -> dict[str, int]:
    elements = next((e for e in (16, 8) if _registers(norms, e) < 240), 4)
    return _shape(dim, itemsize, elements)


def _programs(f: Tensor, norms: int, shape: dict[str, int]) -> int:
    """Programs of the backward: as many as the GPU holds at a time, so that there are few sums of dw and db to add."""
    threads = 32 * shape["num_warps"]
    elements = shape["CHUNKS"] * shape["ROWS"] * shape["WIDTH"] // threads
    resident = REGISTERS // (threads * min(255, _registers(norms, elements)))
    # Triton's interpreter, which runs on the CPU, has programs but no processors
    processors = torch.cuda.get_device_properties(f.device).multi_processor_count if f.is_cuda else 1
    return max(1, min(resident, 2048 // threads)) * processors


def _stacked(parameters: list[Tensor], f: Tensor) -> Tensor:
    if not parameters:
        return f.new_empty(0)
    return torch.stack(parameters) if len(parameters) > 1 else parameters[0].contiguous()


def _dropout(step: Step) -> dict[str, float]:
    return {"THRESHOLD": int(step.drop * 2**32), "inverse": 1 / (1 - step.drop), "seed": step.seed}


def available() -> bool:
    """Whether Triton can be imported, as with torch's builds for CUDA."""
    return triton is not None


def fits(f: Tensor) -> bool:
    """Whether this form can take such tensors, here."""
    return available() and f.is_cuda and f.dtype in TYPES and 0 < f.size(-1) <= WIDEST


def forward(f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step):
    """``(y, saved)``: the step's output and what :func:`backward` needs besides f and x.

    Args:
        f: F(x), (…, D), contiguous, as :func:`fits` has it.
        x: of f's shape and type, contiguous.
        weights: w_1 … w_K, (D,) each, of one type, which need not be f's.
        biases: b_1 … b_K, likewise.
        step: its numbers.
    """
    dim, norms = f.size(-1), len(weights)
    rows = f.numel() // dim
    shape = _forward_shape(dim, f.itemsize)
    y = torch.empty_like(f)
    statistics = f.new_empty(rows, norms, 2, dtype=torch.float32)
    with torch.cuda.device_of(f):
        _forward[(triton.cdiv(rows, shape["ROWS"]),)](
            *(f, x, y, _stacked(weights, f), _stacked(biases, f), statistics),
            rows=rows,
            scale=step.scale,
            eps=step.eps,
            K=norms,
            D=dim,
            SLOTS=max(32, triton.next_power_of_2(2 * norms)),
            **_dropout(step),
            **shape,
        )
    return y, (statistics,)


def backward(
    grad: Tensor, f: Tensor, x: Tensor, weights: list[Tensor], biases: list[Tensor], step: Step, saved
):
    """The gradients ``(df, dx, [dw], [db])``; what lies between f, x and y is computed once more."""
    (statistics,) = saved
    dim, norms = f.size(-1), len(weights)
    rows = f.numel() // dim
    shape = _backward_shape(dim, f.itemsize, norms)
    programs = min(_programs(f, norms, shape), triton.cdiv(rows, shape["ROWS"]))
    df, dx = torch.empty_like(f), torch.empty_like(x)
    sums = f.new_empty(programs, 2, norms, dim, dtype=torch.float32)
    with torch.cuda.device_of(f):
        _backward[(programs,)](
            *(grad.contiguous(), f, x, df, dx, _stacked(weights, f), _stacked(biases, f), statistics, sums),
            rows=rows,
            scale=step.scale,
            K=norms,
            D=dim,
            **_dropout(step),
            **shape,
        )
    dw, db = sums.sum(0)
    return (
        df,
        dx,
        [own.to(weight.dtype) for own, weight in zip(dw, weights, strict=True)],
        [own.to(bias.dtype) for own, bias in zip(db, biases, strict=True)],
    )
