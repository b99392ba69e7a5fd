// Memory that is kept from one batch to the next, in numbered parts: each is as large as the largest that was wanted of
// it, and what stood in it is lost when it grows.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void *at;
    size_t size;
} Part;

typedef struct {
    Part *part;
    int64_t parts;
    int failed;  // whether there was no memory for something that was wanted
} Pool;

static int make_parts(Pool *pool, int64_t parts) {
    if (parts <= pool->parts) return 1;
    Part *more = realloc(pool->part, (size_t)parts * sizeof(Part));
    if (!more) return 0;
    memset(more + pool->parts, 0, (size_t)(parts - pool->parts) * sizeof(Part));
    pool->part = more;
    pool->parts = parts;
    return 1;
}

// So many bytes, at a multiple of 64, with anything in them; NULL where there is no memory.
static void *take(Pool *pool, int64_t number, size_t size) {
    if (number >= pool->parts && !make_parts(pool, 2 * number + 16)) {
        pool->failed = 1;
        return NULL;
    }
    Part *part = pool->part + number;
    if (part->size < size || !part->at) {
        free(part->at);
        part->size = (size + 64) / 64 * 64;
        part->at = aligned_alloc(64, part->size);
        if (!part->at) {
            part->size = 0;
            pool->failed = 1;
        }
    }
    return part->at;
}

static int64_t held_by(const Pool *pool) {  // in bytes
    int64_t size = 0;
    for (int64_t number = 0; number < pool->parts; number++) size += pool->part[number].size;
    return size;
}

static void empty(Pool *pool) {
    for (int64_t number = 0; number < pool->parts; number++) free(pool->part[number].at);
    free(pool->part);
    *pool = (Pool){0};
}
