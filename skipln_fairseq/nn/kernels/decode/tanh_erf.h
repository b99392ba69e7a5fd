// tanh and erf, within 2e-7, which a compiler can compute for many x at once.

#pragma once

#include <math.h>

#include "../exponential.h"

static inline float tanh_of(float x) {
    const float e = exponential(-2 * fabsf(x));
    return copysignf((1 - e) / (1 + e), x);
}

// Abramowitz and Stegun 1964, 7.1.26.
static inline float erf_of(float x) {
    const float size = fabsf(x), t = 1 / (1 + 0.3275911f * size);
    const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    return copysignf(1 - p * exponential(-size * size), x);
}
