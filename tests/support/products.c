// Products of many sizes against plain loops in double precision and integers; says "right" and what they were
// multiplied by, or what was wrong.

#include <stdio.h>

#include "product.h"

enum { MOST_ROWS = 17, MOST_INPUTS = 100, MOST_OUTPUTS = 70, STRIDE = MOST_OUTPUTS + 3 };

static float x[MOST_ROWS * MOST_INPUTS], weight[MOST_OUTPUTS * MOST_INPUTS], bias[MOST_OUTPUTS], y[MOST_ROWS * STRIDE];

static float number(void) {  // from -1 to 1
    static uint32_t state = 1;
    state = state * 1664525 + 1013904223;
    return (float)(state >> 8) / (1 << 23) - 1;
}

static int is_wrong(const Product *p, int64_t row, int64_t output) {
    const float *a = x + row * p->inputs, *b = weight + output * p->inputs;
    const float a_scale = scale_of(a, p->inputs, 127), b_scale = scale_of(b, p->inputs, MOST);
    double sum = 0, size = fabs(bias[output]);
    int64_t whole = 0;
    for (int64_t k = 0; k < p->inputs; k++) {
        sum += (double)a[k] * b[k];
        size += fabs((double)a[k] * b[k]);
        whole += (int64_t)int8_of(a[k], 1 / a_scale) * int8_of(b[k], 1 / b_scale);
    }
    if (p->form == INT8) sum = (double)whole * a_scale * b_scale;
    double value = sum + bias[output];
    if (p->rectified && value < 0) value = 0;
    return !(fabs(y[row * STRIDE + output] - value) <= (p->form == BF16 ? 0x1p-7 : 1e-6) * (size + fabs(sum)));
}

static int check(int64_t form, int64_t rows, int64_t inputs, int64_t outputs) {
    float scales[MOST_OUTPUTS];
    void *packed = aligned_alloc(64, blocks(packed_size(inputs, outputs, form), 64) * 64);
    void *scratch = aligned_alloc(64, blocks(scratch_size(rows, inputs), 64) * 64);
    int wrong = 0;
    for (int64_t j = 0; j < MOST_ROWS * STRIDE; j++) y[j] = 99;
    pack_weight(weight, packed, scales, inputs, outputs, form);
    const Product p = {inputs, outputs, form, rows % 2, packed, form == INT8 ? scales : NULL, bias};
    multiply(&p, x, y, STRIDE, rows, scratch, 1);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t output = 0; output < outputs; output++) wrong |= is_wrong(&p, row, output);
        for (int64_t j = outputs; j < STRIDE; j++) wrong |= y[row * STRIDE + j] != 99;  // that is not its own
    }
    free(packed);
    free(scratch);
    if (wrong) printf("wrong: form %d, %d rows, %d to %d\n", (int)form, (int)rows, (int)inputs, (int)outputs);
    return wrong;
}

int main(void) {
    static const int64_t inputs[] = {1, 7, 51, MOST_INPUTS}, outputs[] = {1, 37, MOST_OUTPUTS};
    int wrong = 0;
    for (int64_t j = 0; j < MOST_ROWS * MOST_INPUTS; j++) x[j] = number();
    for (int64_t j = 0; j < MOST_OUTPUTS * MOST_INPUTS; j++) weight[j] = number();
    for (int64_t j = 0; j < MOST_OUTPUTS; j++) bias[j] = number();
    for (int64_t form = INT8; form <= FP32; form++)
        for (int64_t rows = 1; rows <= MOST_ROWS; rows += 1 + rows / 9 * 3)
            for (int i = 0; i < 4; i++)
                for (int o = 0; o < 3; o++) wrong |= check(form, rows, inputs[i], outputs[o]);
    if (!wrong) printf("right: %s\n", KIND);
    return wrong;
}
