// Matrix products of float32 rows by the processor's bfloat16 tiles (AMX).
//
// A float32 number is nearly the sum of two bfloat16 ones, its head and its tail, so that
//
//     x w = head(x) head(w) + tail(x) head(w) + head(x) tail(w) + a rest below 2^-16 of |x| |w|,
//
// three products summed in float32: by tiles still several times as fast as the float32 product, and as exact as that
// within a few roundings. With one part instead of two, what is computed is the bfloat16 product.
//
// Weights are packed once, in the order in which tiles are loaded.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AMX_BF16__
#include <immintrin.h>
enum { TILES = 1 };
#else
enum { TILES = 0 };
#endif

enum { SIDE = 16, TERMS = 32, BLOCK = 2 * SIDE };  // a tile is SIDE rows of TERMS halves; a block is 2 tiles wide

typedef struct {
    int64_t inputs, outputs, parts;
    int64_t rectified;       // whether negative outputs become zero
    const uint16_t *packed;  // (blocks of outputs, blocks of inputs, part, tile of the block, TERMS / 2, SIDE, 2)
    const float *bias;       // (outputs), or NULL
} Product;

static inline int64_t blocks(int64_t size, int64_t of) { return (size + of - 1) / of; }

static inline uint16_t head_of(float value) {  // to the nearest, ties to even; a NaN stays one
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value == value ? rounded : 0x7FC0);
}

static inline float value_of(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t packed_size(int64_t inputs, int64_t outputs, int64_t parts) {
    return blocks(outputs, BLOCK) * blocks(inputs, TERMS) * parts * BLOCK * TERMS;
}

// weight: (outputs, inputs)
static void pack_weight(const float *weight, uint16_t *packed, int64_t inputs, int64_t outputs, int64_t parts) {
    const int64_t terms = blocks(inputs, TERMS);
    memset(packed, 0, packed_size(inputs, outputs, parts) * sizeof *packed);
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t k = 0; k < inputs; k++) {
            uint16_t *tile = packed + (n / BLOCK * terms + k / TERMS) * parts * BLOCK * TERMS;
            const int64_t place =
                n % BLOCK / SIDE * SIDE * TERMS + k % TERMS / 2 * 2 * SIDE + n % SIDE * 2 + k % 2;
            const float value = weight[n * inputs + k];
            const uint16_t head = head_of(value);
            tile[place] = head;
            if (parts == 2) tile[BLOCK * TERMS + place] = head_of(value - value_of(head));
        }
}

// Halves that rows are split into: heads, then tails, each of (rows in whole blocks, inputs in whole tiles).
static int64_t split_size(int64_t rows, int64_t inputs) {
    return 2 * blocks(rows, BLOCK) * BLOCK * blocks(inputs, TERMS) * TERMS;
}

static void split_rows(const float *x, uint16_t *heads, uint16_t *tails, int64_t rows, int64_t inputs, int64_t threads) {
    const int64_t width = blocks(inputs, TERMS) * TERMS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *restrict from = x + row * inputs;
        uint16_t *restrict head = heads + row * width, *restrict tail = tails + row * width;
#pragma omp simd
        for (int64_t j = 0; j < inputs; j++) {
            head[j] = head_of(from[j]);
            tail[j] = head_of(from[j] - value_of(head[j]));
        }
        for (int64_t j = inputs; j < width; j++) head[j] = tail[j] = 0;
    }
    // what stands in the rows after the last is multiplied too, and not read
}

#ifdef __AMX_BF16__

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t columns[16];
    uint8_t rows[16];
} __attribute__((aligned(64))) Tiles;

