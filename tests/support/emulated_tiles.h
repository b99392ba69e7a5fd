// A processor's matrix tiles in plain C, so that what needs them is tested where there are none.

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release

typedef union {
    uint8_t bytes[16][64];
    uint16_t halves[16][32];
    int8_t int8s[16][64];
    float sums[16][16];
    int32_t ints[16][16];
} Tile;

static __thread Tile tile[8];

static inline float widened(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void load_tile(int t, const void *from, int64_t stride) {
    for (int row = 0; row < 16; row++) memcpy(tile[t].bytes[row], (const char *)from + row * stride, 64);
}

static void store_tile(int t, void *to, int64_t stride) {
    for (int row = 0; row < 16; row++) memcpy((char *)to + row * stride, tile[t].bytes[row], 64);
}

static void dot_halves(int to, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 32; k++)
            for (int n = 0; n < 16; n++)
                tile[to].sums[m][n] += widened(tile[a].halves[m][k]) * widened(tile[b].halves[k / 2][2 * n + k % 2]);
}

static void dot_int8s(int to, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 64; k++)
            for (int n = 0; n < 16; n++)
                tile[to].ints[m][n] += tile[a].int8s[m][k] * tile[b].int8s[k / 4][4 * n + k % 4];
}

#define _tile_zero(t) memset(&tile[t], 0, sizeof tile[t])
#define _tile_loadd(t, from, stride) load_tile(t, from, stride)
#define _tile_stored(t, to, stride) store_tile(t, to, stride)
#define _tile_dpbf16ps(to, a, b) dot_halves(to, a, b)
#define _tile_dpbssd(to, a, b) dot_int8s(to, a, b)
#define _tile_loadconfig(from) (void)(from)
#define _tile_storeconfig(to) memset(to, 0, 64)
#define _tile_release() (void)0
#define __AMX_BF16__ 1
#define __AMX_INT8__ 1
