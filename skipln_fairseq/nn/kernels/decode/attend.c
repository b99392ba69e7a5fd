#include "attend.h"

void attend(const Memory *memory, int type, const void *query, void *out, float *weights, int64_t threads) {
    attend_all(memory, type, query, out, weights, threads);
}
