// Numbers of tensors in one of two types.

#pragma once

#include <stdint.h>

#include "../bfloat16.h"

static inline float read_one(const void *from, int type, int64_t place) {
    return type == FLOAT32 ? ((const float *)from)[place] : to_float(((const uint16_t *)from)[place]);
}

static inline void write_one(void *to, int type, int64_t place, float value) {
    if (type == FLOAT32) ((float *)to)[place] = value;
    else ((uint16_t *)to)[place] = to_bfloat16(value);
}

// Of q, in float32, and as many numbers from the place on.
static inline float dot(const float *restrict q, const void *records, int type, int64_t at, int64_t dim) {
    const float *restrict floats = (const float *)records + at;
    const uint16_t *restrict halves = (const uint16_t *)records + at;
    float product = 0;
    if (type == FLOAT32) {
#pragma omp simd reduction(+ : product)
        for (int64_t j = 0; j < dim; j++) product += q[j] * floats[j];
    } else {
#pragma omp simd reduction(+ : product)
        for (int64_t j = 0; j < dim; j++) product += q[j] * to_float(halves[j]);
    }
    return product;
}
