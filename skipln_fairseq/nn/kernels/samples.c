// Whether numbers that stand apart in memory are what they were.

#include <stdint.h>

typedef struct {
    const char *first;
    int64_t step, count, size;  // step: bytes from one to the next; size: bytes of a number
} Numbers;

#define DIFFER(type)                                             \
    {                                                            \
        const type *were = (const type *)samples;                \
        for (int64_t n = 0; n < one->count; n++)                 \
            differ |= *(const type *)(one->first + n * one->step) != were[n]; \
        samples += one->count * (int64_t)sizeof(type);           \
    }

// samples: what all of them were, one after another.
int numbers_differ(const Numbers *numbers, int64_t many, const char *samples) {
    int differ = 0;
    for (const Numbers *one = numbers; one < numbers + many && !differ; one++) {
        if (one->size == 2) DIFFER(uint16_t)
        else if (one->size == 4) DIFFER(uint32_t)
        else DIFFER(uint64_t)
    }
    return differ;
}
