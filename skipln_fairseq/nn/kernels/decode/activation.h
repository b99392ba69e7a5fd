// The feed-forward network's activation function, in place. ReLU is part of the product before it.

#include <math.h>
#include <stdint.h>

#include "tanh_erf.h"

enum { RELU, GELU, GELU_BY_TANH, TANH_ACTIVATION };

static void activate(int64_t kind, float *restrict h, int64_t size, int64_t threads) {
    if (kind == RELU) return;
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t j = 0; j < size; j++) {
        const float v = h[j];
        if (kind == GELU) h[j] = 0.5f * v * (1 + erf_of(v * 0.70710678f));
        else if (kind == GELU_BY_TANH) h[j] = 0.5f * v * (1 + tanh_of(0.79788456f * (v + 0.044715f * v * v * v)));
        else h[j] = tanh_of(v);
    }
}
