"""The leave-step's kernels in Triton's language: one forward and one backward.

A program takes ROWS rows at a time as a block of shape (CHUNKS, ROWS, WIDTH), in which element (c, r, w) is column
c·WIDTH + w of row r. WIDTH is what the 32 threads of a warp read with 16 bytes each, so Triton, which hands out a
block's last axis first, gives each warp rows of its own, and a row's sums need no shared memory. All arithmetic is in
float32.

What a link is, is known when a kernel is compiled: PARTS has the bits of :class:`.Part` of each; AT five numbers of
each: where its a, b, gain and bias stand in the table (−1: it has no such tensor), and the number of its norm; NUMBERS
five more: a and b, where they are no tensors, eps, and AdaNorm's C and k.

Dropout is Philox4x32-10 (Salmon et al.: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with the seed as
the key: element j of row r takes word j mod 4 of block r·⌈D/4⌉ + ⌊j/4⌋, and is dropped where that word is below
⌊drop·2³²⌋. So each kernel knows every element's fate, whatever the launch's shape, and no mask is kept.
"""

from __future__ import annotations

from ..chain import Part

try:
    import triton
    import triton.language as tl

    jit = triton.jit
    kernel = triton.jit(do_not_specialize=["rows", "seed"])  # which change from call to call
    NORM, CENTRED, MEAN, DEVIATION, BRACKET = map(
        tl.constexpr, (Part.NORM, Part.CENTRED, Part.MEAN, Part.DEVIATION, Part.BRACKET)
    )
except ImportError:  # torch's builds for the CPU bring no Triton, and never call what follows
    triton = None
    jit = kernel = lambda function: function

__all__ = ["leave_backward", "leave_forward", "triton"]


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


@jit
def _add_x(
    v,
    x,
    table,
    k: tl.constexpr,
    column,
    AT: tl.constexpr,
    NUMBERS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
):
    """``v + a_k ⊙ x``."""
    if AT[5 * k] >= 0:
        v += _parameter(table, AT[5 * k], column, D, ROWS) * x
    elif NUMBERS[5 * k] == 1:
        v += x
    elif NUMBERS[5 * k] != 0:
        v += NUMBERS[5 * k] * x
    return v


@jit
def _times_b(
    v,
    table,
    k: tl.constexpr,
    column,
    AT: tl.constexpr,
    NUMBERS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
):
    """``b_k ⊙ v``."""
    if AT[5 * k + 1] >= 0:
        v *= _parameter(table, AT[5 * k + 1], column, D, ROWS)
    elif NUMBERS[5 * k + 1] != 1:
        v *= NUMBERS[5 * k + 1]
    return v


@jit
def _after(
    v,
    table,
    k: tl.constexpr,
    column,
    PARTS: tl.constexpr,
    AT: tl.constexpr,
    NUMBERS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
):
    """What norm k makes of n: the bracket, the gain and the bias, as far as it has them."""
    if BRACKET & PARTS[k]:
        v *= NUMBERS[5 * k + 3] * (1.0 - NUMBERS[5 * k + 4] * v)
    if AT[5 * k + 2] >= 0:
        v *= _parameter(table, AT[5 * k + 2], column, D, ROWS)
    if AT[5 * k + 3] >= 0:
        v += _parameter(table, AT[5 * k + 3], column, D, ROWS)
    return v


