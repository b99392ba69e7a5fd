// A beam search over a whole batch: encoder, all steps of the decoder, and what becomes of the hypotheses.

#include <time.h>

#include "best.h"
#include "encode.h"

// What is added to the log-probabilities of some words.
typedef struct {
    int64_t size;
    const int64_t *words;
    const float *by;
} Changes;

typedef struct {
    const Encoder *encoder;
    const Decoder *decoder;
    Product source_maps;     // keys and values of all decoder layers in one
    const float *positions;  // (longest + 1, dim) of the decoder, or NULL
    int64_t padding;         // the word that nothing attends to
    int64_t beam, first, end;
    int64_t shortest, longest;  // words of a hypothesis, without its end
    Changes early, late;        // in steps before the shortest, and from it on
    float temperature;
} Plan;

// A row of a step: the word that it begins with, the row of the step before that it continues, and the score so far.
typedef struct {
    int32_t word, row;
    float score;
} Chosen;

// A hypothesis that has ended after a row of a step.
typedef struct {
    int32_t sentence, step, row;
    float score;
} Ended;

typedef struct {
    Pool pool;
    Plan plan;
    Source source;
    Packed packed;
    Memories memories;               // of the source
    int64_t step, live, hypotheses;  // hypotheses of each live sentence: one before the first word
    int64_t ends;
    int64_t *sentence;  // (live): which they are
    int64_t *found;     // (sentences): how many of its hypotheses have ended
    Ended *ended;       // (ends), in the order in which they did
    Choice choice;      // of (live, beam)
} Searching;

enum {
    SENTENCE = OF_ENCODER, FOUND, ENDED, NEWEST, SCORES, OVER, CHOSEN_SCORES, CHOSEN_WORDS, CHOSEN_ROWS, END_SCORES,
    END_ROWS, TABLE, RECORDS, SOURCE, SOURCE_AT, SOURCE_HEADS, SCRATCH, LOGITS, BY_HEAD, OF_SEARCH,
};

// Parts of each step.
enum { RECORD, CHOSEN, WEIGHTS, OF_STEP };

// What a search says: that it is over, that it goes on, or what was wrong.
enum { IS_OVER = 0, GOES_ON = 1, NO_END = -3 };

static void *take_of_step(Searching *s, int64_t step, int64_t part, int64_t size) {
    return take(&s->pool, OF_SEARCH + OF_STEP * step + part, (size_t)size);
}

static const void *of_step(const Searching *s, int64_t step, int64_t part) {
    return s->pool.part[OF_SEARCH + OF_STEP * step + part].at;
}

static void read_source(Searching *s, int64_t threads) {
    const Decoder *d = s->plan.decoder;
    const int64_t rows = s->packed.rows, sentences = s->source.sentences, dim = d->dim / d->heads;
    int64_t *at = take(&s->pool, SOURCE_AT, (sentences + 1) * sizeof(int64_t));
    if (!at) return;
    at[0] = 0;
    for (int64_t n = 0; n < sentences; n++)
        at[n + 1] = at[n] + d->heads * size_of_head(s->packed.first[n + 1] - s->packed.first[n], dim);
    float *joined = take(&s->pool, SOURCE, rows * s->plan.source_maps.outputs * sizeof(float));
    float *arranged = take(&s->pool, SOURCE_HEADS, d->layers * at[sentences] * sizeof(float));
    if (s->pool.failed) return;
    multiply_in_parts(&s->plan.source_maps, s->packed.x, joined, rows, s->pool.part[ENCODING].at, threads);
    s->memories = (Memories){
        d->layers, d->heads, dim, s->packed.longest, at[sentences], s->packed.first, at, arranged,
    };
    arrange(&s->memories, joined, sentences, threads);
}

// Of the choice, what the rows are that the next step begins with.
static void take_choice(Searching *s) {
    Chosen *chosen = take_of_step(s, s->step, CHOSEN, s->live * s->hypotheses * sizeof(Chosen));
    if (!chosen) return;
    for (int64_t row = 0; row < s->live * s->hypotheses; row++)
        chosen[row] = (Chosen){
            (int32_t)s->choice.words[row], (int32_t)s->choice.rows[row], s->choice.scores[row],
        };
}

