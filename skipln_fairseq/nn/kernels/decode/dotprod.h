// Arm's vectors of 128 bits, where they multiply 8-bit integers four at a time.

#include <arm_neon.h>

#define KIND "neon-dotprod"

enum { WIDTH = 4, ROWS = 8 };  // 16 sums and 8 numbers of rows in 32 registers

#include "lanes.h"

typedef int8_t Int8;
enum { SHIFT = 0, MOST = 127 };

static inline Ints load_int8s(const char *from) { return (Ints)vld1q_s8((const int8_t *)from); }

static inline Ints add_int8s(Ints sum, Word x, Ints w) {
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)w, vreinterpretq_s8_u32(vdupq_n_u32(x)));
}

static inline Floats load_halves(const char *from) {
    return (Floats)vshll_n_u16(vld1_u16((const uint16_t *)from), 16);
}
