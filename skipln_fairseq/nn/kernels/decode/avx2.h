// Vectors of 256 bits. 8-bit integers are multiplied four at a time: by AVX-VNNI if there is one, else in two steps,
// with sums of two products in 16 bits.

#include <immintrin.h>

enum { WIDTH = 8, ROWS = 5 };  // 10 sums in 16 registers

#include "lanes.h"

typedef uint8_t Int8;
enum { SHIFT = 128 };  // see avx512.h

static inline Ints load_int8s(const char *from) { return (Ints)_mm256_loadu_si256((const __m256i *)from); }

#ifdef __AVXVNNI__
#define KIND "avx2-vnni"
enum { MOST = 127 };  // of an INT8 weight

static inline Ints add_int8s(Ints sum, Word x, Ints w) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, _mm256_set1_epi32((int32_t)x), (__m256i)w);
}
#else
#define KIND "avx2"
enum { MOST = 64 };

static inline Ints add_int8s(Ints sum, Word x, Ints w) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi32((int32_t)x), (__m256i)w);
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#endif

static inline Floats load_halves(const char *from) {
    return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16);
}
