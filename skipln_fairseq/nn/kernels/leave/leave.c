// The leave-step of a sub-layer, forward and backward, one row of features at a time.
//
//     y_0 = noise * f;   v_k = a_k * x + b_k * y_{k-1};   y_k = N_k(v_k);   k = 1 ... links
//
// with N_k a norm: n = (v - mean) * rstd, and w * n + bias or C * (1 - slope * n) * n of it; or nothing at all.
//
// A row stays in the first cache through all its norms, so a further norm costs arithmetic and no memory traffic.
// Nothing is kept between forward and backward but two numbers a norm and row: the noise is drawn anew from its
// seed, the rows between the norms are computed anew. Arithmetic is float32 whatever the tensors hold.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../deviation.h"
#include "chain.h"

static void forward_rows(
    const Step *step, const Vectors *vectors, int type, const void *f, const void *x, void *y, float *statistics,
    int64_t begin, int64_t end
) {
    const int64_t dim = step->dim, width = padded(dim);
    float *out = scratch(5, dim), *f_row = out + width, *x_row = f_row + width, *skip = x_row + width;
    float *noise = skip + width;
    fill(noise, 1, dim);  // as it stays where nothing is dropped
    statistics += 2 * begin * step->norms;
    for (int64_t row = begin; row < end; row++) {
        const float *in = row_of(x_row, x, type, row, dim);
        if (step->threshold) draw_noise(noise, step, row);
        float sum = first(step->link, vectors, row_of(f_row, f, type, row, dim), noise, in, out, skip, dim);
        float *to = type == FLOAT32 ? (float *)y + row * dim : f_row;
        for (int64_t k = 0; k < step->links; k++) {
            const Link *link = step->link + k;
            const Vectors *own = vectors + k;
            float mean = 0, rstd = 1;
            if (link->parts & NORM) {
                float squares = 0;
                if (link->parts & CENTRED) mean = sum / dim;
#pragma omp simd reduction(+ : squares)
                for (int64_t j = 0; j < dim; j++) squares += (out[j] - mean) * (out[j] - mean);
                rstd = inverse_deviation(squares / dim, link->eps);
                *statistics++ = mean;
                *statistics++ = rstd;
            }
            if (k + 1 < step->links) {
                take_x(link + 1, own + 1, in, skip, dim);
                sum = next(1, link, own, out, skip, out, mean, rstd, dim);
            } else if (link->parts & NORM) norm_of(link, own, out, to, mean, rstd, dim);
            else to = out;
        }
        if (type != FLOAT32 || to == out) write_row(y, to, type, row, dim);
    }
    free(out);
}

// The gradients of a row that enter a link, of its output and of x so far, and where those that leave it are written.
typedef struct {
    const float *grad, *dskip, *noise;  // noise: what the link's y is multiplied with before it, or ones
    float *to_grad, *to_dskip;
} Way;

// From the gradient of N(v) that of v, d: to_dskip = dskip + a * d and to_grad = b * d * noise.
static inline __attribute__((always_inline)) void through(
    const int what, const Link *link, const float *restrict gain, const float *restrict v, float mean, float rstd,
    float a, float b, const Way *way, float *restrict dgain, float *restrict dbias, int64_t dim
) {
    const float scale = link->scale, slope = link->slope;
    const float *grad = way->grad, *dskip = way->dskip, *restrict noise = way->noise;
    float *to_grad = way->to_grad, *to_dskip = way->to_dskip;
    float level = 0, along = 0;
#define INNER(n) ((what & GAIN ? grad[j] * gain[j] : grad[j]) * (what & BRACKET ? scale * (1 - slope * (n)) : 1.0f))
#pragma omp simd reduction(+ : level, along)
    for (int64_t j = 0; j < dim; j++) {
        const float n = (v[j] - mean) * rstd, inner = INNER(n);
        if (what & BIAS) dbias[j] += grad[j];
        if (what & GAIN) dgain[j] += grad[j] * n;
        level += inner;
        along += inner * n;
    }
    level = link->parts & MEAN ? level / dim : 0;
    along = link->parts & DEVIATION ? along / dim : 0;
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) {
        const float n = (v[j] - mean) * rstd;
        const float d = rstd * (INNER(n) - level - n * along);
        to_dskip[j] = dskip[j] + a * d;
        to_grad[j] = b * d * noise[j];
    }
