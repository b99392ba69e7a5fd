// Vectors of 512 bits. 8-bit integers are multiplied four at a time: by VNNI if there is one, else in two steps, with
// sums of two products in 16 bits. bfloat16 is multiplied by AVX512_BF16 if there is one.

#include <immintrin.h>

enum { WIDTH = 16, ROWS = 8 };  // 16 sums in 32 registers

#include "lanes.h"

typedef uint8_t Int8;
// Is added to a row's numbers, which must not be negative here; the sums begin with what takes it away again.
enum { SHIFT = 128 };

static inline Ints load_int8s(const char *from) { return (Ints)_mm512_loadu_si512(from); }

#ifdef __AVX512VNNI__
#define KIND "avx512-vnni"
enum { MOST = 127 };  // of an INT8 weight

static inline Ints add_int8s(Ints sum, Word x, Ints w) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32((int32_t)x), (__m512i)w);
}
#else
#define KIND "avx512"
enum { MOST = 64 };

static inline Ints add_int8s(Ints sum, Word x, Ints w) {
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi32((int32_t)x), (__m512i)w);
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#endif

#ifdef __AVX512BF16__
#define MULTIPLIES_HALVES

static inline Floats add_halves(Floats sum, float x, Floats w) {  // two halves each, whatever they are called
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(x), (__m512bh)w);
}

static inline Floats load_halves(const char *from) { return (Floats)_mm512_loadu_ps(from); }
#else
static inline Floats load_halves(const char *from) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
}
#endif
