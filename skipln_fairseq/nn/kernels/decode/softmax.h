#pragma once

#include <math.h>
#include <stdint.h>

#include "../exponential.h"

// Of scores that are not numbers, or all infinite, none becomes a number.
static void softmax(float *restrict score, int64_t size) {
    float largest = -INFINITY, total = 0;
    for (int64_t t = 0; t < size; t++) largest = score[t] > largest ? score[t] : largest;
#pragma omp simd reduction(+ : total)
    for (int64_t t = 0; t < size; t++) {
        score[t] = exponential(score[t] - largest);
        total += score[t];
    }
    const float factor = 1 / total;
    for (int64_t t = 0; t < size; t++) score[t] *= factor;
}
