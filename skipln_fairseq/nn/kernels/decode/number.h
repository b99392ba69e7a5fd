// Numbers of tensors in one of two types.

#pragma once

#include <stdint.h>
#include <string.h>

enum { FLOAT32, BFLOAT16 };

static inline float to_float(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float read_one(const void *from, int type, int64_t place) {
    return type == FLOAT32 ? ((const float *)from)[place] : to_float(((const uint16_t *)from)[place]);
}

static inline void write_one(void *to, int type, int64_t place, float value) {
    if (type == FLOAT32) {
        ((float *)to)[place] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;  // to the nearest, ties to even
    ((uint16_t *)to)[place] = (uint16_t)(value == value ? rounded : 0x7FC0);
}
