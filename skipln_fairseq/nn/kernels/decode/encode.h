// A Transformer encoder from words to the output of its last layer. Padding is left out: the words of all sentences
// stand in rows one after another.

#include "heads.h"
#include "pool.h"
#include "step.h"

typedef struct {
    Product itself, out, widen, narrow;  // itself: query, key and value in one
    Connection self, feed;
} EncoderLayer;

typedef struct {
    int64_t layers, heads, dim, ffn, words, padding, activation;  // words: of the embedding; padding: the word that is none
    const EncoderLayer *layer;
    Norm start, end;         // norms of the embedding, and of the stack's output
    const float *embedding;  // (words, dim)
    float embedding_scale;
} Encoder;

typedef struct {
    int64_t sentences, columns;
    const int64_t *words;    // (sentences, columns)
    const float *positions;  // (columns, dim): of the first word of a sentence, the second and so on, or NULL
} Source;

typedef struct {
    int64_t rows, longest;  // the words of the longest sentence
    int64_t *first;         // (sentences + 1): the row of each sentence's first word
    int64_t *column;        // (rows): where it stands in the sentence
    float *x;               // (rows, dim)
} Packed;

// Parts of the pool.
enum { FIRST, COLUMN, STATES, JOINED, ENCODING, OF_ENCODER };

enum { SOME = 256 };  // rows, which are computed at a time

enum { NO_MEMORY = -1, NO_WORD = -2 };

static int pack(const Encoder *e, const Source *s, Packed *p, Pool *pool) {
    p->first = take(pool, FIRST, (size_t)(s->sentences + 1) * sizeof(int64_t));
    p->column = take(pool, COLUMN, (size_t)(s->sentences * s->columns) * sizeof(int64_t));
    if (pool->failed) return NO_MEMORY;
    p->rows = p->longest = 0;
    for (int64_t sentence = 0; sentence < s->sentences; sentence++) {
        p->first[sentence] = p->rows;
        for (int64_t column = 0; column < s->columns; column++) {
            const int64_t word = s->words[sentence * s->columns + column];
            if (word < 0 || word >= e->words) return NO_WORD;
            if (word != e->padding) p->column[p->rows++] = column;
        }
        const int64_t size = p->rows - p->first[sentence];
        p->longest = size > p->longest ? size : p->longest;
    }
    p->first[s->sentences] = p->rows;
    return 0;
}

static void embed_source(const Encoder *e, const Source *s, const Packed *p) {
    for (int64_t sentence = 0; sentence < s->sentences; sentence++)
        for (int64_t row = p->first[sentence]; row < p->first[sentence + 1]; row++) {
            const float *word = e->embedding + s->words[sentence * s->columns + p->column[row]] * e->dim;
            const float *position = s->positions ? s->positions + (row - p->first[sentence]) * e->dim : NULL;
            for (int64_t j = 0; j < e->dim; j++)
                p->x[row * e->dim + j] = e->embedding_scale * word[j] + (position ? position[j] : 0);
        }
}

static size_t scratch_of_encoder(const Encoder *e) {  // in bytes
    return (size_t)(SOME * (2 * e->dim + e->ffn)) * sizeof(float) + 64 +
           (size_t)scratch_size(SOME, e->ffn > e->dim ? e->ffn : e->dim);
}

// y = x W' + b of many rows, some at a time, so that scratch is small.
static void multiply_in_parts(
    const Product *p, const float *x, float *y, int64_t rows, void *scratch, int64_t threads
) {
    for (int64_t row = 0; row < rows; row += SOME) {
        const int64_t some = rows - row < SOME ? rows - row : SOME;
        multiply(p, x + row * p->inputs, y + row * p->outputs, p->outputs, some, scratch, threads);
    }
}

static void encode_layer(
    const Encoder *e, const EncoderLayer *layer, const Packed *p, int64_t sentences, float *joined, float *scratch,
    int64_t threads
) {
    const int64_t dim = e->dim;
    float *f = scratch, *space = f + SOME * dim, *h = space + SOME * dim;
    void *split = (void *)(((uintptr_t)(h + SOME * e->ffn) + 63) / 64 * 64);
    for (int64_t row = 0; row < p->rows; row += SOME) {
        const int64_t rows = p->rows - row < SOME ? p->rows - row : SOME;
        const float *in = enter(&layer->self, p->x + row * dim, space, rows, dim, threads);
        multiply(&layer->itself, in, joined + row * 3 * dim, 3 * dim, rows, split, threads);
    }
    attend_to_itself(joined, p->first, sentences, p->longest, e->heads, dim / e->heads, threads);
    for (int64_t row = 0; row < p->rows; row += SOME) {
        const int64_t rows = p->rows - row < SOME ? p->rows - row : SOME;
        float *x = p->x + row * dim;
        for (int64_t i = 0; i < rows; i++) memcpy(space + i * dim, joined + (row + i) * 3 * dim, dim * sizeof(float));
        norm_rows(&layer->self.inside, space, rows, dim, threads);
        multiply(&layer->out, space, f, dim, rows, split, threads);
        leave(&layer->self, f, x, rows, dim, threads);
        const float *in = enter(&layer->feed, x, space, rows, dim, threads);
        multiply(&layer->widen, in, h, e->ffn, rows, split, threads);
        activate(e->activation, h, rows * e->ffn, threads);
        norm_rows(&layer->feed.inside, h, rows, e->ffn, threads);
        multiply(&layer->narrow, h, f, dim, rows, split, threads);
        leave(&layer->feed, f, x, rows, dim, threads);
    }
}

// 0, or what was wrong.
static int encode_source(const Encoder *e, const Source *s, Packed *p, Pool *pool, int64_t threads) {
    const int wrong = pack(e, s, p, pool);
    if (wrong) return wrong;
    p->x = take(pool, STATES, (size_t)(p->rows * e->dim) * sizeof(float));
    float *joined = take(pool, JOINED, (size_t)(p->rows * 3 * e->dim) * sizeof(float));
    float *scratch = take(pool, ENCODING, scratch_of_encoder(e));
    if (pool->failed) return NO_MEMORY;
    embed_source(e, s, p);
    norm_rows(&e->start, p->x, p->rows, e->dim, threads);
    for (int64_t l = 0; l < e->layers; l++)
        encode_layer(e, e->layer + l, p, s->sentences, joined, scratch, threads);
    norm_rows(&e->end, p->x, p->rows, e->dim, threads);
    return 0;
}
