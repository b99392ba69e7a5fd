// The best continuations of a beam search's hypotheses. Arithmetic is float32 whatever the logits are.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../exponential.h"
#include "../working_memory.h"
#include "number.h"

typedef struct {
    int64_t sentences, hypotheses, words, beam, best;  // best: candidates of each sentence
    int64_t end;                                       // the word that ends a hypothesis
    int64_t only;                                      // the one word that is considered, or -1
    int64_t changes;
    const int64_t *changed;  // words whose log-probability changes after normalisation
    const float *change;     // by this much
    float temperature;
} Search;

// All (sentences, beam).
typedef struct {
    uint8_t *over;      // in and out: hypotheses that have ended, kept for want of others
    float *scores;      // of those that go on
    int64_t *words;
    int64_t *rows;      // which they continue
    float *end_scores;  // of those that end now, -infinity for the others
    int64_t *end_rows;  // which they continue
} Choice;

typedef struct {
    float score;
    int32_t word, hypothesis;
} Candidate;

enum { SPAN = 64 };

// Put a candidate into its place in the list, which is sorted; of equal ones the earlier stays before.
static void insert(Candidate *list, int64_t size, Candidate one) {
    int64_t place = size - 1;
    for (; place > 0 && list[place - 1].score < one.score; place--) list[place] = list[place - 1];
    list[place] = one;
}

static float top_of(const float *restrict x, int64_t first, int64_t last) {
    float top = -INFINITY;
#pragma omp simd reduction(max : top)
    for (int64_t j = first; j < last; j++) top = x[j] > top ? x[j] : top;
    return top;
}

static inline int64_t end_of(const Search *s, int64_t span) {
    return (span + 1) * SPAN < s->words ? (span + 1) * SPAN : s->words;
}

// A row of logits over the temperature, and the largest of each span; the largest of all.
static float read_logits(const Search *s, int type, const void *logits, int64_t row, float *restrict x, float *restrict tops) {
    float largest = -INFINITY;
    for (int64_t b = 0; b * SPAN < s->words; b++) {
        const int64_t first = b * SPAN, last = end_of(s, b);
        if (s->temperature == 1)
#pragma omp simd
            for (int64_t j = first; j < last; j++) x[j] = read_one(logits, type, row * s->words + j);
        else
#pragma omp simd
            for (int64_t j = first; j < last; j++) x[j] = read_one(logits, type, row * s->words + j) / s->temperature;
        tops[b] = top_of(x, first, last);
        largest = tops[b] > largest ? tops[b] : largest;
    }
    return largest;
}

static void best_of_row(
    const Search *s, float *restrict x, float *restrict tops, float largest, Candidate *list, float before,
    int32_t hypothesis
) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < s->words; j++) total += exponential(x[j] - largest);
    const float normaliser = logf(total);
    for (int64_t c = 0; c < s->changes; c++) x[s->changed[c]] += s->change[c];
    for (int64_t c = 0; c < s->changes; c++) {
        const int64_t span = s->changed[c] / SPAN;
        tops[span] = top_of(x, span * SPAN, end_of(s, span));
    }
    if (s->only >= 0) {
        const float score = x[s->only] - largest - normaliser + before;
        if (score > list[s->best - 1].score) insert(list, s->best, (Candidate){score, (int32_t)s->only, hypothesis});
        return;
    }
    for (int64_t b = 0; b * SPAN < s->words; b++) {  // most spans have nothing that is better than the worst in the list
        if (!(tops[b] - largest - normaliser + before > list[s->best - 1].score)) continue;
        for (int64_t j = b * SPAN; j < end_of(s, b); j++) {
            const float score = x[j] - largest - normaliser + before;
            if (score > list[s->best - 1].score)
                insert(list, s->best, (Candidate){score, (int32_t)j, hypothesis});
        }
    }
}

// As fairseq has it: what ends within the beam is kept, what goes on are the best that do not end; where these are too
// few, some that have ended fill their places.
static void choose(const Search *s, const Choice *choice, const Candidate *list, int64_t sentence) {
    const int64_t at = sentence * s->beam;
    int ended[s->best];
    for (int64_t n = 0; n < s->best; n++) {
        const int ends = list[n].word == s->end && list[n].score > -INFINITY;
        const int over = n < s->beam && choice->over[at + n];
        ended[n] = ends || over;
        if (n < s->beam) {
            choice->end_scores[at + n] = ends && !over ? list[n].score : -INFINITY;
            choice->end_rows[at + n] = sentence * s->hypotheses + list[n].hypothesis;
        }
    }
    int64_t place = 0;
    for (int over = 0; over < 2; over++)
        for (int64_t n = 0; n < s->best && place < s->beam; n++) {
            if (ended[n] != over) continue;
            choice->over[at + place] = (uint8_t)over;
            choice->scores[at + place] = list[n].score;
            choice->words[at + place] = list[n].word;
            choice->rows[at + place] = sentence * s->hypotheses + list[n].hypothesis;
            place++;
        }
}

static void best_of_sentences(
    const Search *s, int type, const void *logits, const float *before, const Choice *choice, int64_t first, int64_t last
) {
    const int64_t spans = (s->words + SPAN - 1) / SPAN;
    float *x = working_floats(s->words + spans), *tops = x + s->words;
    Candidate *list = working_memory((size_t)s->best * sizeof(Candidate));
    for (int64_t sentence = first; sentence < last; sentence++) {
        for (int64_t n = 0; n < s->best; n++) list[n] = (Candidate){-INFINITY, 0, 0};
        for (int64_t h = 0; h < s->hypotheses; h++) {
            const int64_t row = sentence * s->hypotheses + h;
            const float largest = read_logits(s, type, logits, row, x, tops);
            best_of_row(s, x, tops, largest, list, before ? before[row] : 0, (int32_t)h);
        }
        choose(s, choice, list, sentence);
    }
    free(list);
    free(x);
}

// logits: (sentences hypotheses, words); before: a score for each row, or NULL.
static void best_of_all(const Search *s, int type, const void *logits, const float *before, const Choice *choice, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < threads; t++)
        best_of_sentences(
            s, type, logits, before, choice, s->sentences * t / threads, s->sentences * (t + 1) / threads
        );
}
