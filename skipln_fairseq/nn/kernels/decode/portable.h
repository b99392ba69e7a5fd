// Vectors of 128 bits, without a word that only one processor knows: Arm's NEON, or x86 without AVX2.

#define KIND "portable"

#ifdef __aarch64__
enum { WIDTH = 4, ROWS = 8 };  // 16 sums and 8 numbers of rows in 32 registers
#else
enum { WIDTH = 4, ROWS = 5 };  // 10 sums in 16 registers
#endif

#include "lanes.h"

typedef int32_t Int8;
enum { SHIFT = 0, MOST = 127 };

// Four bytes, the first the lowest, each moved to the top of a lane of its own and back with its sign: compilers widen
// such small vectors byte by byte.
static inline Ints load_int8s(const char *from) {
    Word four;
    memcpy(&four, from, sizeof four);
    return (Ints)(four * (Words){1 << 24, 1 << 16, 1 << 8, 1}) >> 24;
}

static inline Ints add_int8s(Ints sum, Word x, Ints w) { return sum + (int32_t)x * w; }

static inline Floats load_halves(const char *from) {
    Halves w;
    memcpy(&w, from, sizeof w);
    return (Floats)(__builtin_convertvector(w, Words) << 16);
}
