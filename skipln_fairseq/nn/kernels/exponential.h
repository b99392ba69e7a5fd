// e^x for x <= 0, within 2 units of the last place, 0 below the smallest normal number: 2^n times a polynomial, which
// a compiler can compute for many x at once, unlike expf.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float exponential(float x) {
    const float bounded = x < -87.0f ? -87.0f : x;
    const float n = rintf(bounded * 1.44269504f);
    const float r = fmaf(-n, 1.42860682e-6f, fmaf(-n, 0.693145752f, bounded));  // ln 2 in two parts
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : p * power;
}
