// Rows of features, read as float32 and written as what the tensors hold.

#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bfloat16.h"
#include "working_memory.h"

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

static int64_t padded(int64_t dim) { return (dim + 15) / 16 * 16; }  // to whole cache lines

static float *scratch(int64_t rows, int64_t dim) {
    return working_floats(rows * padded(dim));
}

static const float *fill(float *row, float value, int64_t dim) {
    for (int64_t j = 0; j < dim; j++) row[j] = value;
    return row;
}