// A block of outputs of up to 2 tiles of rows. tmm0-3: sums; 4, 5: rows; 6, 7: weights.
static inline __attribute__((always_inline)) void multiply_block(
    const uint16_t *head, const uint16_t *tail, const uint16_t *packed, float *sums, int64_t terms, int parts, int tall
) {
    const int64_t stride = terms * TERMS * 2, lower = terms * TERMS * SIDE;  // bytes; halves
    __asm__ volatile("" ::: "memory");  // the compiler does not know that tiles are loaded from memory
    _tile_zero(0);
    _tile_zero(1);
    if (tall) {
        _tile_zero(2);
        _tile_zero(3);
    }
#define LOAD_WEIGHTS(part)                                \
    _tile_loadd(6, packed + (part) * BLOCK * TERMS, 64);  \
    _tile_loadd(7, packed + (part) * BLOCK * TERMS + SIDE * TERMS, 64)
#define ADD_PRODUCT(rows)                                 \
    _tile_loadd(4, (rows) + k * TERMS, stride);           \
    _tile_dpbf16ps(0, 4, 6);                              \
    _tile_dpbf16ps(1, 4, 7);                              \
    if (tall) {                                           \
        _tile_loadd(5, (rows) + lower + k * TERMS, stride); \
        _tile_dpbf16ps(2, 5, 6);                          \
        _tile_dpbf16ps(3, 5, 7);                          \
    }
    for (int64_t k = 0; k < terms; k++, packed += parts * BLOCK * TERMS) {
        LOAD_WEIGHTS(0);
        ADD_PRODUCT(head)
        if (parts == 2) {
            ADD_PRODUCT(tail)
            LOAD_WEIGHTS(1);
            ADD_PRODUCT(head)
        }
    }
#undef ADD_PRODUCT
#undef LOAD_WEIGHTS
    _tile_stored(0, sums, BLOCK * 4);
    _tile_stored(1, sums + SIDE, BLOCK * 4);
    if (tall) {
        _tile_stored(2, sums + SIDE * BLOCK, BLOCK * 4);
        _tile_stored(3, sums + SIDE * BLOCK + SIDE, BLOCK * 4);
    }
}

static void multiply_blocks(
    const Product *p, const uint16_t *heads, const uint16_t *tails, float *y, int64_t stride, int64_t rows,
    int64_t first, int64_t last
) {
    const int64_t terms = blocks(p->inputs, TERMS), width = terms * TERMS;
    float sums[BLOCK * BLOCK] __attribute__((aligned(64)));
    for (int64_t b = first; b < last; b++) {
        const uint16_t *packed = p->packed + b * terms * p->parts * BLOCK * TERMS;
        const int64_t start = b * BLOCK, wide = p->outputs - start < BLOCK ? p->outputs - start : BLOCK;
        for (int64_t row = 0; row < rows; row += BLOCK) {
            const int64_t high = rows - row < BLOCK ? rows - row : BLOCK;
            const uint16_t *head = heads + row * width, *tail = tails + row * width;
            if (p->parts == 2 && high > SIDE) multiply_block(head, tail, packed, sums, terms, 2, 1);
            else if (p->parts == 2) multiply_block(head, tail, packed, sums, terms, 2, 0);
            else if (high > SIDE) multiply_block(head, tail, packed, sums, terms, 1, 1);
            else multiply_block(head, tail, packed, sums, terms, 1, 0);
            for (int64_t i = 0; i < high; i++) {
                float *restrict to = y + (row + i) * stride + start;
                const float *restrict sum = sums + i * BLOCK, least = p->rectified ? 0 : -INFINITY;
#pragma omp simd
                for (int64_t j = 0; j < wide; j++) {
                    const float value = sum[j] + (p->bias ? p->bias[start + j] : 0);
                    to[j] = value < least ? least : value;
                }
            }
        }
    }
}

// y = x W' + b; y: rows of `stride` elements; scratch: split_size halves.
static void multiply(
    const Product *p, const float *x, float *y, int64_t stride, int64_t rows, uint16_t *scratch, int64_t threads
) {
    uint16_t *tails = scratch + split_size(rows, p->inputs) / 2;
    split_rows(x, scratch, tails, rows, p->inputs, threads);
    const int64_t all = blocks(p->outputs, BLOCK);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++) {
        // other libraries remember what they have set the tiles to: it is left as it was found
        Tiles before, ours = {.palette = 1};
        for (int tile = 0; tile < 8; tile++) ours.columns[tile] = 64, ours.rows[tile] = SIDE;
        _tile_storeconfig(&before);
        _tile_loadconfig(&ours);
        multiply_blocks(p, scratch, tails, y, stride, rows, all * t / threads, all * (t + 1) / threads);
        if (before.palette) _tile_loadconfig(&before);
        else _tile_release();
    }
}

#else

static void multiply(
    const Product *p, const float *x, float *y, int64_t stride, int64_t rows, uint16_t *scratch, int64_t threads
) {
    (void)p, (void)x, (void)y, (void)stride, (void)rows, (void)scratch, (void)threads;
    abort();  // who calls has asked has_tiles
}

#endif
