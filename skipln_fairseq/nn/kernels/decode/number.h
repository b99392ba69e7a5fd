// Numbers of tensors in one of two types.

#pragma once

#include <stdint.h>

#include "../bfloat16.h"

enum { FLOAT32, BFLOAT16 };

static inline float read_one(const void *from, int type, int64_t place) {
    return type == FLOAT32 ? ((const float *)from)[place] : to_float(((const uint16_t *)from)[place]);
}

static inline void write_one(void *to, int type, int64_t place, float value) {
    if (type == FLOAT32) ((float *)to)[place] = value;
    else ((uint16_t *)to)[place] = to_bfloat16(value);
}
