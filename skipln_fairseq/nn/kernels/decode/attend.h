// Attention with one query a row. Keys and values are read from the records that earlier steps wrote, which are never
// copied. Arithmetic is float32 whatever the tensors hold.

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../working_memory.h"
#include "number.h"
#include "softmax.h"

typedef struct {
    int64_t rows, heads, dim, positions;  // dim: of a head
    int64_t query_stride, record_stride, key, value;  // in elements; key, value: where they begin in a record
    const void *const *records;  // of each position: its records, one a row of the step that made them
    const int32_t *table;        // (rows, positions): the record that a row attends to, below 0 none
    float scale;
} Memory;

enum { TOGETHER = 8 };  // rows: those of a sentence's beams attend to the same records, which are read once for all
enum { LINE = 64 };     // bytes that come from memory together

static inline void add_times(float *restrict sum, float weight, const void *records, int type, int64_t at, int64_t dim) {
    const float *restrict floats = (const float *)records + at;
    const uint16_t *restrict halves = (const uint16_t *)records + at;
    if (type == FLOAT32) {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) sum[j] += weight * floats[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) sum[j] += weight * to_float(halves[j]);
    }
}

static int attends(const int32_t *table, int64_t positions) {
    for (int64_t t = 0; t < positions; t++)
        if (table[t] >= 0) return 1;
    return 0;
}

// Ask for the keys or values that rows attend to at a position before they are needed: they lie anywhere in memory.
static inline void fetch(const Memory *m, int type, const int32_t *table, int64_t rows, int64_t t, int64_t part) {
    const int64_t size = type == FLOAT32 ? 4 : 2, bytes = m->heads * m->dim * size;
    for (int64_t row = 0; t < m->positions && row < rows; row++) {
        const int64_t record = table[row * m->positions + t];
        const char *from = (const char *)m->records[t] + (record * m->record_stride + part) * size;
        for (int64_t at = 0; record >= 0 && at < bytes; at += LINE) __builtin_prefetch(from + at);
    }
}

// out: (rows, heads dim); weights: (heads, rows, positions), or NULL where nobody asks for them.
static inline __attribute__((always_inline)) void attend_rows(
    const Memory *m, int type, const void *query, void *out, float *weights, int64_t first, int64_t last
) {
    const int64_t width = m->heads * m->dim, positions = m->positions, dim = m->dim, heads = m->heads;
    float *restrict queries = working_floats(TOGETHER * (2 * width + heads * positions));
    float *restrict sums = queries + TOGETHER * width, *restrict scores = sums + TOGETHER * width;
    for (int64_t start = first; start < last; start += TOGETHER) {
        const int64_t rows = last - start < TOGETHER ? last - start : TOGETHER;
        const int32_t *restrict table = m->table + start * positions;
        for (int64_t row = 0; row < rows; row++)
#pragma omp simd
            for (int64_t j = 0; j < width; j++) {
                queries[row * width + j] = read_one(query, type, (start + row) * m->query_stride + j) * m->scale;
                sums[row * width + j] = 0;
            }
        for (int64_t t = 0; t < positions; t++) {
            fetch(m, type, table, rows, t + 1, m->key);
            for (int64_t row = 0; row < rows; row++) {
                const int64_t record = table[row * positions + t];
                float *restrict score = scores + row * heads * positions + t;
                for (int64_t h = 0; h < heads; h++) {
                    const float *q = queries + row * width + h * dim;
                    const int64_t at = record * m->record_stride + m->key + h * dim;
                    score[h * positions] = record < 0 ? -INFINITY : dot(q, m->records[t], type, at, dim);
                }
            }
        }
        for (int64_t row = 0; row < rows; row++) {
            const int something = attends(table + row * positions, positions);
            for (int64_t h = 0; h < heads; h++) {
                float *score = scores + (row * heads + h) * positions;
                if (something) softmax(score, positions);
                else memset(score, 0, positions * sizeof(float));
                if (weights)
                    memcpy(weights + (h * m->rows + start + row) * positions, score, positions * sizeof(float));
            }
        }
        for (int64_t t = 0; t < positions; t++) {
            fetch(m, type, table, rows, t + 1, m->value);
            for (int64_t row = 0; row < rows; row++) {
                const int64_t record = table[row * positions + t];
                if (record < 0) continue;
                for (int64_t h = 0; h < heads; h++) {
                    const float weight = scores[(row * heads + h) * positions + t];
                    const int64_t at = record * m->record_stride + m->value + h * dim;
                    add_times(sums + row * width + h * dim, weight, m->records[t], type, at, dim);
                }
            }
        }
        for (int64_t row = 0; row < rows; row++)
#pragma omp simd
            for (int64_t j = 0; j < width; j++) write_one(out, type, (start + row) * width + j, sums[row * width + j]);
    }
    free(queries);
}

static void attend_all(const Memory *m, int type, const void *query, void *out, float *weights, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++) {
        const int64_t first = m->rows * t / threads, last = m->rows * (t + 1) / threads;
        if (type == FLOAT32)  // so that each type is compiled for itself
            attend_rows(m, FLOAT32, query, out, weights, first, last);
        else
            attend_rows(m, BFLOAT16, query, out, weights, first, last);
    }
}
