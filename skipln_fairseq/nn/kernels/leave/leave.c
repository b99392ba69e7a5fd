// The leave-step of a sub-layer, forward and backward, one row of features at a time.
//
//     y_0 = noise * f;   v_k = a_k * x + b_k * y_{k-1};   y_k = N_k(v_k);   k = 1 ... links
//
// with N_k a norm: n = (v - mean) * rstd, and w * n + bias or C * (1 - slope * n) * n of it; or nothing at all.
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

// as chain.py numbers them
enum { NORM = 1, CENTRED = 2, MEAN = 4, DEVIATION = 8, BRACKET = 16, GAIN = 32, BIAS = 64, OF_X = 128, OF_Y = 256 };

typedef struct {
    int32_t parts;
    int32_t of_x_at, of_y_at, gain_at, bias_at;  // rows of the table; -1: the link has no such vector
    float of_x, of_y, eps, scale, slope;
} Link;

typedef struct {
    int64_t rows, dim, links, norms, parameters;
    float keep;          // the factor of what is not dropped
    uint32_t threshold;  // a random word below it drops its element
    uint64_t seed;
    const Link *link;
    const float *table;  // (parameters, dim)
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

// the row itself, or what it is in float32
static const float *row_of(float *buffer, const void *from, int type, int64_t row, int64_t dim) {
    if (type == FLOAT32) return (const float *)from + row * dim;
    read_row(buffer, from, type, row, dim);
    return buffer;
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

static const float *vector(const Step *step, int32_t at) { return at < 0 ? 0 : step->table + at * step->dim; }

// What stands between n_k and v_{k+1} = factor * n_k + shift + a_{k+1} * x, where N_k has no bracket: two rows a link.
static float *prepare(const Step *step) {
    const int64_t dim = step->dim, width = padded(dim);
    float *rows = scratch(2 * step->links + 1, dim);
    for (int64_t k = 0; k < step->links; k++) {
        const Link *link = step->link + k, *next = k + 1 < step->links ? link + 1 : 0;
        const float *gain = vector(step, link->gain_at), *bias = vector(step, link->bias_at);
        const float *of_y = next ? vector(step, next->of_y_at) : 0;
        float *factor = rows + 2 * k * width, *shift = factor + width;
        for (int64_t j = 0; j < dim; j++) {
            const float by = !next ? 1.0f : of_y ? of_y[j] : next->of_y;
            factor[j] = gain ? by * gain[j] : by;
            shift[j] = bias ? by * bias[j] : 0.0f;
        }
    }
    return rows;
}

// a * x of a link, into skip: which has it already where the link before has the same number.
static void take_x(const Step *step, int64_t k, const float *restrict x, float *restrict skip) {
    const Link *link = step->link + k;
    const float *restrict vectors = vector(step, link->of_x_at);
    const float number = link->of_x;
    const int64_t dim = step->dim;
    if (vectors) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) skip[j] = vectors[j] * x[j];
    } else if (k == 0 || link[-1].of_x_at >= 0 || link[-1].of_x != number) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) skip[j] = number * x[j];
    }
}

// v_1 of y_0, and its sum
static float first_sum(const Step *step, const float *restrict skip, float *restrict v) {
    const Link *link = step->link;
    const float *restrict vectors = vector(step, link->of_y_at);
    const float number = link->of_y;
    const int64_t dim = step->dim;
    float sum = 0;
    if (vectors) times(v, vectors, dim);
    else if (number != 1.0f) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] *= number;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) {
        v[j] += skip[j];
        sum += v[j];
    }
    return sum;
}

// b * N(v) + skip, and its sum: v_{k+1} of v_k, which may be the same row
static float next_sum(
    const Link *link, const float *restrict factor, const float *v, const float *restrict skip, float *next,
    float mean, float rstd, int64_t dim
) {
    const float *restrict shift = factor + padded(dim);
    float sum = 0;
    if (link->parts & BRACKET) {
        const float scale = link->scale, slope = link->slope;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) {
            const float n = (v[j] - mean) * rstd;
            next[j] = scale * (1 - slope * n) * n * factor[j] + shift[j] + skip[j];
            sum += next[j];
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) {
            next[j] = (v[j] - mean) * rstd * factor[j] + shift[j] + skip[j];
            sum += next[j];
        }
    }
    return sum;
}

