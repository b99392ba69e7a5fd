// A leave-step's links, and a row on its way through them.

#include <stdint.h>
#include <stdlib.h>

#include "../row.h"

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

static const float *vector(const Step *step, int32_t at) { return at < 0 ? 0 : step->table + at * step->dim; }

// What the rows of a step are computed with, of one link: its vectors, and rows of one number in the place of others.
typedef struct {
    const float *gain, *bias, *of_x, *of_y;
} Vectors;

static int has_vectors(const Link *link) { return link->of_x_at >= 0 || link->of_y_at >= 0; }

// For each link; what holds the rows of one number comes first, and is to be freed.
static Vectors *prepare(const Step *step, float **memory) {
    const int64_t dim = step->dim, width = padded(dim);
    Vectors *found = working_memory((size_t)step->links * sizeof(Vectors));
    float *row = *memory = scratch(2 + 2 * step->links, dim);
    const float *ones = fill(row, 1, dim), *zeros = fill(row + width, 0, dim);
    for (int64_t k = 0; k < step->links; k++) {
        const Link *link = step->link + k;
        Vectors *own = found + k;
        row += 2 * width;
        own->gain = link->gain_at < 0 ? ones : vector(step, link->gain_at);
        own->bias = link->bias_at < 0 ? zeros : vector(step, link->bias_at);
        own->of_x = link->of_x_at < 0 ? fill(row, link->of_x, dim) : vector(step, link->of_x_at);
        own->of_y = link->of_y_at < 0 ? fill(row + width, link->of_y, dim) : vector(step, link->of_y_at);
    }
    return found;
}

// v_1 = a * x + b * noise * f and a * x; returns the sum of v_1
static float first(
    const Link *link, const Vectors *own, const float *restrict f, const float *restrict noise,
    const float *restrict x, float *restrict v, float *restrict skip, int64_t dim
) {
    const float a = link->of_x, b = link->of_y;
    const float *restrict of_x = own->of_x, *restrict of_y = own->of_y;
    float sum = 0;
    if (has_vectors(link)) {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) {
            skip[j] = of_x[j] * x[j];
            v[j] = f[j] * noise[j] * of_y[j] + skip[j];
            sum += v[j];
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) {
            skip[j] = a * x[j];
            v[j] = f[j] * noise[j] * b + skip[j];
            sum += v[j];
        }
    }
    return sum;
}

// a * x of a link after the first, in skip: where it is already if the link before has the same number
static void take_x(const Link *link, const Vectors *own, const float *restrict x, float *restrict skip, int64_t dim) {
    const float *restrict of_x = own->of_x;
    if (link->of_x_at < 0 && link[-1].of_x_at < 0 && link->of_x == link[-1].of_x) return;
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) skip[j] = of_x[j] * x[j];
}

#define NORMED(n) ((bracket ? scale * (1 - slope * (n)) * (n) : (n)) * gain[j] + bias[j])

// v_{k+1} = b * N(v) + skip of v_k, which may be the same row, and its sum if that is asked for
static inline __attribute__((always_inline)) float next_of(
    const int summed, const int bracket, const int vectors, const Link *link, const Vectors *own, const float *v,
    const float *restrict skip, float *to, float mean, float rstd, int64_t dim
) {
    const float *restrict gain = own->gain, *restrict bias = own->bias, *restrict of_y = own[1].of_y;
    const float scale = link->scale, slope = link->slope, b = link[1].of_y;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) {
        const float n = (v[j] - mean) * rstd;
        to[j] = NORMED(n) * (vectors ? of_y[j] : b) + skip[j];
        if (summed) sum += to[j];
    }
    return sum;
}

static inline __attribute__((always_inline)) float next(
    const int summed, const Link *link, const Vectors *own, const float *v, const float *skip, float *to, float mean,
    float rstd, int64_t dim
) {
    const int bracket = link->parts & BRACKET, vectors = link[1].of_y_at >= 0;
    if (bracket || vectors) {
        if (!bracket) return next_of(summed, 0, 1, link, own, v, skip, to, mean, rstd, dim);
        if (!vectors) return next_of(summed, 1, 0, link, own, v, skip, to, mean, rstd, dim);
        return next_of(summed, 1, 1, link, own, v, skip, to, mean, rstd, dim);
    }
    return next_of(summed, 0, 0, link, own, v, skip, to, mean, rstd, dim);
}

// N(v)
static void norm_of(
    const Link *link, const Vectors *own, const float *v, float *restrict to, float mean, float rstd, int64_t dim
) {
    const float *restrict gain = own->gain, *restrict bias = own->bias;
    const float scale = link->scale, slope = link->slope;
    if (link->parts & BRACKET) {
        const int bracket = 1;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) {
            const float n = (v[j] - mean) * rstd;
            to[j] = NORMED(n);
        }
    } else {
        const int bracket = 0;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) {
            const float n = (v[j] - mean) * rstd;
            to[j] = NORMED(n);
        }
    }
}
