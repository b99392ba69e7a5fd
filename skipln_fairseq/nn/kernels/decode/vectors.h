// Products by the processor's vectors.
//
// Weights are packed in panels of so many outputs as few vectors hold. For every word of 32 bits of x, which is one
// float32 number, two bfloat16 ones or one to four whole ones, a panel has what its outputs multiply that word by. So it
// is read as one stream, and a few rows' sums stay in registers until it ends.

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include "avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "avx2.h"
#else
#include "portable.h"
#endif

enum { VECTORS = 2, PANEL = VECTORS * WIDTH };

#define INLINE static inline __attribute__((always_inline))

// Inputs in a word of x; bytes of a weight. Where bfloat16 is not multiplied, its weights become float32 when read.
#ifdef MULTIPLIES_HALVES
enum { HALVES = 2 };
#else
enum { HALVES = 1 };
#endif
INLINE int64_t inputs_of_word(int64_t form) {
    return form == INT8 ? (int64_t)(sizeof(Word) / sizeof(Eighth)) : form == BF16 ? HALVES : 1;
}
INLINE int64_t bytes_of_weight(int64_t form) { return form == INT8 ? 1 : form == BF16 ? 2 : 4; }
INLINE int64_t words_of(int64_t form, int64_t inputs) { return blocks(inputs, inputs_of_word(form)); }

// Of a panel; INT8 has what its sums start from before its weights.
static int64_t panel_size(int64_t inputs, int64_t form) {
    return PANEL * (words_of(form, inputs) * inputs_of_word(form) * bytes_of_weight(form) + (form == INT8 ? 4 : 0));
}

static int64_t packed_size(int64_t inputs, int64_t outputs, int64_t form) {  // in bytes
    return blocks(outputs, PANEL) * panel_size(inputs, form);
}

// weight: (outputs, inputs); scales: (outputs), which INT8 writes.
static void pack_weight(const float *weight, void *packed, float *scales, int64_t inputs, int64_t outputs, int64_t form) {
    const int64_t together = inputs_of_word(form);
    memset(packed, 0, packed_size(inputs, outputs, form));
    for (int64_t n = 0; n < outputs; n++) {
        char *panel = (char *)packed + n / PANEL * panel_size(inputs, form);
        int32_t *start = (int32_t *)panel + n % PANEL;
        if (form == INT8) {
            scales[n] = scale_of(weight + n * inputs, inputs);
            panel += PANEL * sizeof *start;
        }
        for (int64_t k = 0; k < inputs; k++) {
            const int64_t place = (k / together * PANEL + n % PANEL) * together + k % together;
            const float value = weight[n * inputs + k];
            if (form == INT8) {
                const int8_t eighth = eighth_of(value, 1 / scales[n]);
                ((int8_t *)panel)[place] = eighth;
                *start -= SHIFT * eighth;
            } else if (form == BF16) {
                ((uint16_t *)panel)[place] = head_of(value);
            } else {
                ((float *)panel)[place] = value;
            }
        }
    }
}

// Rows in the words that are multiplied.
typedef struct {
    const Word *words;
    int64_t stride;       // of a row, in words
    const float *scales;  // of the rows, of INT8
} Rows;

static int64_t scratch_size(int64_t rows, int64_t inputs) {  // in bytes, for any form
    return rows * 4 * (inputs + 1);
}

static void write_eighths(const float *restrict from, Eighth *restrict to, float *scale, int64_t inputs, int64_t width) {
    *scale = scale_of(from, inputs);
    const float inverse = 1 / *scale;
#pragma omp simd
    for (int64_t j = 0; j < inputs; j++) to[j] = (Eighth)((int32_t)rintf(from[j] * inverse) + SHIFT);
    for (int64_t j = inputs; j < width; j++) to[j] = 0;
}

static void write_halves(const float *restrict from, uint16_t *restrict to, int64_t inputs, int64_t width) {
#pragma omp simd
    for (int64_t j = 0; j < inputs; j++) to[j] = head_of(from[j]);
    for (int64_t j = inputs; j < width; j++) to[j] = 0;
}

static Rows write_rows(const Product *p, const float *x, void *scratch, int64_t rows, int64_t threads) {
    const int64_t together = inputs_of_word(p->form), words = words_of(p->form, p->inputs), width = words * together;
    if (p->form != INT8 && together == 1) return (Rows){(const Word *)x, p->inputs, NULL};
    float *scales = (float *)scratch + rows * words;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * p->inputs;
        if (p->form == INT8) write_eighths(from, (Eighth *)scratch + row * width, scales + row, p->inputs, width);
        else write_halves(from, (uint16_t *)scratch + row * width, p->inputs, width);
    }
    return (Rows){scratch, words, scales};
}

INLINE Wholes load(int form, const char *from) {
    Wholes w;
    if (form == INT8) return load_eighths(from);
    if (form == BF16 && HALVES == 1) {
        Halves halves;
        memcpy(&halves, from, sizeof halves);
        return (Wholes)(__builtin_convertvector(halves, Words) << 16);
    }
    memcpy(&w, from, sizeof w);
    return w;
}