static void last_norm(
    const Link *link, const float *restrict factor, float *restrict v, float mean, float rstd, int64_t dim
) {
    const float *restrict shift = factor + padded(dim);
    if (link->parts & BRACKET) {
        const float scale = link->scale, slope = link->slope;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) {
            const float n = (v[j] - mean) * rstd;
            v[j] = scale * (1 - slope * n) * n;
        }
    } else {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) v[j] = (v[j] - mean) * rstd * factor[j] + shift[j];
    }
}

static void forward_rows(
    const Step *step, const float *factors, int type, const void *f, const void *x, void *y, float *statistics,
    int64_t first, int64_t last
) {
    const int64_t dim = step->dim, width = padded(dim);
    float *restrict out = scratch(4, dim), *restrict halves = out + width, *restrict skip = halves + width;
    float *restrict noise = skip + width;
    statistics += 2 * first * step->norms;
    for (int64_t row = first; row < last; row++) {
        read_row(out, f, type, row, dim);
        const float *in = row_of(halves, x, type, row, dim);
        if (step->threshold) {
            draw_noise(noise, step, row);
            times(out, noise, dim);
        }
        take_x(step, 0, in, skip);
        float sum = first_sum(step, skip, out);
        for (int64_t k = 0; k < step->links; k++) {
            const Link *link = step->link + k;
            const float *restrict factor = factors + 2 * k * width;
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
                take_x(step, k + 1, in, skip);
                sum = next_sum(link, factor, out, skip, out, mean, rstd, dim);
            } else if (link->parts & NORM) last_norm(link, factor, out, mean, rstd, dim);
        }
        write_row(y, out, type, row, dim);
    }
    free(out);
}

// The gradient d of v of that of N(v), in its place, and what it is for x and y: dskip += a * d and grad = b * d.
static inline __attribute__((always_inline)) void through(
    const int what, const Link *link, const float *restrict gain, const float *restrict v, float mean, float rstd,
    float a, float b, float *restrict grad, float *restrict dskip, float *restrict dgain, float *restrict dbias,
    int64_t dim
) {
    const float scale = link->scale, slope = link->slope;
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
        dskip[j] += a * d;
        grad[j] = b * d;
    }
#undef INNER
}

static void through_norm(
    const Step *step, const Link *link, const float *v, float mean, float rstd, float a, float b, float *grad,
    float *dskip, float *sums
) {
    const float *gain = vector(step, link->gain_at);
    float *dgain = sums + link->gain_at * step->dim, *dbias = sums + link->bias_at * step->dim;
    switch (link->parts & (BRACKET | GAIN | BIAS)) {
#define CASE(what)                                                                                \
    case what:                                                                                    \
        through(what, link, gain, v, mean, rstd, a, b, grad, dskip, dgain, dbias, step->dim); \
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

static void through_numbers(float a, float b, float *restrict grad, float *restrict dskip, int64_t dim) {
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) {
        dskip[j] += a * grad[j];
        grad[j] *= b;
    }
}

static void add_product(float *restrict to, const float *restrict one, const float *restrict other, int64_t dim) {
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) to[j] += one[j] * other[j];
}

// The same through factors of which one at least is a vector: y is the row before the link.
static void through_vectors(
    const Step *step, const Link *link, const float *x, const float *y, float *restrict grad, float *restrict dskip,
    float *sums
) {
    const int64_t dim = step->dim;
    const float *restrict of_x = vector(step, link->of_x_at), *restrict of_y = vector(step, link->of_y_at);
    if (of_x) add_product(sums + link->of_x_at * dim, grad, x, dim);
    if (of_y) add_product(sums + link->of_y_at * dim, grad, y, dim);
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) {
        dskip[j] += (of_x ? of_x[j] : link->of_x) * grad[j];
        grad[j] *= of_y ? of_y[j] : link->of_y;
    }
}

// N(v) of a link, for the gradient of the factor that it meets
static void output(const Step *step, const Link *link, const float *v, float mean, float rstd, float *restrict y) {
    const float *restrict gain = vector(step, link->gain_at), *restrict bias = vector(step, link->bias_at);
    const float slope = link->parts & BRACKET ? link->slope : 0, scale = link->parts & BRACKET ? link->scale : 1;
#pragma omp simd
    for (int64_t j = 0; j < step->dim; j++) {
        const float n = (v[j] - mean) * rstd;
        y[j] = scale * (1 - slope * n) * n * (gain ? gain[j] : 1.0f) + (bias ? bias[j] : 0.0f);
    }
}

