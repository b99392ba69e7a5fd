// The types of tensors, and bfloat16: the upper half of a float32 number.

#pragma once

#include <stdint.h>
#include <string.h>

enum { FLOAT32, BFLOAT16 };  // as types.py numbers them

static inline float to_float(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bfloat16(float value) {  // to the nearest, ties to even; a NaN stays one
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(value == value ? rounded : 0x7FC0);
}