@kernel
def leave_forward(
    f,
    x,
    y,
    table,
    statistics,
    seed: tl.int64,
    rows: tl.int32,
    inverse,
    THRESHOLD: tl.constexpr,
    PARTS: tl.constexpr,
    AT: tl.constexpr,
    NUMBERS: tl.constexpr,
    K: tl.constexpr,
    NORMS: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """y and the statistics of its norms, from f and x; a program takes one block of rows."""
    row, column = _block(CHUNKS, ROWS, WIDTH)
    row += tl.program_id(0).to(tl.int64) * ROWS
    inside = (row < rows) & (column < D)
    at = row * D + column
    skip = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(f + at, mask=inside, other=0.0).to(tl.float32)
    if THRESHOLD > 0:
        v *= _noise(row, seed, inverse, THRESHOLD, D, CHUNKS, ROWS, WIDTH)
    # thread 2k of a row's threads keeps the mean and thread 2k + 1 the factor, so that one store writes them all
    slot = tl.arange(0, SLOTS)[None, None, :]
    kept = tl.zeros((1, ROWS, SLOTS), tl.float32)
    for k in tl.static_range(K):
        v = _times_b(v, table, k, column, AT, NUMBERS, D, ROWS)
        v = _add_x(v, skip, table, k, column, AT, NUMBERS, D, ROWS)
        if NORM & PARTS[k]:
            if CENTRED & PARTS[k]:
                mean = _mean(v, D, CHUNKS, ROWS, WIDTH)
                v -= mean
                if D < CHUNKS * WIDTH:
                    v = tl.where(column < D, v, 0.0)
                kept = tl.where(slot == 2 * AT[5 * k + 4], mean, kept)
            variance = _mean(v * v, D, CHUNKS, ROWS, WIDTH)
            # 0 would make y the bias, and an overflow must stay visible
            rstd = tl.where(variance < float("inf"), tl.rsqrt(variance + NUMBERS[5 * k + 2]), float("nan"))
            kept = tl.where(slot == 2 * AT[5 * k + 4] + 1, rstd, kept)
            v = _after(v * rstd, table, k, column, PARTS, AT, NUMBERS, D, ROWS)
    if NORMS > 0:
        tl.store(statistics + row * (2 * NORMS) + slot, kept, mask=(row < rows) & (slot < 2 * NORMS))
    tl.store(y + at, v.to(y.dtype.element_ty), mask=inside)


@kernel
def leave_backward(
    grad,
    f,
    x,
    df,
    dx,
    table,
    statistics,
    sums,
    seed: tl.int64,
    rows: tl.int32,
    inverse,
    THRESHOLD: tl.constexpr,
    PARTS: tl.constexpr,
    AT: tl.constexpr,
    NUMBERS: tl.constexpr,
    K: tl.constexpr,
    NORMS: tl.constexpr,
    PARAMETERS: tl.constexpr,
    D: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """The gradients of f and x, and of each parameter a sum for each program, which takes block after block."""
    first, column = _block(CHUNKS, ROWS, WIDTH)
    total = ()
    for _ in tl.static_range(PARAMETERS):
        total += (tl.zeros((CHUNKS, ROWS, WIDTH), tl.float32),)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=1):
        row = first + tile * ROWS
        inside = (row < rows) & (column < D)
        at = row * D + column
        g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        skip = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(f + at, mask=inside, other=0.0).to(tl.float32)
        if THRESHOLD > 0:
            noise = _noise(row, seed, inverse, THRESHOLD, D, CHUNKS, ROWS, WIDTH)
            y *= noise
        # of each link what comes before it, n and 1/σ; what is not read below is never computed
        before, normal, rstd = (), (), ()
        for k in tl.static_range(K):
            before += (y,)
            y = _times_b(y, table, k, column, AT, NUMBERS, D, ROWS)
            y = _add_x(y, skip, table, k, column, AT, NUMBERS, D, ROWS)
            if NORM & PARTS[k]:
                own = statistics + row * (2 * NORMS) + 2 * AT[5 * k + 4]
                if CENTRED & PARTS[k]:
                    y -= tl.load(own, mask=row < rows, other=0.0)
                rstd += (tl.load(own + 1, mask=row < rows, other=0.0),)
                y *= rstd[k]
                if D < CHUNKS * WIDTH:
                    y = tl.where(column < D, y, 0.0)
                normal += (y,)
                y = _after(y, table, k, column, PARTS, AT, NUMBERS, D, ROWS)
            else:
                rstd += (y,)
                normal += (y,)
        dv = tl.zeros_like(g)
        more = ()
        for k in tl.static_range(K - 1, -1, -1):
            if AT[5 * k + 3] >= 0:
                more = (total[AT[5 * k + 3]] + g,) + more  # noqa: RUF005 - Triton's language has no * here
            if AT[5 * k + 2] >= 0:
                more = (total[AT[5 * k + 2]] + g * normal[k],) + more  # noqa: RUF005
                g *= _parameter(table, AT[5 * k + 2], column, D, ROWS)
            if BRACKET & PARTS[k]:
                g *= NUMBERS[5 * k + 3] * (1.0 - NUMBERS[5 * k + 4] * normal[k])
            if NORM & PARTS[k]:
                inner = g
                if MEAN & PARTS[k]:
                    inner -= _mean(g, D, CHUNKS, ROWS, WIDTH)
                if DEVIATION & PARTS[k]:
                    inner -= normal[k] * _mean(g * normal[k], D, CHUNKS, ROWS, WIDTH)
                g = inner * rstd[k]
                if D < CHUNKS * WIDTH:
                    g = tl.where(column < D, g, 0.0)
            if AT[5 * k + 1] >= 0:
                more = (total[AT[5 * k + 1]] + g * before[k],) + more  # noqa: RUF005
            if AT[5 * k] >= 0:
                more = (total[AT[5 * k]] + g * skip,) + more  # noqa: RUF005
            dv = _add_x(dv, g, table, k, column, AT, NUMBERS, D, ROWS)
            g = _times_b(g, table, k, column, AT, NUMBERS, D, ROWS)
        if PARAMETERS > 0:  # Triton 3.3 cannot carry an empty tuple round a loop
            total = more
        tl.store(dx + at, dv.to(dx.dtype.element_ty), mask=inside)
        if THRESHOLD > 0:
            g *= noise
        tl.store(df + at, g.to(df.dtype.element_ty), mask=inside)
    column = tl.reshape(column, (CHUNKS, WIDTH))
    own = sums + tl.program_id(0).to(tl.int64) * (PARAMETERS * D)
    for p in tl.static_range(PARAMETERS):
        tl.store(own + p * D + column, tl.sum(total[p], axis=1), mask=column < D)
