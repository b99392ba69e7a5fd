// How a sub-layer F is connected: what F is given, and what becomes of x and F(x).

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../deviation.h"
#include "number.h"
#include "tanh_erf.h"

// What a norm is made of: the first ones as ../chain.py numbers them.
enum { NORM = 1, CENTRED = 2, BRACKET = 16, LENGTH = 1 << 16, TANH = 1 << 17, ERF = 1 << 18, GATED = 1 << 19 };

// Of the features of one token: w n + b, with n = (v - mean) / deviation of NORM, v / max(|v|, eps) of LENGTH, else v.
// TANH and ERF make f(scale n + slope) of n, a BRACKET scale (1 - slope n) n, and GATED w + tanh(v . along) gate of w.
typedef struct {
    int64_t parts;
    float eps, scale, slope;
    const float *weight, *bias, *gate, *along;  // (dim), or NULL
} Norm;

// y becomes N(a x + b y).
typedef struct {
    float a, b;               // where there is no vector
    const float *of_x, *of_y;  // (dim), or NULL
    Norm norm;
} Link;

typedef struct {
    Norm before;  // of what F is given
    Norm inside;  // of what F's last map is given
    int64_t links;
    const Link *link;  // from F(x) to the sub-layer's output
} Connection;

static float sum_of(const float *restrict v, int64_t dim) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) sum += v[j];
    return sum;
}

static float squares_of(const float *restrict v, float mean, int64_t dim) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) sum += (v[j] - mean) * (v[j] - mean);
    return sum;
}

static void apply_function(const Norm *norm, float *v, int64_t dim) {
    if (norm->parts & TANH) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] = tanh_of(norm->scale * v[j] + norm->slope);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] = erf_of(norm->scale * v[j] + norm->slope);
    }
}

static void scale_by_statistics(const Norm *norm, float *v, int64_t dim) {
    const float mean = norm->parts & CENTRED ? sum_of(v, dim) / dim : 0, squares = squares_of(v, mean, dim);
    const float length = sqrtf(squares);
    const float factor = norm->parts & LENGTH ? 1 / (length < norm->eps ? norm->eps : length)
                                              : inverse_deviation(squares / dim, norm->eps);
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) v[j] = (v[j] - mean) * factor;
    if (norm->parts & BRACKET) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] = norm->scale * (1 - norm->slope * v[j]) * v[j];
    }
}

// In place.
static void norm_row(const Norm *norm, float *restrict v, int64_t dim) {
    const float *restrict weight = norm->weight, *restrict bias = norm->bias, *restrict gate = norm->gate;
    const float open = norm->parts & GATED ? tanh_of(dot(v, norm->along, FLOAT32, 0, dim)) : 0;
    if (norm->parts & (NORM | LENGTH)) scale_by_statistics(norm, v, dim);
    if (norm->parts & (TANH | ERF)) apply_function(norm, v, dim);
    if (norm->parts & GATED) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] *= weight[j] + open * gate[j];
    } else if (weight && bias) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] = v[j] * weight[j] + bias[j];
    } else if (weight) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] *= weight[j];
    } else if (bias) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] += bias[j];
    }
}

static int is_norm(const Norm *norm) { return norm->parts != 0; }

static void norm_rows(const Norm *norm, float *v, int64_t rows, int64_t dim, int64_t threads) {
    if (!is_norm(norm)) return;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) norm_row(norm, v + row * dim, dim);
}

// What F is given: x itself, or its norm, which is written to space.
static const float *enter(const Connection *c, const float *x, float *space, int64_t rows, int64_t dim, int64_t threads) {
    if (!is_norm(&c->before)) return x;
    memcpy(space, x, rows * dim * sizeof(float));
    norm_rows(&c->before, space, rows, dim, threads);
    return space;
}

// y becomes a x + b y.
static void add_up(const Link *link, const float *restrict x, float *restrict y, int64_t dim) {
    const float *restrict of_x = link->of_x, *restrict of_y = link->of_y;
    if (of_y) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) y[j] *= of_y[j];
    } else if (link->b != 1) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) y[j] *= link->b;
    }
    if (of_x) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) y[j] += of_x[j] * x[j];
    } else if (link->a != 0) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) y[j] += link->a * x[j];
    }
}

// x becomes the sub-layer's output; f is overwritten.
static void leave(const Connection *c, float *f, float *x, int64_t rows, int64_t dim, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *to = x + row * dim, *y = f + row * dim;
        for (int64_t k = 0; k < c->links; k++) {
            add_up(c->link + k, to, y, dim);
            if (is_norm(&c->link[k].norm)) norm_row(&c->link[k].norm, y, dim);
        }
        memcpy(to, y, dim * sizeof(float));
    }
}
