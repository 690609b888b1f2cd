/* The interface of the register tiles of strip.c, which explains them. */
#ifndef FASTCONV_STRIP_H
#define FASTCONV_STRIP_H

#include <stdint.h>

#include "window.h"

/* A row of outputs of neighbouring filters. Output x of filter f is
 * start[f] + sum over steps k of packed[k*lanes + f] * source[offsets[k] + x].
 * Whole vectors of the source are read, also behind the last output. */
typedef struct {
    void *to;             /* Outputs of neighbouring filters lie `pitch` numbers apart. */
    const void *residual; /* The numbers in the same places are added; NULL means zeros. */
    Index pitch, filters, pixels;
    const void *start, *packed, *source;
    const int32_t *offsets;
    Index steps, lanes;
    int clips; /* Whether outputs are clipped to low and high. */
    double low, high;
    int past_caches; /* Outputs are written past the caches; all vectors are whole and aligned. */
} Strip;

typedef void (*MultiplyStrip)(const Strip *strip);

#endif