// The rows v_1 ... of one row of f and x, (links, width), and each link's mean and inverse deviation.
static void again(
    const Step *step, const float *factors, const float *x, const float *statistics, float *skip, float *inputs,
    float *moments
) {
    const int64_t dim = step->dim, width = padded(dim);
    take_x(step, 0, x, skip);
    first_sum(step, skip, inputs);
    for (int64_t k = 0; k < step->links; k++) {
        const Link *link = step->link + k;
        float *own = inputs + k * width;
        moments[2 * k] = link->parts & NORM ? *statistics++ : 0;
        moments[2 * k + 1] = link->parts & NORM ? *statistics++ : 1;
        if (k + 1 == step->links) break;
        take_x(step, k + 1, x, skip);
        next_sum(link, factors + 2 * k * width, own, skip, own + width, moments[2 * k], moments[2 * k + 1], dim);
    }
}

// The gradients of the parameters, of these rows, are written to sums, (parameters, dim).
static void backward_rows(
    const Step *step, const float *factors, int type, const void *f, const void *x, const float *statistics,
    const void *dy, void *df, void *dx, float *restrict sums, int64_t first, int64_t last
) {
    const int64_t dim = step->dim, width = padded(dim), links = step->links;
    float *grad = scratch(7 + links, dim), *halves = grad + width, *skip = halves + width, *noise = skip + width;
    float *dskip = noise + width, *y = dskip + width, *start = y + width, *inputs = start + width;
    float *moments = malloc((size_t)(2 * links) * sizeof(float));
    const int reads = step->norms || step->parameters;
    memset(sums, 0, (size_t)(step->parameters * dim) * sizeof(float));
    for (int64_t row = first; row < last; row++) {
        const float *in = 0;
        read_row(grad, dy, type, row, dim);
        if (step->threshold) draw_noise(noise, step, row);
        if (reads) {
            in = row_of(halves, x, type, row, dim);
            read_row(inputs, f, type, row, dim);
            if (step->threshold) times(inputs, noise, dim);
            if (step->link->of_y_at >= 0) memcpy(start, inputs, dim * sizeof(float));
            again(step, factors, in, statistics + 2 * row * step->norms, skip, inputs, moments);
        }
        memset(dskip, 0, dim * sizeof(float));
        for (int64_t k = links - 1; k >= 0; k--) {
            const Link *link = step->link + k;
            const int vectors = link->of_x_at >= 0 || link->of_y_at >= 0;
            const float a = vectors ? 0 : link->of_x, b = vectors ? 1 : link->of_y;
            const float *v = inputs + k * width, *before = start;
            if (link->parts & NORM)
                through_norm(step, link, v, moments[2 * k], moments[2 * k + 1], a, b, grad, dskip, sums);
            else if (!vectors) through_numbers(a, b, grad, dskip, dim);
            if (!vectors) continue;
            if (k > 0 && link->of_y_at >= 0) {
                output(step, link - 1, v - width, moments[2 * k - 2], moments[2 * k - 1], y);
                before = y;
            }
            through_vectors(step, link, in, before, grad, dskip, sums);
        }
        write_row(dx, dskip, type, row, dim);
        if (step->threshold) times(grad, noise, dim);
        write_row(df, grad, type, row, dim);
    }
    free(moments);
    free(grad);
}

void leave_forward(
    const Step *step, int type, const void *f, const void *x, void *y, float *statistics, int64_t threads
) {
    float *factors = prepare(step);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        forward_rows(
            step, factors, type, f, x, y, statistics, step->rows * t / threads, step->rows * (t + 1) / threads
        );
    free(factors);
}

void leave_backward(
    const Step *step, int type, const void *f, const void *x, const float *statistics, const void *dy, void *df,
    void *dx, float *sums, int64_t threads
) {
    const int64_t size = step->parameters * step->dim;
    float *factors = prepare(step);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        backward_rows(
            step, factors, type, f, x, statistics, dy, df, dx, sums + t * size, step->rows * t / threads,
            step->rows * (t + 1) / threads
        );
    free(factors);
    for (int64_t t = 1; t < threads; t++)
        for (int64_t j = 0; j < size; j++) sums[j] += sums[t * size + j];
}
