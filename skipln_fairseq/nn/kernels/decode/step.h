// A step of a Transformer decoder, from the newest words to the logits, in one call: nothing but arithmetic is between
// the matrix products of its layers.

#include "activation.h"
#include "attend.h"
#include "connection.h"
#include "heads.h"
#include "product.h"

typedef struct {
    Product itself, out, query, source_out, widen, narrow;  // itself: query, key and value in one
    Connection self, source, feed;
} Layer;

typedef struct {
    int64_t layers, heads, dim, ffn, words, activation;
    const Layer *layer;
    Product projection;
    Norm start, end;         // norms of the embedding, and of the stack's output
    const float *embedding;  // (words, dim)
    float embedding_scale;
} Decoder;

typedef struct {
    int64_t rows, positions, source_positions;
    const int64_t *newest;         // (rows): words
    const float *position;         // (dim), or NULL
    const void *const *records;    // of each position, this step's the last: (rows then, layers, 3, dim)
    const int32_t *table;          // (rows, positions)
    const void *const *source;     // of each source position: (sentences, layers, 2, dim) keys and values
    const int32_t *source_table;   // (rows, source positions)
    const Memories *memories;      // or, in the place of these two, the source's sentences
    const int64_t *sentence;       // (sentences): which the rows are of, as many of each
    int64_t sentences;
    float *scratch;                // as many as step_scratch says
    float *logits;                 // (rows, words)
    float *by_head;                // of the last layer's attention to the source: (heads, rows, source positions)
    float *weights;                // their mean over heads: (rows, source positions)
} Step;

static int64_t widest(const Decoder *d) { return d->ffn > d->dim ? d->ffn : d->dim; }

static int64_t scratch_of_step(const Decoder *d, int64_t rows) {
    return rows * (4 * d->dim + d->ffn) + scratch_size(rows, widest(d)) / 4 + 16;
}

static void mean_of_heads(const float *restrict by_head, float *restrict mean, int64_t heads, int64_t size) {
    for (int64_t j = 0; j < size; j++) {
        float sum = 0;
        for (int64_t h = 0; h < heads; h++) sum += by_head[h * size + j];
        mean[j] = sum / heads;
    }
}

// The last layer's weights are kept.
static void attend_to_source(const Decoder *d, const Step *s, int64_t l, const float *query, float *out, int64_t threads) {
    const int64_t rows = s->rows, dim = d->dim, of_head = dim / d->heads;
    float *weights = l + 1 == d->layers ? s->by_head : NULL;
    if (s->memories) {
        const int64_t sentences = s->sentences, of_each = rows / sentences;
        attend_to_sentences(s->memories, l, s->sentence, sentences, of_each, query, out, weights, threads);
        return;
    }
    const Memory source = {
        rows, d->heads, of_head, s->source_positions, dim, 2 * dim * d->layers, 2 * dim * l, 2 * dim * l + dim,
        s->source, s->source_table, 1 / sqrtf(of_head),
    };
    attend_all(&source, FLOAT32, query, out, weights, threads);
}

static void step_once(const Decoder *d, const Step *s, int64_t threads) {
    const int64_t rows = s->rows, dim = d->dim, of_head = dim / d->heads;
    float *x = s->scratch, *f = x + rows * dim, *h = f + rows * dim, *space = h + rows * d->ffn, *q = space + rows * dim;
    void *split = (void *)(((uintptr_t)(q + rows * dim) + 63) / 64 * 64);  // as tiles are loaded fastest
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < dim; j++)
            x[row * dim + j] =
                d->embedding_scale * d->embedding[s->newest[row] * dim + j] + (s->position ? s->position[j] : 0);
    norm_rows(&d->start, x, rows, dim, threads);

    for (int64_t l = 0; l < d->layers; l++) {
        const Layer *layer = d->layer + l;
        const int64_t width = 3 * dim * d->layers;
        float *record = (float *)s->records[s->positions - 1] + 3 * dim * l;
        const Memory itself = {
            rows, d->heads, of_head, s->positions, width, width, 3 * dim * l + dim, 3 * dim * l + 2 * dim,
            s->records, s->table, 1 / sqrtf(of_head),
        };
        const float *in = enter(&layer->self, x, space, rows, dim, threads);
        multiply(&layer->itself, in, record, width, rows, split, threads);
        attend_all(&itself, FLOAT32, record, q, NULL, threads);
        norm_rows(&layer->self.inside, q, rows, dim, threads);
        multiply(&layer->out, q, f, dim, rows, split, threads);
        leave(&layer->self, f, x, rows, dim, threads);

        in = enter(&layer->source, x, space, rows, dim, threads);
        multiply(&layer->query, in, f, dim, rows, split, threads);
        attend_to_source(d, s, l, f, q, threads);
        norm_rows(&layer->source.inside, q, rows, dim, threads);
        multiply(&layer->source_out, q, f, dim, rows, split, threads);
        leave(&layer->source, f, x, rows, dim, threads);

        in = enter(&layer->feed, x, space, rows, dim, threads);
        multiply(&layer->widen, in, h, d->ffn, rows, split, threads);
        activate(d->activation, h, rows * d->ffn, threads);
        norm_rows(&layer->feed.inside, h, rows, d->ffn, threads);
        multiply(&layer->narrow, h, f, dim, rows, split, threads);
        leave(&layer->feed, f, x, rows, dim, threads);
    }
    mean_of_heads(s->by_head, s->weights, d->heads, rows * s->source_positions);
    norm_rows(&d->end, x, rows, dim, threads);
    multiply(&d->projection, x, s->logits, d->words, rows, split, threads);
}
