// Vectors of 128 bits, without a word that only one processor knows: Arm's NEON, or x86 without AVX2.

#define KIND "portable"

#ifdef __aarch64__
enum { WIDTH = 4, ROWS = 12 };  // 24 sums in 32 registers
#else
enum { WIDTH = 4, ROWS = 5 };
#endif

#include "lanes.h"

typedef int32_t Eighth;
enum { SHIFT = 0 };

static inline Wholes load_eighths(const char *from) {
    Eighths w;
    memcpy(&w, from, sizeof w);
    return __builtin_convertvector(w, Wholes);
}

static inline Wholes add_eighths(Wholes sum, Word x, Wholes w) { return sum + (int32_t)x * w; }

static inline Floats load_halves(const char *from) {
    Halves w;
    memcpy(&w, from, sizeof w);
    return (Floats)(__builtin_convertvector(w, Words) << 16);
}
