// Cross-entropy of rows of logits with a word each, forward and backward; the equations are in __init__.py.
//
// A row stays in the cache between its passes, and arithmetic is float32 whatever the tensors hold.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../exponential.h"
#include "../row.h"

typedef struct {
    int64_t rows, words, ignored;
    int32_t type;
    const int64_t *target;  // (rows)
} Rows;

static void forward_rows(
    const Rows *all, const void *logits, float *nll, float *every, float *log_sum, int64_t begin, int64_t end
) {
    const int64_t words = all->words;
    float *buffer = scratch(1, words);
    for (int64_t row = begin; row < end; row++) {
        const float *z = row_of(buffer, logits, all->type, row, words);
        float largest = -INFINITY, mass = 0, total = 0;
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < words; j++) largest = z[j] > largest ? z[j] : largest;
#pragma omp simd reduction(+ : mass, total)
        for (int64_t j = 0; j < words; j++) {
            mass += exponential(z[j] - largest);
            total += z[j] - largest;
        }
        const float log_mass = logf(mass);
        const int64_t word = all->target[row];
        nll[row] = word == all->ignored ? 0 : log_mass - (z[word] - largest);
        every[row] = word == all->ignored ? 0 : words * log_mass - total;
        log_sum[row] = log_mass + largest;
    }
    free(buffer);
}

// The gradient is written over the logits.
static void backward_rows(
    const Rows *all, void *logits, const float *log_sum, const float *grad_nll, const float *grad_every, int64_t begin,
    int64_t end
) {
    const int64_t words = all->words;
    float *buffer = scratch(1, words);
    for (int64_t row = begin; row < end; row++) {
        const int64_t word = all->target[row];
        float *to = all->type == FLOAT32 ? (float *)logits + row * words : buffer;
        if (word == all->ignored) fill(to, 0, words);
        else {
            const float *z = row_of(buffer, logits, all->type, row, words), log_mass = log_sum[row];
            const float of_all = grad_every[row], of_p = grad_nll[row] + words * of_all;
#pragma omp simd
            for (int64_t j = 0; j < words; j++) to[j] = exponential(z[j] - log_mass) * of_p - of_all;
            to[word] -= grad_nll[row];
        }
        if (all->type != FLOAT32) write_row(logits, to, all->type, row, words);
    }
    free(buffer);
}

// The first row whose target is no word, or -1. With such a row nothing is computed.
static int64_t wrong_row(const Rows *all) {
    for (int64_t row = 0; row < all->rows; row++)
        if (all->target[row] < 0 || all->target[row] >= all->words) return row;
    return -1;
}

int64_t cross_entropies_forward(
    const Rows *all, const void *logits, float *nll, float *every, float *log_sum, int64_t threads
) {
    const int64_t wrong = wrong_row(all);
    if (wrong >= 0) return wrong;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        forward_rows(all, logits, nll, every, log_sum, all->rows * t / threads, all->rows * (t + 1) / threads);
    return -1;
}

int64_t cross_entropies_backward(
    const Rows *all, void *logits, const float *log_sum, const float *grad_nll, const float *grad_every, int64_t threads
) {
    const int64_t wrong = wrong_row(all);
    if (wrong >= 0) return wrong;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        backward_rows(
            all, logits, log_sum, grad_nll, grad_every, all->rows * t / threads, all->rows * (t + 1) / threads
        );
    return -1;
}
