/* The interface of the microkernel for rows of depthwise outputs of rowwise.c, which explains it. */
#ifndef FASTCONV_ROWWISE_H
#define FASTCONV_ROWWISE_H

#include "window.h"

enum { ROWWISE_KERNEL = 3, ROWWISE_STRIDES = 2 }; /* Windows are 3 x 3, at most this far apart. */

/* The same rows of outputs of neighbouring channels:
 * to[c*to_stride + y*columns + x] = bias[c] + sum over (kh, kw) of filters[9*c + 3*kh + kw] *
 * image[c*image_stride + ((first + y)*stride - top + kh)*pitch + x*stride - left + kw],
 * clipped to bounds if `clips` is set. Positions outside of the image are zeros. Less than a vector
 * behind the last row of a channel is overwritten, before the next channel is computed. */
typedef struct {
    void *to;
    Index to_stride, channels, first, rows, columns;
    const void *image;
    Index image_stride, height, width, pitch;
    Index stride, top, left;
    const void *filters, *bias; /* A bias of NULL means zeros. */
    int clips;
    double low, high;
} RowwiseRows;

typedef void (*Rowwise)(const RowwiseRows *rows);

#endif
