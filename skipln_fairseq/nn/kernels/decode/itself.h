// Attention of all words of a sentence to all words of the sentence, head by head: two small matrix products with a
// softmax between them.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "softmax.h"

enum { LANES = 16 };  // columns that are computed together

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// rows that are computed together: as many sums as there are registers for, or fewer
#ifdef __AVX512F__
enum { QUERIES = 8 };
#else
enum { QUERIES = 4 };
#endif

static inline int64_t whole_lanes(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

// c (QUERIES, columns) = a (QUERIES, size) b (size, columns); columns, which are whole lanes, are b's and c's strides.
static void small_product(
    const float *restrict a, int64_t stride, const float *restrict b, float *restrict c, int64_t size, int64_t columns
) {
    for (int64_t j = 0; j < columns; j += LANES) {
        Lanes sum[QUERIES] = {0};
        for (int64_t k = 0; k < size; k++) {
            const Lanes those = *(const Lanes *)(b + k * columns + j);
            for (int q = 0; q < QUERIES; q++) sum[q] += a[q * stride + k] * those;
        }
        for (int q = 0; q < QUERIES; q++) *(Lanes *)(c + q * columns + j) = sum[q];
    }
}

static int64_t size_of_head(int64_t longest, int64_t dim) {  // in floats
    const int64_t positions = whole_lanes(longest), wide = whole_lanes(dim);
    return dim * positions + longest * wide + QUERIES * (dim + positions + wide);
}

// One head of one sentence: its queries, `width` further on its keys, and as far again its values. The result stands in
// the place of the queries.
static void attend_head(float *joined, int64_t width, int64_t words, int64_t dim, float *space) {
    const int64_t positions = whole_lanes(words), wide = whole_lanes(dim), stride = 3 * width;
    float *restrict keys = space, *restrict values = keys + dim * positions, *queries = values + words * wide;
    float *scores = queries + QUERIES * dim, *sums = scores + QUERIES * positions;
    const float scale = 1 / sqrtf(dim);
    for (int64_t t = 0; t < words; t++) {
        const float *key = joined + t * stride + width, *value = key + width;
        for (int64_t j = 0; j < dim; j++) keys[j * positions + t] = key[j] * scale;
        memcpy(values + t * wide, value, dim * sizeof(float));
        memset(values + t * wide + dim, 0, (wide - dim) * sizeof(float));
    }
    for (int64_t j = 0; j < dim; j++)
        memset(keys + j * positions + words, 0, (positions - words) * sizeof(float));
    for (int64_t first = 0; first < words; first += QUERIES) {
        const int64_t rows = words - first < QUERIES ? words - first : QUERIES;
        for (int64_t q = 0; q < QUERIES; q++)  // the last one again where there are no more
            memcpy(queries + q * dim, joined + (first + (q < rows ? q : rows - 1)) * stride, dim * sizeof(float));
        small_product(queries, dim, keys, scores, dim, positions);
        for (int64_t q = 0; q < rows; q++) softmax(scores + q * positions, words);
        small_product(scores, positions, values, sums, words, wide);
        for (int64_t q = 0; q < rows; q++)
            memcpy(joined + (first + q) * stride, sums + q * wide, dim * sizeof(float));
    }
}

// joined: (rows, 3, heads dim): queries, keys and values; the result stands in the place of the queries.
static void attend_to_itself(
    float *joined, const int64_t *first, int64_t sentences, int64_t longest, int64_t heads, int64_t dim, int64_t threads
) {
    const int64_t width = heads * dim;
#pragma omp parallel num_threads(threads)
    {
        float *space = malloc((size_t)size_of_head(longest, dim) * sizeof(float));
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < sentences * heads; unit++) {
            const int64_t sentence = unit / heads, h = unit % heads;
            float *from = joined + first[sentence] * 3 * width + h * dim;
            attend_head(from, width, first[sentence + 1] - first[sentence], dim, space);
        }
        free(space);
    }
}