// 0, or what was wrong.
static int begin(Searching *s, const Plan *plan, const Source *source, int64_t threads) {
    Pool *pool = &s->pool;
    const int64_t rows = source->sentences * plan->beam;
    pool->failed = 0;
    s->plan = *plan;
    s->source = *source;
    const int wrong = encode_source(plan->encoder, source, &s->packed, pool, threads);
    if (wrong) return wrong;
    read_source(s, threads);
    s->sentence = take(pool, SENTENCE, source->sentences * sizeof(int64_t));
    s->found = take(pool, FOUND, source->sentences * sizeof(int64_t));
    s->ended = take(pool, ENDED, rows * sizeof(Ended));
    s->choice = (Choice){
        take(pool, OVER, rows),
        take(pool, CHOSEN_SCORES, rows * sizeof(float)),
        take(pool, CHOSEN_WORDS, rows * sizeof(int64_t)),
        take(pool, CHOSEN_ROWS, rows * sizeof(int64_t)),
        take(pool, END_SCORES, rows * sizeof(float)),
        take(pool, END_ROWS, rows * sizeof(int64_t)),
    };
    if (pool->failed) return NO_MEMORY;
    s->step = s->ends = 0;
    s->live = source->sentences;
    s->hypotheses = 1;
    for (int64_t n = 0; n < s->live; n++) {
        s->sentence[n] = n;
        s->found[n] = 0;
        s->choice.words[n] = plan->first;
        s->choice.rows[n] = n;
        s->choice.scores[n] = 0;
    }
    memset(s->choice.over, 0, rows);
    take_choice(s);
    return pool->failed ? NO_MEMORY : 0;
}

// Of each row and position the row of that position's step which it descends from, or -1 where that was padding.
static void descend(const Searching *s, int32_t *table) {
    const int64_t positions = s->step + 1;
    for (int64_t row = 0; row < s->live * s->hypotheses; row++) {
        int32_t at = (int32_t)row;
        for (int64_t t = s->step; t >= 0; t--) {
            const Chosen *chosen = (const Chosen *)of_step(s, t, CHOSEN) + at;
            table[row * positions + t] = chosen->word == s->plan.padding ? -1 : at;
            at = chosen->row;
        }
    }
}

// The logits of all rows.
static const float *decode(Searching *s, int64_t threads) {
    const Decoder *d = s->plan.decoder;
    const int64_t rows = s->live * s->hypotheses, positions = s->step + 1, source_positions = s->packed.longest;
    Pool *pool = &s->pool;
    take_of_step(s, s->step, RECORD, rows * d->layers * 3 * d->dim * sizeof(float));
    const void **records = take(pool, RECORDS, positions * sizeof(void *));
    int64_t *newest = take(pool, NEWEST, rows * sizeof(int64_t));
    int32_t *table = take(pool, TABLE, rows * positions * sizeof(int32_t));
    float *scratch = take(pool, SCRATCH, scratch_of_step(d, rows) * sizeof(float));
    float *logits = take(pool, LOGITS, rows * d->words * sizeof(float));
    float *by_head = take(pool, BY_HEAD, d->heads * rows * source_positions * sizeof(float));
    float *weights = take_of_step(s, s->step, WEIGHTS, rows * source_positions * sizeof(float));
    if (pool->failed) return NULL;
    for (int64_t row = 0; row < rows; row++) newest[row] = s->choice.words[row];
    for (int64_t t = 0; t < positions; t++) records[t] = of_step(s, t, RECORD);
    descend(s, table);
    const Step step = {
        rows, positions, source_positions, newest, s->plan.positions ? s->plan.positions + s->step * d->dim : NULL,
        records, table, NULL, NULL, &s->memories, s->sentence, s->live, scratch, logits, by_head, weights,
    };
    step_once(d, &step, threads);
    return logits;
}

static int choose_best(Searching *s, const float *logits, int64_t threads) {
    const Plan *p = &s->plan;
    const int64_t rows = s->live * s->hypotheses, candidates = s->hypotheses * p->decoder->words - 1;
    float *scores = take(&s->pool, SCORES, rows * sizeof(float));
    if (!scores) return 0;
    memcpy(scores, s->choice.scores, rows * sizeof(float));
    const Changes *changes = s->step < p->shortest ? &p->early : &p->late;
    const Search search = {
        s->live, s->hypotheses, p->decoder->words, p->beam, 2 * p->beam < candidates ? 2 * p->beam : candidates,
        p->end, s->step >= p->longest ? p->end : -1, changes->size, changes->words, changes->by, p->temperature,
    };
    best_of_all(&search, FLOAT32, logits, scores, &s->choice, threads);
    return 1;
}

