// The functions that Python calls: products, the encoder, a step of the decoder, and the whole search.

#include "search.h"

int64_t step_scratch(const Decoder *d, int64_t rows) { return scratch_of_step(d, rows); }

void step(const Decoder *d, const Step *s, int64_t threads) { step_once(d, s, threads); }

void *search_new(void) { return calloc(1, sizeof(Searching)); }

void search_free(Searching *s) {
    empty(&s->pool);
    free(s);
}

int64_t search_held(const Searching *s) { return held_by(&s->pool); }

// The states of the words that are no padding: how many they are, or what was wrong.
int64_t encode(Searching *s, const Encoder *e, const Source *source, int64_t threads) {
    s->pool.failed = 0;
    const int wrong = encode_source(e, source, &s->packed, &s->pool, threads);
    return wrong ? wrong : s->packed.rows;
}

// to: (columns, sentences, dim), which is zero where there is padding.
void encoded(const Searching *s, const Encoder *e, const Source *source, float *to) {
    for (int64_t n = 0; n < source->sentences; n++)
        for (int64_t row = s->packed.first[n]; row < s->packed.first[n + 1]; row++)
            memcpy(
                to + (s->packed.column[row] * source->sentences + n) * e->dim, s->packed.x + row * e->dim,
                e->dim * sizeof(float)
            );
}

int64_t search_begin(Searching *s, const Plan *plan, const Source *source, int64_t threads) {
    return begin(s, plan, source, threads);
}

int64_t search_go(Searching *s, double seconds, int64_t threads) { return search_on(s, seconds, threads); }

int64_t search_ends(const Searching *s) { return s->ends; }

// How many words the longest hypothesis has, with its end; found: (sentences), how many hypotheses each has.
int64_t search_sizes(const Searching *s, int64_t *found) {
    memcpy(found, s->found, s->source.sentences * sizeof(int64_t));
    int64_t longest = 0;
    for (int64_t e = 0; e < s->ends; e++) longest = s->ended[e].step + 1 > longest ? s->ended[e].step + 1 : longest;
    return longest;
}

void search_read(const Searching *s, const Hypotheses *to) { read_hypotheses(s, to); }

const char *kind(void) { return KIND; }

int64_t product_size(int64_t inputs, int64_t outputs, int64_t form) { return packed_size(inputs, outputs, form); }

void product_pack(const float *weight, void *packed, float *scales, int64_t inputs, int64_t outputs, int64_t form) {
    pack_weight(weight, packed, scales, inputs, outputs, form);
}

int64_t product_scratch(int64_t rows, int64_t inputs) { return scratch_size(rows, inputs); }

// One product alone; scratch: product_scratch bytes.
void product(const Product *p, const float *x, float *y, int64_t rows, void *scratch, int64_t threads) {
    multiply(p, x, y, p->outputs, rows, scratch, threads);
}
