// How a sub-layer F is connected: what F is given, and what becomes of x and F(x).

#include <stdint.h>
#include <string.h>

#include "../deviation.h"

// skip * x + F, and norms after it, or one norm before F.
typedef struct {
    int64_t norms, before;
    float skip, eps;
    const float *weight, *bias;  // (norms, dim)
} Connection;

// y = LN(x), in place too
static void norm_row(const float *x, float *y, const float *restrict w, const float *restrict b, float eps, int64_t dim) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) sum += x[j];
    const float mean = sum / dim;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < dim; j++) squares += (x[j] - mean) * (x[j] - mean);
    const float rstd = inverse_deviation(squares / dim, eps);
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) y[j] = (x[j] - mean) * rstd * w[j] + b[j];
}

static void norm_rows(const Connection *c, const float *x, float *y, int64_t rows, int64_t dim, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        norm_row(x + row * dim, y + row * dim, c->weight, c->bias, c->eps, dim);
}

// What F is given: x itself, or its norm, which is written to space.
static const float *enter(const Connection *c, const float *x, float *space, int64_t rows, int64_t dim, int64_t threads) {
    if (!c->before) return x;
    norm_rows(c, x, space, rows, dim, threads);
    return space;
}

// x becomes the sub-layer's output; f is overwritten.
static void leave(const Connection *c, float *f, float *x, int64_t rows, int64_t dim, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *restrict to = x + row * dim, *restrict y = f + row * dim;
        if (c->before || c->norms == 0) {
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) to[j] = c->skip * to[j] + y[j];
            continue;
        }
        for (int64_t k = 0; k < c->norms; k++) {
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) y[j] += c->skip * to[j];
            norm_row(y, y, c->weight + k * dim, c->bias + k * dim, c->eps, dim);
        }
        memcpy(to, y, dim * sizeof(float));
    }
}
