// Products by the processor's tiles (AMX).
//
// FP32: a float32 number is nearly the sum of two bfloat16 ones, its head and its tail, so that
//
//     x w = head(x) head(w) + tail(x) head(w) + head(x) tail(w) + a rest below 2^-16 of |x| |w|,
//
// three products summed in float32: by tiles still several times as fast as the float32 product, and as exact as that
// within a few roundings. BF16: heads alone.

#include <immintrin.h>

#define KIND "amx"

// A tile is SIDE rows of 64 bytes, which are TERMS bfloat16 numbers or 2 TERMS int8 ones; a block is 2 tiles wide.
// Packed are (blocks of outputs, blocks of inputs, part, tile of the block) tiles.
enum { SIDE = 16, TERMS = 32, BLOCK = 2 * SIDE, TILE = 64 * SIDE };

enum { MOST = 127 };  // of a weight of INT8

static inline int64_t terms_of(int64_t form) { return form == INT8 ? 2 * TERMS : TERMS; }

static int64_t packed_size(int64_t inputs, int64_t outputs, int64_t form) {  // in bytes
    return blocks(outputs, BLOCK) * blocks(inputs, terms_of(form)) * (form == FP32 ? 2 : 1) * 2 * TILE;
}

// weight: (outputs, inputs); scales: (outputs), which INT8 writes.
static void pack_weight(const float *weight, void *packed, float *scales, int64_t inputs, int64_t outputs, int64_t form) {
    const int64_t terms = terms_of(form), together = terms / SIDE, parts = form == FP32 ? 2 : 1;
    memset(packed, 0, packed_size(inputs, outputs, form));
    for (int64_t n = 0; n < outputs; n++) {
        if (form == INT8) scales[n] = scale_of(weight + n * inputs, inputs, MOST);
        for (int64_t k = 0; k < inputs; k++) {
            const int64_t block = (n / BLOCK * blocks(inputs, terms) + k / terms) * parts * 2 * TILE;
            // in a tile, what is multiplied together stands together: 2 bfloat16 numbers or 4 int8 ones of each output
            const int64_t place = n % BLOCK / SIDE * SIDE * terms + k % terms / together * together * SIDE +
                                  n % SIDE * together + k % together;
            const float value = weight[n * inputs + k];
            if (form == INT8) {
                ((int8_t *)packed + block)[place] = int8_of(value, 1 / scales[n]);
                continue;
            }
            uint16_t *tile = (uint16_t *)((char *)packed + block);
            const uint16_t head = to_bfloat16(value);
            tile[place] = head;
            if (form == FP32) tile[BLOCK * TERMS + place] = to_bfloat16(value - to_float(head));
        }
    }
}

// What rows are written as before they are multiplied; in whole blocks of rows and whole tiles of inputs.
typedef struct {
    int64_t width;           // of a row
    uint16_t *heads, *tails;
    int8_t *int8s;
    float *scales;           // of the rows, with int8s
} Rows;

static int64_t scratch_size(int64_t rows, int64_t inputs) {  // in bytes, for any form
    return blocks(rows, BLOCK) * BLOCK * (4 * blocks(inputs, 2 * TERMS) * 2 * TERMS + 4);
}

static Rows split_rows(const Product *p, const float *x, void *scratch, int64_t rows, int64_t threads) {
    const int64_t inputs = p->inputs, width = blocks(inputs, terms_of(p->form)) * terms_of(p->form);
    const int64_t all = blocks(rows, BLOCK) * BLOCK;
    const Rows r = {
        width, scratch, (uint16_t *)scratch + all * width, scratch, (float *)((int8_t *)scratch + all * width),
    };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *restrict from = x + row * inputs;
        if (p->form == INT8) {
            int8_t *restrict int8s = r.int8s + row * width;
            r.scales[row] = scale_of(from, inputs, 127);
            const float inverse = 1 / r.scales[row];
#pragma omp simd
            for (int64_t j = 0; j < inputs; j++) int8s[j] = (int8_t)(int32_t)rintf(from[j] * inverse);
            for (int64_t j = inputs; j < width; j++) int8s[j] = 0;
            continue;
        }
        uint16_t *restrict head = r.heads + row * width, *restrict tail = r.tails + row * width;
#pragma omp simd
        for (int64_t j = 0; j < inputs; j++) {
            head[j] = to_bfloat16(from[j]);
            tail[j] = to_bfloat16(from[j] - to_float(head[j]));
        }
        for (int64_t j = inputs; j < width; j++) head[j] = tail[j] = 0;
    }
    return r;  // what stands in the rows after the last is multiplied too, and not read
}

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t columns[16];
    uint8_t rows[16];
} __attribute__((aligned(64))) Tiles;

// A block of outputs of up to 2 tiles of rows. tmm0-3: sums; 4, 5: rows; 6, 7: weights.
#define START(tall)                     \
    __asm__ volatile("" ::: "memory");  /* the compiler does not know that tiles are loaded from memory */ \
    _tile_zero(0);                      \
    _tile_zero(1);                      \
    if (tall) {                         \
        _tile_zero(2);                  \
        _tile_zero(3);                  \
    }
#define LOAD_WEIGHTS(place)             \
    _tile_loadd(6, place, 64);          \
    _tile_loadd(7, (place) + TILE, 64);
