/* The interface of the microkernels for small planes of flat.c, which explains them. */
#ifndef FASTCONV_FLAT_H
#define FASTCONV_FLAT_H

#include <stdint.h>

#include "vectors.h"
#include "window.h"

enum { FLAT_TAPS = 9 }; /* The number of taps whose weights or sums stay in registers. */

/* Output p of a plane finds this tap at the number p + offset of the image if the row of the output
 * is top <= y < bottom and its column left <= x < right. Other outputs find it in the padding. */
typedef struct {
    int32_t offset, top, bottom, left, right;
} FlatTap;

/* All taps of the windows of a plane. There is a mask for every vector of outputs and every tap, of
 * the lanes that find the tap in the image. */
typedef struct {
    const FlatTap *taps;
    const void *masks;
    Index count, pixels;
    int centred; /* Whether these are 3 x 3 neighbours, of which the middle one is always in the image. */
} FlatTaps;

/* A plane of outputs, to[p] = start + residual[p] + sum over taps of filter[tap] * image[p + offset],
 * clipped to bounds if `clips` is set. A residual of NULL means zeros. */
typedef struct {
    void *to;
    const void *image, *filter, *start, *residual;
    int clips;
    double low, high;
} FlatPlane;

typedef struct {
    Index mask_bytes;
    /* Fill the masks of planes with rows of `columns` outputs. */
    void (*fill_masks)(void *masks, Index columns, const FlatTaps *taps);
    void (*correlate)(const FlatTaps *taps, const FlatPlane *plane);
    /* Add to to[tap] the sum over planes and outputs p of grad[p] * image[p + offset]. */
    void (*correlate_grads)(double *to, const FlatTaps *taps, const void *grad, Index grad_stride,
                            const void *image, Index image_stride, Index planes);
    /* Copy the even and the odd columns of rows. Up to two vectors behind a row are overwritten. */
    void (*split)(void *even, void *odd, Index pitch, const void *from, Index from_pitch,
                  Index rows, Index columns);
    /* Copy rows of `columns` numbers from their even and their odd columns. */
    void (*merge)(void *to, Index pitch, const void *even, const void *odd, Index from_pitch,
                  Index rows, Index columns);
} Flats;

#endif
