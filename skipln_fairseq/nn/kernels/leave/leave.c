// The leave-step of a sub-layer, forward and backward, one row of features at a time.
//
//     y_0 = noise * f;   v_k = scale * x + y_{k-1};   y_k = w_k * (v_k - mean_k) * rstd_k + b_k;   k = 1 ... norms
//
// A row stays in the first cache through all its norms, so a further norm costs arithmetic and no memory traffic.
// Nothing is kept between forward and backward but two numbers a norm and row: the noise is drawn anew from its
// seed, the rows between the norms are computed anew. Arithmetic is float32 whatever the tensors hold.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../deviation.h"

enum { FLOAT32, BFLOAT16 };

typedef struct {
    int64_t rows, dim, norms;
    float scale, eps, keep;  // keep: the factor of what is not dropped
    uint32_t threshold;      // a random word below it drops its element
    uint64_t seed;
    const float *weight, *bias;  // (norms, dim)
} Step;

static inline float to_float(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bfloat16(float value) {  // to the nearest, ties to even; a NaN stays one
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value == value ? rounded : 0x7FC0);
}

static void read_row(float *restrict to, const void *from, int type, int64_t row, int64_t dim) {
    if (type == FLOAT32) {
        memcpy(to, (const float *)from + row * dim, dim * sizeof(float));
        return;
    }
    const uint16_t *restrict halves = (const uint16_t *)from + row * dim;
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) to[j] = to_float(halves[j]);
}

static void write_row(void *to, const float *restrict from, int type, int64_t row, int64_t dim) {
    if (type == FLOAT32) {
        memcpy((float *)to + row * dim, from, dim * sizeof(float));
        return;
    }
    uint16_t *restrict halves = (uint16_t *)to + row * dim;
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) halves[j] = to_bfloat16(from[j]);
}

// Threefry4x32-12 (Salmon, Moraes, Dror, Shaw 2011): additions, rotations and exclusive ors only, which every vector
// unit has, so that drawing the noise again costs less than keeping it. Element j of a row takes word j mod 4 of
// block j / 4, and blocks are numbered through the rows.
#define ROTATE(word, by) ((word) << (by) | (word) >> (32 - (by)))
#define MIX(a, b, by) a += b, b = ROTATE(b, by) ^ a
#define ROUNDS(by_1, by_2, by_3, by_4, by_5, by_6, by_7, by_8)                   \
    MIX(a, b, by_1), MIX(c, d, by_2), MIX(a, d, by_3), MIX(c, b, by_4), \
        MIX(a, b, by_5), MIX(c, d, by_6), MIX(a, d, by_7), MIX(c, b, by_8)
#define ADD_KEY(k_1, k_2, k_3, k_4) a += k_1, b += k_2, c += k_3, d += k_4

static void draw_noise(float *restrict noise, const Step *step, int64_t row) {
    const int64_t blocks = (step->dim + 3) / 4;
    const uint32_t key = (uint32_t)step->seed, other = (uint32_t)(step->seed >> 32);
    const uint32_t parity = 0x1BD11BDAu ^ key ^ other;  // the other two words of the key are zero
    const uint32_t threshold = step->threshold;
    const float keep = step->keep;
#pragma omp simd
    for (int64_t q = 0; q < blocks; q++) {
        const uint64_t number = (uint64_t)(row * blocks + q);
        uint32_t a = (uint32_t)number, b = (uint32_t)(number >> 32), c = 0, d = 0;
        ADD_KEY(key, other, 0, 0);
        ROUNDS(10, 26, 11, 21, 13, 27, 23, 5);
        ADD_KEY(other, 0, 0, parity + 1);
        ROUNDS(6, 20, 17, 11, 25, 10, 18, 20);
        ADD_KEY(0, 0, parity, key + 2);
        ROUNDS(10, 26, 11, 21, 13, 27, 23, 5);
        ADD_KEY(0, parity, key, other + 3);
        noise[4 * q] = a < threshold ? 0.0f : keep;
        noise[4 * q + 1] = b < threshold ? 0.0f : keep;
        noise[4 * q + 2] = c < threshold ? 0.0f : keep;
        noise[4 * q + 3] = d < threshold ? 0.0f : keep;
    }
}

static void times(float *restrict v, const float *restrict factor, int64_t dim) {
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) v[j] *= factor[j];
}

static int64_t padded(int64_t dim) { return (dim + 15) / 16 * 16; }  // to whole cache lines

static float *scratch(int64_t rows, int64_t dim) {
    return aligned_alloc(64, (size_t)(rows * padded(dim)) * sizeof(float));
}

