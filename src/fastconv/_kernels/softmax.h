/* Rows of scores that become probabilities. */
#ifndef FASTCONV_SOFTMAX_H
#define FASTCONV_SOFTMAX_H

#include "window.h"

/* Set to[i] = exp(x[i] - max) / sum of these for each of the contiguous rows of `count` >= 1 numbers.
 * A row with NaN or plus infinity becomes NaN. */
typedef void (*Softmax)(void *to, const void *x, Index rows, Index count);

#endif
