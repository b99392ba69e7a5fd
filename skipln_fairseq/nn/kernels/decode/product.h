// Matrix products of float32 rows, y = x W' + b, with weights that are packed once, in the order in which they are read.
//
// FP32: of float32 numbers. BF16: of bfloat16 ones, summed in float32. INT8: of 8-bit integers, times a scale for each
// row of x and each output; their sums are exact. They go from -127 to 127, but weights from -64 to 64 where a
// processor adds up two products in 16 bits: these hold 2 * 255 * 64.
//
// Two ways: the processor's matrix tiles, or its vectors. Each has packed_size, pack_weight, scratch_size and multiply.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../bfloat16.h"

enum { INT8, BF16, FP32 };

typedef struct {
    int64_t inputs, outputs, form;
    int64_t rectified;    // whether negative outputs become zero
    const void *packed;   // packed_size bytes
    const float *scales;  // (outputs), of INT8
    const float *bias;    // (outputs), or NULL
} Product;

static inline int64_t blocks(int64_t size, int64_t of) { return (size + of - 1) / of; }

static inline int8_t int8_of(float value, float inverse_scale) { return (int8_t)lrintf(value * inverse_scale); }

// The scale by which the largest magnitude becomes `to`. Magnitudes are compared as integers, by their bits: so a NaN
// is the largest, and is kept.
static float scale_of(const float *x, int64_t size, float to) {
    int32_t largest = 0x00800000;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < size; j++) {
        int32_t bits;
        memcpy(&bits, x + j, sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float magnitude;
    memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude / to;
}

// The system has to let a program use the tiles, so who compiles says whether it does.
#if defined(TILES) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
#include "tiles.h"
#else
#include "vectors.h"
#endif