static void forward_rows(
    const Step *step, int type, const void *f, const void *x, void *y, float *statistics, int64_t first, int64_t last
) {
    const int64_t dim = step->dim, width = padded(dim);
    float *restrict out = scratch(3, dim), *restrict skip = out + width, *restrict noise = skip + width;
    const float scale = step->scale;
    for (int64_t row = first; row < last; row++) {
        read_row(out, f, type, row, dim);
        read_row(skip, x, type, row, dim);
        if (step->threshold) {
            draw_noise(noise, step, row);
            times(out, noise, dim);
        }
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) {
            skip[j] *= scale;
            out[j] += skip[j];
            sum += out[j];
        }
        for (int64_t k = 0; k < step->norms; k++) {
            const float *restrict weight = step->weight + k * dim, *restrict bias = step->bias + k * dim;
            const float mean = sum / dim;
            float squares = 0;
#pragma omp simd reduction(+ : squares)
            for (int64_t j = 0; j < dim; j++) squares += (out[j] - mean) * (out[j] - mean);
            const float rstd = inverse_deviation(squares / dim, step->eps);
            statistics[2 * row * step->norms + k] = mean;
            statistics[(2 * row + 1) * step->norms + k] = rstd;
            if (k + 1 < step->norms) {
                sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < dim; j++) {
                    out[j] = (out[j] - mean) * rstd * weight[j] + bias[j] + skip[j];
                    sum += out[j];
                }
            } else {
#pragma omp simd
                for (int64_t j = 0; j < dim; j++) out[j] = (out[j] - mean) * rstd * weight[j] + bias[j];
            }
        }
        write_row(y, out, type, row, dim);
    }
    free(out);
}

// The gradients of the gains and biases of these rows are written to sums, (norms, 2, dim).
static void backward_rows(
    const Step *step, int type, const void *f, const void *x, const float *statistics, const void *dy, void *df,
    void *dx, float *restrict sums, int64_t first, int64_t last
) {
    const int64_t dim = step->dim, norms = step->norms, width = padded(dim);
    float *restrict grad = scratch(4 + norms, dim), *restrict skip = grad + width, *restrict noise = skip + width;
    float *restrict dskip = noise + width;
    float *inputs = dskip + width;  // of the norms, (norms, width)
    const float scale = step->scale;
    memset(sums, 0, (size_t)(norms * 2 * dim) * sizeof(float));
    for (int64_t row = first; row < last; row++) {
        const float *restrict means = statistics + 2 * row * norms, *restrict rstds = means + norms;
        read_row(grad, dy, type, row, dim);
        if (step->threshold) draw_noise(noise, step, row);
        if (norms) {
            read_row(inputs, f, type, row, dim);
            read_row(skip, x, type, row, dim);
            if (step->threshold) times(inputs, noise, dim);
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) {
                skip[j] *= scale;
                inputs[j] += skip[j];
                dskip[j] = 0;
            }
        }
        for (int64_t k = 0; k + 1 < norms; k++) {
            const float *restrict weight = step->weight + k * dim, *restrict bias = step->bias + k * dim;
            const float *restrict v = inputs + k * width;
            float *restrict next = inputs + (k + 1) * width;
            const float mean = means[k], rstd = rstds[k];
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) next[j] = (v[j] - mean) * rstd * weight[j] + bias[j] + skip[j];
        }
        for (int64_t k = norms - 1; k >= 0; k--) {
            const float *restrict weight = step->weight + k * dim, *restrict v = inputs + k * width;
            float *restrict dweight = sums + 2 * k * dim, *restrict dbias = dweight + dim;
            const float mean = means[k], rstd = rstds[k];
            float sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
            for (int64_t j = 0; j < dim; j++) {
                const float normed = (v[j] - mean) * rstd;
                dbias[j] += grad[j];
                dweight[j] += grad[j] * normed;
                sum += grad[j] * weight[j];
                along += grad[j] * weight[j] * normed;
            }
            sum /= dim;
            along /= dim;
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) {
                grad[j] = rstd * (grad[j] * weight[j] - sum - (v[j] - mean) * rstd * along);
                dskip[j] += grad[j];
            }
        }
        const float *restrict total = norms ? dskip : grad;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) skip[j] = scale * total[j];
        write_row(dx, skip, type, row, dim);
        if (step->threshold) times(grad, noise, dim);
        write_row(df, grad, type, row, dim);
    }
    free(grad);
}

void leave_forward(
    const Step *step, int type, const void *f, const void *x, void *y, float *statistics, int64_t threads
) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        forward_rows(step, type, f, x, y, statistics, step->rows * t / threads, step->rows * (t + 1) / threads);
}

void leave_backward(
    const Step *step, int type, const void *f, const void *x, const float *statistics, const void *dy, void *df,
    void *dx, float *sums, int64_t threads
) {
    const int64_t size = step->norms * 2 * step->dim;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        backward_rows(
            step, type, f, x, statistics, dy, df, dx, sums + t * size, step->rows * t / threads,
            step->rows * (t + 1) / threads
        );
    for (int64_t t = 1; t < threads; t++)
        for (int64_t j = 0; j < size; j++) sums[j] += sums[t * size + j];
}