// Keep the hypotheses of a live sentence that end now; whether it has as many as it wants.
static int finish(Searching *s, int64_t place) {
    const int64_t sentence = s->sentence[place], beam = s->plan.beam;
    int over = 0;
    for (int64_t n = place * beam; n < (place + 1) * beam; n++) {
        if (!(s->choice.end_scores[n] > -INFINITY)) continue;
        if (s->found[sentence] < beam) {
            s->ended[s->ends++] = (Ended){
                (int32_t)sentence, (int32_t)s->step, (int32_t)s->choice.end_rows[n], s->choice.end_scores[n],
            };
            s->found[sentence]++;
        }
        over = s->found[sentence] == beam || s->step == s->plan.longest;
    }
    return over;
}

// What goes on of a live sentence, in its new place. Something always does: a beam is smaller than the dictionary, so at
// most one hypothesis of a sentence has ended and is kept.
static void go_on(Searching *s, int64_t from, int64_t to) {
    const int64_t beam = s->plan.beam;
    s->sentence[to] = s->sentence[from];
    for (int64_t h = 0; h < beam; h++) {
        const int64_t a = from * beam + h, b = to * beam + h;
        s->choice.over[b] = s->choice.over[a];
        s->choice.scores[b] = s->choice.scores[a];
        s->choice.words[b] = s->choice.words[a];
        s->choice.rows[b] = s->choice.rows[a];
    }
}

static int advance(Searching *s, int64_t threads) {
    const float *logits = decode(s, threads);
    if (!logits || !choose_best(s, logits, threads)) return NO_MEMORY;
    int64_t live = 0;
    for (int64_t place = 0; place < s->live; place++)
        if (!finish(s, place)) go_on(s, place, live++);
    if (live == 0) return IS_OVER;
    if (s->step >= s->plan.longest) return NO_END;
    s->live = live;
    s->hypotheses = s->plan.beam;
    s->step++;
    take_choice(s);
    return s->pool.failed ? NO_MEMORY : GOES_ON;
}

static double now(void) {
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

// Until it is over or so many seconds have passed.
static int search_on(Searching *s, double seconds, int64_t threads) {
    const double start = now();
    int found;
    do found = advance(s, threads);
    while (found == GOES_ON && now() - start < seconds);
    return found;
}

// Hypotheses, those of a sentence one after another in the order in which they have ended.
typedef struct {
    int64_t width;      // words of the longest with its end
    int64_t *words;     // (ends, width)
    float *scores;      // (ends)
    float *each;        // (ends, width): what each word adds to the score
    int64_t *lengths;   // (ends)
    float *attention;   // (ends, columns of the source, width)
} Hypotheses;

static void read_one_hypothesis(const Searching *s, const Ended *one, const Hypotheses *to, int64_t number) {
    const int64_t width = to->width, columns = s->source.columns, positions = s->packed.longest;
    const int64_t first = s->packed.first[one->sentence], size = s->packed.first[one->sentence + 1] - first;
    int64_t *words = to->words + number * width;
    float *each = to->each + number * width, *attention = to->attention + number * columns * width;
    float score = one->score;
    int32_t row = one->row;
    int64_t word = s->plan.end;
    to->scores[number] = score;
    to->lengths[number] = one->step + 1;
    for (int64_t t = one->step; t >= 0; t--) {
        const float *weights = (const float *)of_step(s, t, WEIGHTS) + row * positions;
        for (int64_t k = 0; k < size; k++) attention[s->packed.column[first + k] * width + t] = weights[k];
        const Chosen *chosen = (const Chosen *)of_step(s, t, CHOSEN) + row;
        words[t] = word;
        each[t] = score - chosen->score;  // that of the first is 0
        score = chosen->score;
        word = chosen->word;
        row = chosen->row;
    }
}

// All; attention is zero when this is called.
static void read_hypotheses(const Searching *s, const Hypotheses *to) {
    int64_t number = 0;
    for (int64_t sentence = 0; sentence < s->source.sentences; sentence++)
        for (int64_t e = 0; e < s->ends; e++)
            if (s->ended[e].sentence == sentence) read_one_hypothesis(s, s->ended + e, to, number++);
}
