// Attention to the words of a sentence, head by head: two small matrix products with a softmax between them.

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../working_memory.h"
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

// c = a b, b (size, columns) of whole lanes of columns; a and c have QUERIES rows, wherever each is.
static inline void small_product(
    const float *const *a, const float *restrict b, float *const *c, int64_t size, int64_t columns
) {
    for (int64_t j = 0; j < columns; j += LANES) {
        Lanes sum[QUERIES] = {0};
        for (int64_t k = 0; k < size; k++) {
            const Lanes those = *(const Lanes *)(b + k * columns + j);
            for (int q = 0; q < QUERIES; q++) sum[q] += a[q][k] * those;
        }
        for (int q = 0; q < QUERIES; q++) *(Lanes *)(c[q] + j) = sum[q];
    }
}

// Keys and values of a head as the products want them: (dim, whole lanes of words) and (words, whole lanes of dim).
static int64_t size_of_head(int64_t words, int64_t dim) {  // in floats
    return dim * whole_lanes(words) + words * whole_lanes(dim);
}

static int64_t size_of_block(int64_t words, int64_t dim) {  // of what attend_block writes to, in floats
    return QUERIES * (whole_lanes(words) + whole_lanes(dim));
}

// key, value: of the first word, those of the next one `stride` further. What fills the last lanes up is multiplied too:
// nothing reads what comes of it, but numbers below the smallest normal one would make that slow.
static void arrange_head(
    const float *key, const float *value, int64_t stride, float *restrict keys, int64_t words, int64_t dim
) {
    const int64_t positions = whole_lanes(words), wide = whole_lanes(dim);
    float *restrict values = keys + dim * positions;
    const float scale = 1 / sqrtf(dim);
    for (int64_t j = 0; j < dim; j++)
        memset(keys + j * positions + words, 0, (positions - words) * sizeof(float));
    for (int64_t t = 0; t < words; t++, key += stride, value += stride) {
        for (int64_t j = 0; j < dim; j++) keys[j * positions + t] = key[j] * scale;
        memcpy(values + t * wide, value, dim * sizeof(float));
        memset(values + t * wide + dim, 0, (wide - dim) * sizeof(float));
    }
}

// Of up to QUERIES rows. query, out: of the first row, the next one `stride` and `out_stride` further; out may be where
// the queries are. weights: (rows, weights_stride), or NULL.
static void attend_block(
    const float *keys, const float *query, int64_t stride, float *out, int64_t out_stride, float *weights,
    int64_t weights_stride, int64_t rows, int64_t words, int64_t dim, float *space
) {
    const int64_t positions = whole_lanes(words), wide = whole_lanes(dim);
    float *scores = space, *sums = scores + QUERIES * positions;
    const float *from[QUERIES];
    float *score[QUERIES], *sum[QUERIES];
    for (int64_t q = 0; q < QUERIES; q++) {  // the last one again where there are no more
        from[q] = query + (q < rows ? q : rows - 1) * stride;
        score[q] = scores + q * positions;
        sum[q] = sums + q * wide;
    }
    small_product(from, keys, score, dim, positions);
    for (int64_t q = 0; q < rows; q++) {
        softmax(score[q], words);
        if (weights) memcpy(weights + q * weights_stride, score[q], words * sizeof(float));
    }
    for (int64_t q = 0; q < rows && dim == wide; q++) sum[q] = out + q * out_stride;
    small_product((const float *const *)score, keys + dim * positions, sum, words, wide);
    for (int64_t q = 0; q < rows && dim < wide; q++) memcpy(out + q * out_stride, sum[q], dim * sizeof(float));
}

// All words of a sentence to all words of the sentence. joined: (rows, 3, heads dim): queries, keys and values; the
// result stands in the place of the queries.
static void attend_to_itself(
    float *joined, const int64_t *first, int64_t sentences, int64_t longest, int64_t heads, int64_t dim, int64_t threads
) {
    const int64_t width = heads * dim, stride = 3 * width;
#pragma omp parallel num_threads(threads)
    {
        float *keys = working_floats(size_of_head(longest, dim) + size_of_block(longest, dim));
        float *space = keys + size_of_head(longest, dim);
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < sentences * heads; unit++) {
            const int64_t sentence = unit / heads, words = first[sentence + 1] - first[sentence];
            float *query = joined + first[sentence] * stride + unit % heads * dim;
            arrange_head(query + width, query + 2 * width, stride, keys, words, dim);
            for (int64_t row = 0; row < words; row += QUERIES, query += QUERIES * stride) {
                const int64_t rows = words - row < QUERIES ? words - row : QUERIES;
                attend_block(keys, query, stride, query, stride, NULL, 0, rows, words, dim, space);
            }
        }
        free(keys);
    }
}

// Keys and values of sentences for several layers: of each layer, sentence and head what arrange_head writes.
typedef struct {
    int64_t layers, heads, dim, longest, size;  // dim: of a head; size: of a layer, in floats
    const int64_t *first;  // (sentences + 1): the row of each sentence's first word
    int64_t *at;           // (sentences + 1): where it begins in a layer
    float *arranged;
} Memories;

// joined: (rows, layers, 2, heads dim): keys and values.
static void arrange(const Memories *m, const float *joined, int64_t sentences, int64_t threads) {
    const int64_t width = m->heads * m->dim, stride = 2 * width * m->layers;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t sentence = 0; sentence < sentences; sentence++) {
        const int64_t words = m->first[sentence + 1] - m->first[sentence];
        for (int64_t part = 0; part < m->layers * m->heads; part++) {
            const int64_t layer = part / m->heads, h = part % m->heads;
            const float *key = joined + m->first[sentence] * stride + 2 * width * layer + h * m->dim;
            float *to = m->arranged + layer * m->size + m->at[sentence] + h * size_of_head(words, m->dim);
            arrange_head(key, key + width, stride, to, words, m->dim);
        }
    }
}

// Each sentence has the same number of rows, which attend to its words. query, out: (sentences rows, heads dim);
// weights: (heads, sentences rows, longest), or NULL.
static void attend_to_sentences(
    const Memories *m, int64_t layer, const int64_t *sentence, int64_t sentences, int64_t rows, const float *query,
    float *out, float *weights, int64_t threads
) {
    const int64_t width = m->heads * m->dim, all = sentences * rows;
    if (weights) memset(weights, 0, (size_t)(m->heads * all * m->longest) * sizeof(float));
    memset(out, 0, (size_t)(all * width) * sizeof(float));  // where there is nothing to attend to
#pragma omp parallel num_threads(threads)
    {
        float *space = working_floats(size_of_block(m->longest, m->dim));
#pragma omp for schedule(static)
        for (int64_t place = 0; place < sentences; place++) {
            const int64_t words = m->first[sentence[place] + 1] - m->first[sentence[place]];
            const float *keys = m->arranged + layer * m->size + m->at[sentence[place]];
            for (int64_t h = 0; words && h < m->heads; h++, keys += size_of_head(words, m->dim))
                for (int64_t row = 0; row < rows; row += QUERIES) {
                    const int64_t at = place * rows + row, some = rows - row < QUERIES ? rows - row : QUERIES;
                    attend_block(
                        keys, query + at * width + h * m->dim, width, out + at * width + h * m->dim, width,
                        weights ? weights + (h * all + at) * m->longest : NULL, m->longest, some, words, m->dim, space
                    );
                }
        }
        free(space);
    }
}
