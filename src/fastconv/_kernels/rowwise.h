/* The interface of the microkernel for rows of depthwise outputs of rowwise.c, which explains it. */
#ifndef FASTCONV_ROWWISE_H
#define FASTCONV_ROWWISE_H

#include "window.h"

enum { ROWWISE_KERNEL = 3, ROWWISE_STRIDES = 2 }; /* Windows are 3 x 3, at most this far apart. */

/* Rows of outputs of a plane: to[y*columns + x] = start + sum over (kh, kw) of
 * filter[3*kh + kw] * image[((first + y)*stride - top + kh)*pitch + x*stride - left + kw],
 * clipped to bounds if `clips` is set. Positions outside of the image are zeros. Less than a vector
 * behind the last row is overwritten. Lines that lie `ahead` numbers behind those of the image are
 * prefetched. */
typedef struct {
    void *to;
    Index first, rows, columns;
    const void *image;
    Index height, width, pitch, ahead;
    Index stride, top, left;
    const void *filter, *start;
    int clips;
    double low, high;
} RowwiseRows;

typedef void (*Rowwise)(const RowwiseRows *rows);

#endif
