#include "best.h"

void best(const Search *s, int type, const void *logits, const float *before, const Choice *choice, int64_t threads) {
    best_of_all(s, type, logits, before, choice, threads);
}