INLINE Wholes add_product(int form, Wholes sum, const Word *x, Wholes w) {
    if (form == INT8) return add_eighths(sum, *x, w);
#ifdef MULTIPLIES_HALVES
    if (form == BF16) return (Wholes)add_halves((Floats)sum, *x, w);
#endif
    float value;
    memcpy(&value, x, sizeof value);
    return (Wholes)((Floats)sum + value * (Floats)w);
}

// What becomes of a panel's sums.
typedef struct {
    Floats scales[VECTORS], bias[VECTORS];
    int64_t wide;  // how many of its outputs there are
    Wholes least;  // all bits where negative outputs become zero
} Finish;

static Finish finish_of(const Product *p, int64_t start) {
    Finish f = {.wide = p->outputs - start < PANEL ? p->outputs - start : PANEL};
    if (p->scales) memcpy(f.scales, p->scales + start, f.wide * sizeof(float));
    if (p->bias) memcpy(f.bias, p->bias + start, f.wide * sizeof(float));
    f.least -= p->rectified != 0;
    return f;
}

INLINE void finish_row(int form, const Finish *f, const Wholes *sums, float scale, float *y) {
    Floats values[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        const Floats product = form == INT8 ? scale * __builtin_convertvector(sums[v], Floats) * f->scales[v] : (Floats)sums[v];
        const Floats value = product + f->bias[v];
        values[v] = (Floats)((Wholes)value & ~((value < 0) & f->least));  // a NaN is not below zero and stays one
    }
    if (f->wide == PANEL) memcpy(y, values, sizeof values);
    else memcpy(y, values, f->wide * sizeof(float));
}

// `count` rows by a panel. A few sums would wait for one another, so a single row has several for one output.
INLINE void multiply_rows(
    int form, int count, const Rows *r, int64_t row, const char *panel, int64_t words, const Finish *f, float *y, int64_t stride
) {
    enum { MOST = 4 };
    const int splits = count == 1 ? MOST : count <= 3 ? 2 : 1;
    const int64_t step = PANEL * inputs_of_word(form) * bytes_of_weight(form);
    const Word *x = r->words + row * r->stride;
    Wholes sums[MOST][ROWS][VECTORS];
#pragma GCC unroll 4
    for (int s = 0; s < splits; s++)
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) {
                if (form == INT8 && s == 0) memcpy(&sums[s][i][v], panel + v * sizeof(Wholes), sizeof(Wholes));
                else sums[s][i][v] = (Wholes){0};
            }
    if (form == INT8) panel += VECTORS * sizeof(Wholes);
    int64_t k = 0;
    for (; k + splits <= words; k += splits)
#pragma GCC unroll 4
        for (int s = 0; s < splits; s++, panel += step) {
            Wholes w[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) w[v] = load(form, panel + v * (step / VECTORS));
#pragma GCC unroll 16
            for (int i = 0; i < count; i++)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) sums[s][i][v] = add_product(form, sums[s][i][v], x + i * r->stride + k + s, w[v]);
        }
    for (; k < words; k++, panel += step)
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sums[0][i][v] = add_product(form, sums[0][i][v], x + i * r->stride + k, load(form, panel + v * (step / VECTORS)));
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int s = 1; s < splits; s++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sums[0][i][v] = form == INT8 ? sums[0][i][v] + sums[s][i][v] : (Wholes)((Floats)sums[0][i][v] + (Floats)sums[s][i][v]);
        finish_row(form, f, sums[0][i], form == INT8 ? r->scales[row + i] : 1, y + (row + i) * stride);
    }
}

// Rows are shared out evenly, so that none of the blocks is a small one.
INLINE void multiply_panel(int form, const Product *p, const Rows *r, int64_t index, float *y, int64_t stride, int64_t rows) {
    const char *panel = (const char *)p->packed + index * panel_size(p->inputs, form);
    const int64_t words = words_of(form, p->inputs), groups = blocks(rows, ROWS);
    const Finish f = finish_of(p, index * PANEL);
    y += index * PANEL;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t row = rows * g / groups;
        switch (rows * (g + 1) / groups - row) {
#define CASE(n) case n: if (n <= ROWS) multiply_rows(form, n, r, row, panel, words, &f, y, stride); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
        }
    }
}

// y = x W' + b; y: rows of `stride` elements; scratch: scratch_size bytes.
static void multiply(
    const Product *p, const float *x, float *y, int64_t stride, int64_t rows, void *scratch, int64_t threads
) {
    const Rows r = write_rows(p, x, scratch, rows, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t panel = 0; panel < blocks(p->outputs, PANEL); panel++) {
        if (p->form == INT8) multiply_panel(INT8, p, &r, panel, y, stride, rows);
        else if (p->form == BF16) multiply_panel(BF16, p, &r, panel, y, stride, rows);
        else multiply_panel(FP32, p, &r, panel, y, stride, rows);
    }
}