#undef INNER
}

static void through_norm(
    const Step *step, const Link *link, const Vectors *own, const float *v, const float *moments, float a, float b,
    const Way *way, float *sums
) {
    const float *gain = own->gain;
    float *dgain = sums + link->gain_at * step->dim, *dbias = sums + link->bias_at * step->dim;
    switch (link->parts & (BRACKET | GAIN | BIAS)) {
#define CASE(what)                                                                                      \
    case what:                                                                                          \
        through(what, link, gain, v, moments[0], moments[1], a, b, way, dgain, dbias, step->dim); \
        break
        CASE(0);
        CASE(GAIN);
        CASE(BIAS);
        CASE(GAIN | BIAS);
        CASE(BRACKET);
        CASE(BRACKET | GAIN);
        CASE(BRACKET | BIAS);
        CASE(BRACKET | GAIN | BIAS);
#undef CASE
    }
}

static void through_numbers(float a, float b, const Way *way, int64_t dim) {
    const float *grad = way->grad, *dskip = way->dskip, *restrict noise = way->noise;
    float *to_grad = way->to_grad, *to_dskip = way->to_dskip;
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) {
        const float d = grad[j];
        to_dskip[j] = dskip[j] + a * d;
        to_grad[j] = b * d * noise[j];
    }
}

static void add_product(float *restrict to, const float *restrict one, const float *restrict other, int64_t dim) {
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) to[j] += one[j] * other[j];
}

// The same through factors of which one at least is a vector: y is the row before the link.
static void through_vectors(
    const Step *step, const Link *link, const Vectors *own, const float *x, const float *y, const Way *way, float *sums
) {
    const int64_t dim = step->dim;
    const float *restrict of_x = own->of_x, *restrict of_y = own->of_y;
    const float *grad = way->grad, *dskip = way->dskip, *restrict noise = way->noise;
    float *to_grad = way->to_grad, *to_dskip = way->to_dskip;
    if (link->of_x_at >= 0) add_product(sums + link->of_x_at * dim, grad, x, dim);
    if (link->of_y_at >= 0) add_product(sums + link->of_y_at * dim, grad, y, dim);
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) {
        const float d = grad[j];
        to_dskip[j] = dskip[j] + of_x[j] * d;
        to_grad[j] = of_y[j] * d * noise[j];
    }
}

// The row before a link, for the gradient of the factor that it meets: N(v) of the link before, or noise * f.
static void row_before(
    const Step *step, int64_t k, const Vectors *vectors, const float *f, const float *restrict noise,
    const float *inputs, const float *moments, float *restrict y
) {
    const int64_t dim = step->dim;
    if (k > 0) {
        const float *v = inputs + (k - 1) * padded(dim);
        norm_of(step->link + k - 1, vectors + k - 1, v, y, moments[2 * k - 2], moments[2 * k - 1], dim);
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) y[j] = f[j] * noise[j];
}

// The rows v_1 ... of one row of f and x, (links, width), and each link's mean and inverse deviation.
static void recompute(
    const Step *step, const Vectors *vectors, const float *f, const float *noise, const float *x,
    const float *statistics, float *skip, float *inputs, float *moments
) {
    const int64_t dim = step->dim, width = padded(dim);
    first(step->link, vectors, f, noise, x, inputs, skip, dim);
    for (int64_t k = 0; k < step->links; k++) {
        const Link *link = step->link + k;
        const Vectors *own = vectors + k;
        float *v = inputs + k * width;
        moments[2 * k] = link->parts & NORM ? *statistics++ : 0;
        moments[2 * k + 1] = link->parts & NORM ? *statistics++ : 1;
        if (k + 1 == step->links) break;
        take_x(link + 1, own + 1, x, skip, dim);
        next(0, link, own, v, skip, v + width, moments[2 * k], moments[2 * k + 1], dim);
    }
}

