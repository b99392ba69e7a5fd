// A step of a Transformer decoder, from the newest words to the logits, in one call: nothing but arithmetic is between
// the matrix products of its layers.

#include "../deviation.h"
#include "attend.h"
#include "product.h"

// The wiring of a sub-layer: skip * x + F, and norms after it, or one norm before F.
typedef struct {
    int64_t norms, before;
    float skip, eps;
    const float *weight, *bias;  // (norms, dim)
} Connection;

typedef struct {
    Product itself, out, query, source_out, widen, narrow;  // itself: query, key and value in one
    Connection self, source, feed;
} Layer;

typedef struct {
    int64_t layers, heads, dim, ffn, words;
    const Layer *layer;
    Product projection;
    Connection start, end;   // norms of the embedding, and of the stack's output
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
    float *scratch;                // as many as step_scratch says
    float *logits;                 // (rows, words)
    float *by_head;                // of the last layer's attention to the source: (heads, rows, source positions)
    float *weights;                // their mean over heads: (rows, source positions)
} Step;

static int64_t widest(const Decoder *d) { return d->ffn > d->dim ? d->ffn : d->dim; }

int64_t step_scratch(const Decoder *d, int64_t rows) {
    return rows * (4 * d->dim + d->ffn) + scratch_size(rows, widest(d)) / 4 + 16;
}

// y = LN(x), in place too
static void norm_row(const float *x, float *y, const float *restrict w, const float *restrict b, float eps, int64_t dim) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < dim; j++) sum += x[j];
    const float mean = sum / dim;
#pragma omp simd reduction(+ : squares)
    for (int64_t j = 0; j < dim; j++) squares += (x[j] - mean) * (x[j] - mean);
    const float rstd = inverse_deviation(squares / dim, eps);
#pragma omp simd
    for (int64_t j = 0; j < dim; j++) y[j] = (x[j] - mean) * rstd * w[j] + b[j];
}

static void norm_rows(const Connection *c, const float *x, float *y, int64_t rows, int64_t dim, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        norm_row(x + row * dim, y + row * dim, c->weight, c->bias, c->eps, dim);
}

// What F is given: x itself, or its norm, which is written to space.
static const float *enter(const Connection *c, const float *x, float *space, int64_t rows, int64_t dim, int64_t threads) {
    if (!c->before) return x;
    norm_rows(c, x, space, rows, dim, threads);
    return space;
}

// x becomes the sub-layer's output; f is overwritten.
static void leave(const Connection *c, float *f, float *x, int64_t rows, int64_t dim, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *restrict to = x + row * dim, *restrict y = f + row * dim;
        if (c->before || c->norms == 0) {
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) to[j] = c->skip * to[j] + y[j];
            continue;
        }
        for (int64_t k = 0; k < c->norms; k++) {
#pragma omp simd
            for (int64_t j = 0; j < dim; j++) y[j] += c->skip * to[j];
            norm_row(y, y, c->weight + k * dim, c->bias + k * dim, c->eps, dim);
        }
        memcpy(to, y, dim * sizeof(float));
    }
}

static void mean_of_heads(const float *restrict by_head, float *restrict mean, int64_t heads, int64_t size) {
    for (int64_t j = 0; j < size; j++) {
        float sum = 0;
        for (int64_t h = 0; h < heads; h++) sum += by_head[h * size + j];
        mean[j] = sum / heads;
    }
}

void step(const Decoder *d, const Step *s, int64_t threads) {
    const int64_t rows = s->rows, dim = d->dim, of_head = dim / d->heads;
    float *x = s->scratch, *f = x + rows * dim, *h = f + rows * dim, *space = h + rows * d->ffn, *q = space + rows * dim;
    void *split = (void *)(((uintptr_t)(q + rows * dim) + 63) / 64 * 64);  // as tiles are loaded fastest
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < dim; j++)
            x[row * dim + j] =
                d->embedding_scale * d->embedding[s->newest[row] * dim + j] + (s->position ? s->position[j] : 0);
    if (d->start.norms) norm_rows(&d->start, x, x, rows, dim, threads);

    for (int64_t l = 0; l < d->layers; l++) {
        const Layer *layer = d->layer + l;
        const int64_t width = 3 * dim * d->layers, source_width = 2 * dim * d->layers;
        float *record = (float *)s->records[s->positions - 1] + 3 * dim * l;
        const Memory itself = {
            rows, d->heads, of_head, s->positions, width, width, 3 * dim * l + dim, 3 * dim * l + 2 * dim,
            s->records, s->table, 1 / sqrtf(of_head),
        };
        const Memory source = {
            rows, d->heads, of_head, s->source_positions, dim, source_width, 2 * dim * l, 2 * dim * l + dim,
            s->source, s->source_table, 1 / sqrtf(of_head),
        };
        const float *in = enter(&layer->self, x, space, rows, dim, threads);
        multiply(&layer->itself, in, record, width, rows, split, threads);
        attend_all(&itself, FLOAT32, record, q, NULL, threads);
        multiply(&layer->out, q, f, dim, rows, split, threads);
        leave(&layer->self, f, x, rows, dim, threads);

        in = enter(&layer->source, x, space, rows, dim, threads);
        multiply(&layer->query, in, f, dim, rows, split, threads);
        attend_all(&source, FLOAT32, f, q, l + 1 == d->layers ? s->by_head : NULL, threads);
        multiply(&layer->source_out, q, f, dim, rows, split, threads);
        leave(&layer->source, f, x, rows, dim, threads);

        in = enter(&layer->feed, x, space, rows, dim, threads);
        multiply(&layer->widen, in, h, d->ffn, rows, split, threads);
        multiply(&layer->narrow, h, f, dim, rows, split, threads);
        leave(&layer->feed, f, x, rows, dim, threads);
    }
    mean_of_heads(s->by_head, s->weights, d->heads, rows * s->source_positions);
    if (d->end.norms) norm_rows(&d->end, x, x, rows, dim, threads);
    multiply(&d->projection, x, s->logits, d->words, rows, split, threads);
}

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
