// Memory for the length of a call, small beside the tensors: kilobytes for each thread.

#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// At a multiple of 64, at least one byte; to be freed. Threads cannot give up one by one, so without memory the process
// ends.
static void *working_memory(size_t size) {
    void *found = aligned_alloc(64, size / 64 * 64 + 64);
    if (found) return found;
    fprintf(stderr, "skipln_fairseq: error: no memory left for %zu bytes\n", size);
    _Exit(1);  // exit would run Python's cleanup in a thread that is not its own
}

static float *working_floats(int64_t count) { return working_memory((size_t)count * sizeof(float)); }