#define ADD_PRODUCT(dot, rows, stride, lower, tall) \
    _tile_loadd(4, rows, stride);       \
    dot(0, 4, 6);                       \
    dot(1, 4, 7);                       \
    if (tall) {                         \
        _tile_loadd(5, (rows) + (lower), stride); \
        dot(2, 5, 6);                   \
        dot(3, 5, 7);                   \
    }
#define STORE(sums, tall)               \
    _tile_stored(0, sums, BLOCK * 4);   \
    _tile_stored(1, (sums) + SIDE, BLOCK * 4); \
    if (tall) {                         \
        _tile_stored(2, (sums) + SIDE * BLOCK, BLOCK * 4); \
        _tile_stored(3, (sums) + SIDE * BLOCK + SIDE, BLOCK * 4); \
    }

static inline __attribute__((always_inline)) void multiply_halves(
    const uint16_t *head, const uint16_t *tail, const char *packed, float *sums, int64_t width, int parts, int tall
) {
    START(tall)
    for (int64_t k = 0; k < width; k += TERMS, packed += parts * 2 * TILE) {
        LOAD_WEIGHTS(packed)
        ADD_PRODUCT(_tile_dpbf16ps, head + k, 2 * width, width * SIDE, tall)
        if (parts == 2) {
            ADD_PRODUCT(_tile_dpbf16ps, tail + k, 2 * width, width * SIDE, tall)
            LOAD_WEIGHTS(packed + 2 * TILE)
            ADD_PRODUCT(_tile_dpbf16ps, head + k, 2 * width, width * SIDE, tall)
        }
    }
    STORE(sums, tall)
}

static inline __attribute__((always_inline)) void multiply_int8s(
    const int8_t *rows, const char *packed, int32_t *sums, int64_t width, int tall
) {
    START(tall)
    for (int64_t k = 0; k < width; k += 2 * TERMS, packed += 2 * TILE) {
        LOAD_WEIGHTS(packed)
        ADD_PRODUCT(_tile_dpbssd, rows + k, width, width * SIDE, tall)
    }
    STORE(sums, tall)
}

// Of rows from `row` on, as many as a block has; sums are float32 whatever they were summed in.
static void multiply_block(const Product *p, const Rows *r, const char *packed, int64_t row, int tall, float *sums) {
    const int64_t at = row * r->width;
    if (p->form == INT8) {
        int32_t integers[BLOCK * BLOCK] __attribute__((aligned(64)));
        if (tall) multiply_int8s(r->int8s + at, packed, integers, r->width, 1);
        else multiply_int8s(r->int8s + at, packed, integers, r->width, 0);
        for (int64_t i = 0; i < (tall ? BLOCK : SIDE); i++)
#pragma omp simd
            for (int64_t j = 0; j < BLOCK; j++) sums[i * BLOCK + j] = r->scales[row + i] * (float)integers[i * BLOCK + j];
    } else if (p->form == FP32) {
        if (tall) multiply_halves(r->heads + at, r->tails + at, packed, sums, r->width, 2, 1);
        else multiply_halves(r->heads + at, r->tails + at, packed, sums, r->width, 2, 0);
    } else {
        if (tall) multiply_halves(r->heads + at, r->tails + at, packed, sums, r->width, 1, 1);
        else multiply_halves(r->heads + at, r->tails + at, packed, sums, r->width, 1, 0);
    }
}

static void multiply_blocks(
    const Product *p, const Rows *r, float *y, int64_t stride, int64_t rows, int64_t first, int64_t last
) {
    const int64_t size = packed_size(p->inputs, BLOCK, p->form);
    float sums[BLOCK * BLOCK] __attribute__((aligned(64)));
    const float least = p->rectified ? 0 : -INFINITY;
    for (int64_t b = first; b < last; b++) {
        const int64_t start = b * BLOCK, wide = p->outputs - start < BLOCK ? p->outputs - start : BLOCK;
        for (int64_t row = 0; row < rows; row += BLOCK) {
            const int64_t high = rows - row < BLOCK ? rows - row : BLOCK;
            multiply_block(p, r, (const char *)p->packed + b * size, row, high > SIDE, sums);
            for (int64_t i = 0; i < high; i++) {
                float *restrict to = y + (row + i) * stride + start;
                const float *restrict sum = sums + i * BLOCK;
#pragma omp simd
                for (int64_t j = 0; j < wide; j++) {
                    const float product = p->scales ? sum[j] * p->scales[start + j] : sum[j];
                    const float value = product + (p->bias ? p->bias[start + j] : 0);
                    to[j] = value < least ? least : value;
                }
            }
        }
    }
}

// y = x W' + b; y: rows of `stride` elements; scratch: scratch_size bytes.
static void multiply(
    const Product *p, const float *x, float *y, int64_t stride, int64_t rows, void *scratch, int64_t threads
) {
    const Rows r = split_rows(p, x, scratch, rows, threads);
    const int64_t all = blocks(p->outputs, BLOCK);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++) {
        // other libraries remember what they have set the tiles to: it is left as it was found
        Tiles before, ours = {.palette = 1};
        for (int tile = 0; tile < 8; tile++) ours.columns[tile] = 64, ours.rows[tile] = SIDE;
        _tile_storeconfig(&before);
        _tile_loadconfig(&ours);
        multiply_blocks(p, &r, y, stride, rows, all * t / threads, all * (t + 1) / threads);
        if (before.palette) _tile_loadconfig(&before);
        else _tile_release();
    }
}
