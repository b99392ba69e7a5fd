// 1 / sqrt(variance + eps), and no number where the variance is none or infinite: 0 would make a norm's output its bias,
// and an overflow must stay visible.

#include <math.h>

static inline float inverse_deviation(float variance, float eps) {
    return variance < INFINITY ? 1 / sqrtf(variance + eps) : NAN;
}
