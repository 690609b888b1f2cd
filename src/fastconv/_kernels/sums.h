/* The interface of the sums of sums.c. */
#ifndef FASTCONV_SUMS_H
#define FASTCONV_SUMS_H

#include <stdint.h>

#include "window.h"

typedef struct {
    /* Add from[i] to to[i]. */
    void (*add_row)(void *to, const void *from, Index count);
    /* Add from[index] to to[at]. */
    void (*add_element)(void *to, Index at, const void *from, Index index);
    /* Add from[i] to to[at[i] - first] where first <= at[i] < last. */
    void (*add_at)(void *to, const int64_t *at, Index first, Index last, const void *from,
                   Index count);
    /* Add the taps (channels, rows, kernel_w) of one pixel to the padded rows they came from. */
    void (*add_taps)(void *to, const void *from, Index channels, Index to_channel,
                     Index from_channel, Index rows, Index to_row, Index kernel_w);
    /* Copy the positions first, first+1, ... of a row that is stored de-interleaved into `phases`
     * rows. */
    void (*interleave_phases)(void *to, const void *from, Index count, Index first, Index phases,
                              Index phase_length);
} Sums;

#endif
