// Vectors of WIDTH numbers of 32 bits, in the compiler's own notation: one source serves all processors. Halves are as
// many bfloat16 numbers.

typedef uint32_t Word __attribute__((may_alias));  // a piece of a row: a float32 number, or several smaller ones
typedef int32_t Ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDTH)));