// Rows of working memory of the backward.
enum { OF_GRAD, OF_F, OF_INPUT, OF_SKIP, OF_NOISE, OF_ONES, OF_ZEROS, OF_DSKIP, OF_BEFORE, ROWS };

// The gradients of the parameters, of these rows, are written to sums, (parameters, dim).
static void backward_rows(
    const Step *step, const Vectors *vectors, int type, const void *f, const void *x, const float *statistics,
    const void *dy, void *df, void *dx, float *sums, int64_t begin, int64_t end
) {
    const int64_t dim = step->dim, width = padded(dim), links = step->links;
    float *own = scratch(ROWS + links, dim), *inputs = own + ROWS * width;
    float *moments = working_floats(2 * links);
    float *noise = own + OF_NOISE * width;
    const float *ones = fill(own + OF_ONES * width, 1, dim), *zeros = fill(own + OF_ZEROS * width, 0, dim);
    float *dskip = own + OF_DSKIP * width, *y = own + OF_BEFORE * width;
    const float *f_row = 0, *x_row = 0;
    fill(noise, 1, dim);  // as it stays where nothing is dropped
    memset(sums, 0, (size_t)(step->parameters * dim) * sizeof(float));
    for (int64_t row = begin; row < end; row++) {
        if (step->threshold) draw_noise(noise, step, row);
        if (step->norms || step->parameters) {
            f_row = row_of(own + OF_F * width, f, type, row, dim);
            x_row = row_of(own + OF_INPUT * width, x, type, row, dim);
            const float *kept = statistics + 2 * row * step->norms;
            recompute(step, vectors, f_row, noise, x_row, kept, own + OF_SKIP * width, inputs, moments);
        }
        Way way = {row_of(own + OF_GRAD * width, dy, type, row, dim), zeros, ones, own + OF_GRAD * width, dskip};
        for (int64_t k = links - 1; k >= 0; k--) {
            const Link *link = step->link + k;
            const float *v = inputs + k * width;
            const int apart = has_vectors(link);
            if (apart && link->parts & NORM) {
                through_norm(step, link, vectors + k, v, moments + 2 * k, 0, 1, &way, sums);
                way.grad = way.to_grad, way.dskip = way.to_dskip;
            }
            if (k == 0) {
                way.noise = noise;
                if (type == FLOAT32) way.to_grad = (float *)df + row * dim, way.to_dskip = (float *)dx + row * dim;
            }
            if (apart) {
                if (link->of_y_at >= 0) row_before(step, k, vectors, f_row, noise, inputs, moments, y);
                through_vectors(step, link, vectors + k, x_row, y, &way, sums);
            } else if (link->parts & NORM)
                through_norm(step, link, vectors + k, v, moments + 2 * k, link->of_x, link->of_y, &way, sums);
            else through_numbers(link->of_x, link->of_y, &way, dim);
            way.grad = way.to_grad, way.dskip = way.to_dskip;
        }
        if (type == FLOAT32) continue;
        write_row(dx, way.to_dskip, type, row, dim);
        write_row(df, way.to_grad, type, row, dim);
    }
    free(moments);
    free(own);
}

void leave_forward(
    const Step *step, int type, const void *f, const void *x, void *y, float *statistics, int64_t threads
) {
    float *memory;
    Vectors *vectors = prepare(step, &memory);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        forward_rows(
            step, vectors, type, f, x, y, statistics, step->rows * t / threads, step->rows * (t + 1) / threads
        );
    free(vectors);
    free(memory);
}

void leave_backward(
    const Step *step, int type, const void *f, const void *x, const float *statistics, const void *dy, void *df,
    void *dx, float *sums, int64_t threads
) {
    const int64_t size = step->parameters * step->dim;
    float *memory;
    Vectors *vectors = prepare(step, &memory);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        backward_rows(
            step, vectors, type, f, x, statistics, dy, df, dx, sums + t * size, step->rows * t / threads,
            step->rows * (t + 1) / threads
        );
    free(vectors);
    free(memory);
    for (int64_t t = 1; t < threads; t++)
        for (int64_t j = 0; j < size; j++) sums[j] += sums[t * size + j];
}
