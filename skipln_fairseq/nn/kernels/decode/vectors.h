// Products by the processor's vectors.
//
// Weights are packed in panels of so many outputs as few vectors hold. For every word of 32 bits of x, which is one
// float32 number, two bfloat16 ones or one to four int8 ones, a panel has what its outputs multiply that word by. So it
// is read as one stream, and a few rows' sums stay in registers until it ends.
//
// Why not a library's: torch's wheels export no C interface of oneDNN, XNNPACK or FBGEMM, which are inside. MKL's
// cblas_sgemm_compute is exported from those for x86 alone; with packed weights it was as fast as torch's own product on
// an AMD EPYC, at most half as fast as this one (5 and 40 rows), and it multiplies no integers.

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include "avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "dotprod.h"
#else
#include "portable.h"
#endif

enum { VECTORS = 2, PANEL = VECTORS * WIDTH };

#define INLINE static inline __attribute__((always_inline))

// Wholly, so that sums are in registers.
#ifdef __clang__
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif

// Inputs in a word of x; bytes of a weight. Where bfloat16 is not multiplied, its weights become float32 when read.
#ifdef MULTIPLIES_HALVES
enum { HALVES = 2 };
#else
enum { HALVES = 1 };
#endif
INLINE int64_t inputs_of_word(int64_t form) {
    return form == INT8 ? (int64_t)(sizeof(Word) / sizeof(Int8)) : form == BF16 ? HALVES : 1;
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
        float inverse = 1;
        char *panel = (char *)packed + n / PANEL * panel_size(inputs, form);
        int32_t *start = (int32_t *)panel + n % PANEL;
        if (form == INT8) {
            scales[n] = scale_of(weight + n * inputs, inputs, MOST);
            inverse = 1 / scales[n];
            panel += PANEL * sizeof *start;
        }
        for (int64_t k = 0; k < inputs; k++) {
            const int64_t place = (k / together * PANEL + n % PANEL) * together + k % together;
            const float value = weight[n * inputs + k];
            if (form == INT8) {
                const int8_t int8 = int8_of(value, inverse);
                ((int8_t *)panel)[place] = int8;
                *start -= SHIFT * int8;
            } else if (form == BF16) {
                ((uint16_t *)panel)[place] = to_bfloat16(value);
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

static void write_int8s(const float *restrict from, Int8 *restrict to, float *scale, int64_t inputs, int64_t width) {
    *scale = scale_of(from, inputs, 127);
    const float inverse = 1 / *scale;
#pragma omp simd
    for (int64_t j = 0; j < inputs; j++) to[j] = (Int8)((int32_t)rintf(from[j] * inverse) + SHIFT);
    for (int64_t j = inputs; j < width; j++) to[j] = 0;
}

static void write_halves(const float *restrict from, uint16_t *restrict to, int64_t inputs, int64_t width) {
#pragma omp simd
    for (int64_t j = 0; j < inputs; j++) to[j] = to_bfloat16(from[j]);
    for (int64_t j = inputs; j < width; j++) to[j] = 0;
}

static Rows write_rows(const Product *p, const float *x, void *scratch, int64_t rows, int64_t threads) {
    const int64_t together = inputs_of_word(p->form), words = words_of(p->form, p->inputs), width = words * together;
    if (p->form != INT8 && together == 1) return (Rows){(const Word *)x, p->inputs, NULL};
    float *scales = (float *)scratch + rows * words;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * p->inputs;
        if (p->form == INT8) write_int8s(from, (Int8 *)scratch + row * width, scales + row, p->inputs, width);
        else write_halves(from, (uint16_t *)scratch + row * width, p->inputs, width);
    }
    return (Rows){scratch, words, scales};
}

// Of a panel: floats for FP32 and BF16, ints for INT8.
typedef struct {
    Floats floats[ROWS][VECTORS];
    Ints ints[ROWS][VECTORS];
} Sums;

// One word of the rows from x on times what a panel has for it.
INLINE void add_word(int form, int count, Sums *sums, const Word *x, int64_t stride, const char *panel) {
    Floats w[VECTORS];
    Ints integers[VECTORS];
    UNROLLED
    for (int v = 0; v < VECTORS; v++) {
        const char *from = panel + v * WIDTH * inputs_of_word(form) * bytes_of_weight(form);
        if (form == INT8) integers[v] = load_int8s(from);
        else if (form == BF16) w[v] = load_halves(from);
        else memcpy(&w[v], from, sizeof w[v]);
    }
    UNROLLED
    for (int i = 0; i < count; i++) {
        float value;
        memcpy(&value, x + i * stride, sizeof value);
        UNROLLED
        for (int v = 0; v < VECTORS; v++) {
            if (form == INT8) sums->ints[i][v] = add_int8s(sums->ints[i][v], x[i * stride], integers[v]);
#ifdef MULTIPLIES_HALVES
            else if (form == BF16) sums->floats[i][v] = add_halves(sums->floats[i][v], value, w[v]);
#endif
            else sums->floats[i][v] += value * w[v];
        }
    }
}

// What becomes of a panel's sums.
typedef struct {
    Floats scales[VECTORS], bias[VECTORS];
    int64_t wide;  // how many of its outputs there are
    Ints cut;    // all bits where negative outputs become zero
} Finish;

static Finish finish_of(const Product *p, int64_t start) {
    Finish f = {.wide = p->outputs - start < PANEL ? p->outputs - start : PANEL};
    if (p->scales) memcpy(f.scales, p->scales + start, f.wide * sizeof(float));
    if (p->bias) memcpy(f.bias, p->bias + start, f.wide * sizeof(float));
    f.cut -= p->rectified != 0;
    return f;
}

// y: whole panels, rows of `stride` elements. Few sums would wait for themselves, so few rows have several for an output.
INLINE void multiply_rows(
    int form, int count, const Rows *r, int64_t row, const char *panel, int64_t words, const Finish *f,
    float *restrict y, int64_t stride
) {
    const int splits = count == 1 ? 4 : count <= 3 ? 2 : 1;
    const int64_t step = PANEL * inputs_of_word(form) * bytes_of_weight(form);
    const Word *x = r->words + row * r->stride;
    Sums sums[4];
    UNROLLED
    for (int v = 0; v < VECTORS; v++) {
        Ints start = {0};
        if (form == INT8) memcpy(&start, panel + v * sizeof start, sizeof start);
        UNROLLED
        for (int i = 0; i < count; i++)
            UNROLLED
            for (int s = 0; s < splits; s++) {
                sums[s].floats[i][v] = (Floats){0};
                sums[s].ints[i][v] = s == 0 ? start : (Ints){0};
            }
    }
    if (form == INT8) panel += PANEL * sizeof(int32_t);
    int64_t k = 0;
#pragma GCC unroll 1  // there are no registers for more sums
    for (; k + splits <= words; k += splits)
        UNROLLED
        for (int s = 0; s < splits; s++, panel += step) add_word(form, count, sums + s, x + k + s, r->stride, panel);
    for (; k < words; k++, panel += step) add_word(form, count, sums, x + k, r->stride, panel);
    UNROLLED
    for (int i = 0; i < count; i++)
        UNROLLED
        for (int v = 0; v < VECTORS; v++) {
            Floats value = sums[0].floats[i][v];
            Ints integers = sums[0].ints[i][v];
            UNROLLED
            for (int s = 1; s < splits; s++) value += sums[s].floats[i][v], integers += sums[s].ints[i][v];
            if (form == INT8) value = r->scales[row + i] * __builtin_convertvector(integers, Floats) * f->scales[v];
            value += f->bias[v];
            value = (Floats)((Ints)value & ~((value < 0) & f->cut));  // a NaN is not below zero and stays one
            memcpy(y + i * stride + v * WIDTH, &value, sizeof value);
        }
}

// Rows are shared out evenly, so that none of the blocks is a small one.
INLINE void multiply_panel(int form, const Product *p, const Rows *r, int64_t index, float *y, int64_t stride, int64_t rows) {
    const char *panel = (const char *)p->packed + index * panel_size(p->inputs, form);
    const int64_t words = words_of(form, p->inputs), groups = blocks(rows, ROWS);
    const Finish f = finish_of(p, index * PANEL);
    const int whole = f.wide == PANEL;
    float space[ROWS * PANEL];
    for (int64_t g = 0; g < groups; g++) {
        const int64_t row = rows * g / groups, count = rows * (g + 1) / groups - row;
        float *to = y + row * stride + index * PANEL, *sums = whole ? to : space;
        const int64_t apart = whole ? stride : PANEL;
        switch (count) {
#define CASE(n) case n: if (n <= ROWS) multiply_rows(form, n, r, row, panel, words, &f, sums, apart); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
        }
        if (!whole)
            for (int64_t i = 0; i < count; i++) memcpy(to + i * stride, space + i * PANEL, f.wide * sizeof(float));
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
