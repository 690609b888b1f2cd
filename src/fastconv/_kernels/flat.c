/* Depthwise convolution of small planes, without a copy that contains the padding.
 *
 * a. Lanes are outputs of a plane, which is taken as one row of numbers, so that vectors are full
 *    whatever the number of columns is. If rows of the image are as long as those of the outputs, a
 *    tap of neighbouring outputs lies at neighbouring addresses, across the ends of rows. Where it
 *    lies in the padding, a mask makes the load return zero without reading memory.
 * b. For windows of stride 2, the even and odd rows and columns of the image are four planes, in
 *    which the taps of neighbouring outputs are neighbours again.
 * c. In windows of 3 x 3 pixels around their outputs, the three columns of taps read the same vectors of
 *    the image. Each column has a sum of its own, of the pixels that it reads in the outputs' places;
 *    the sums of the outer columns are then shifted by a lane. So there are 3 loads instead of 9, and
 *    14 x 14 pixels take half of the time.
 * d. The instruction set must have masked loads, so there is nothing for SSE2.
 */
#ifndef T

#include <string.h>

#include "clip.h"
#include "flat.h"
#include "lanes.h"

#if defined(__AVX2__)
#define TEMPLATE "flat.c"
#include "number.h"
#define FLATS_float &flats_float
#define FLATS_double &flats_double
#else
#define FLATS_float NULL
#define FLATS_double NULL
#endif

#else /* the template */

static void NAMED(fill_flat_masks)(void *to, Index columns, const FlatTaps *taps) {
    NAMED(Lanes) *masks = (NAMED(Lanes) *)to;
    for (Index first = 0; first < taps->pixels; first += LANES)
        for (Index t = 0; t < taps->count; t++) {
            const FlatTap *tap = taps->taps + t;
            uint32_t bits = 0;
            for (Index p = first; p < smaller(first + LANES, taps->pixels); p++) {
                Index y = p / columns, x = p % columns;
                if (y >= tap->top && y < tap->bottom && x >= tap->left && x < tap->right)
                    bits |= (uint32_t)1 << (p - first);
            }
            *masks++ = NAMED(lanes_of)(bits);
        }
}

/* Finish a vector of outputs, and write those that the plane has. */
ALWAYS_INLINE void NAMED(store_flat)(const FlatPlane *plane, Index p, Index left, NAMED(Vec) sums) {
    T *to = (T *)plane->to + p;
    const NAMED(Lanes) lanes = NAMED(first_lanes)(left);
    if (plane->residual) sums += NAMED(load_lanes)(lanes, (const T *)plane->residual + p);
    if (plane->clips) sums = NAMED(clip)(sums, NAMED(all)(plane->low), NAMED(all)(plane->high));
    if (left >= LANES)
        *(NAMED(Loose) *)to = sums;
    else
        NAMED(store_lanes)(to, lanes, sums);
}

/* Compute a plane for N taps, whose weights and places stay in registers. */
ALWAYS_INLINE void NAMED(correlate_flat_of)(const FlatTaps *taps, const FlatPlane *plane,
                                            const int N) {
    const Index pixels = taps->pixels;
    const NAMED(Lanes) *restrict masks = (const NAMED(Lanes) *)taps->masks;
    const T *restrict image = (const T *)plane->image, *restrict filter = (const T *)plane->filter;
    const T start = *(const T *)plane->start;
    const T *sources[FLAT_TAPS];
    NAMED(Vec) weights[FLAT_TAPS];
    UNROLL for (int t = 0; t < N; t++) {
        weights[t] = (NAMED(Vec)){0} + filter[t];
        sources[t] = image + taps->taps[t].offset;
    }
    for (Index p = 0; p < pixels; p += LANES, masks += N) {
        NAMED(Vec) sums = {0};
        __builtin_prefetch(image + p + 1024 / sizeof(T));
        UNROLL for (int t = 0; t < N; t++)
            sums += weights[t] * NAMED(load_lanes)(masks[t], sources[t] + p);
        NAMED(store_flat)(plane, p, pixels - p, sums + start);
    }
}

/* Compute a plane for any number of taps. */
static void NAMED(correlate_flat_taps)(const FlatTaps *taps, const FlatPlane *plane) {
    const NAMED(Lanes) *masks = (const NAMED(Lanes) *)taps->masks;
    const T *image = (const T *)plane->image, *filter = (const T *)plane->filter;
    const T start = *(const T *)plane->start;
    for (Index p = 0; p < taps->pixels; p += LANES, masks += taps->count) {
        NAMED(Vec) sums = {0};
        for (Index t = 0; t < taps->count; t++)
            sums += filter[t] * NAMED(load_lanes)(masks[t], image + p + taps->taps[t].offset);
        NAMED(store_flat)(plane, p, taps->pixels - p, sums + start);
    }
}

/* Set sums[column] of a vector of places, as c. describes. `masks` are those of the nine taps. */
ALWAYS_INLINE void NAMED(sum_columns)(NAMED(Vec) *sums, const NAMED(Lanes) *masks,
                                      const T *const *rows, Index p, const NAMED(Vec) *weights) {
    UNROLL for (int column = 0; column < 3; column++) sums[column] = (NAMED(Vec)){0};
    UNROLL for (int row = 0; row < 3; row++) {
        /* A place in the last column has no output to its right, and one in the first none to its
         * left. In the middle row, masks know nothing but columns. */
        const NAMED(Vec) pixels = NAMED(load_lanes)(masks[3 * row + 1], rows[row] + p);
        sums[0] += weights[3 * row] * NAMED(keep_lanes)(masks[5], pixels);
        sums[1] += weights[3 * row + 1] * pixels;
        sums[2] += weights[3 * row + 2] * NAMED(keep_lanes)(masks[3], pixels);
    }
}

/* Compute a plane as c. describes. */
static void NAMED(correlate_centred)(const FlatTaps *taps, const FlatPlane *plane) {
    const NAMED(Lanes) *masks = (const NAMED(Lanes) *)taps->masks;
    const T *image = (const T *)plane->image, *filter = (const T *)plane->filter;
    const T start = *(const T *)plane->start;
    const T *rows[3];
    NAMED(Vec) weights[FLAT_TAPS], last = {0}, sums[3], next[3];
    UNROLL for (int row = 0; row < 3; row++) rows[row] = image + taps->taps[3 * row + 1].offset;
    UNROLL for (int t = 0; t < FLAT_TAPS; t++) weights[t] = (NAMED(Vec)){0} + filter[t];
    NAMED(sum_columns)(sums, masks, rows, 0, weights);
    for (Index p = 0; p < taps->pixels; p += LANES) {
        masks += FLAT_TAPS;
        if (p + LANES < taps->pixels)
            NAMED(sum_columns)(next, masks, rows, p + LANES, weights);
        else
            UNROLL for (int column = 0; column < 3; column++) next[column] = (NAMED(Vec)){0};
        NAMED(store_flat)(plane, p, taps->pixels - p,
                          sums[1] + SHUFFLE(last, sums[0], BEFORE) +
                              SHUFFLE(sums[2], next[2], AFTER) + start);
        last = sums[0];
        UNROLL for (int column = 0; column < 3; column++) sums[column] = next[column];
    }
}

static void NAMED(correlate_flat)(const FlatTaps *taps, const FlatPlane *plane) {
    if (taps->centred) {
        NAMED(correlate_centred)(taps, plane);
        return;
    }
    if (taps->count == FLAT_TAPS)
        NAMED(correlate_flat_of)(taps, plane, FLAT_TAPS);
    else
        NAMED(correlate_flat_taps)(taps, plane);
}

ALWAYS_INLINE void NAMED(correlate_flat_grads_of)(double *to, const FlatTaps *taps, Index first,
                                                  const T *grad, Index grad_stride,
                                                  const T *image, Index image_stride,
                                                  Index planes, const int N) {
    NAMED(Vec) sums[FLAT_TAPS];
    UNROLL for (int t = 0; t < N; t++) sums[t] = (NAMED(Vec)){0};
    for (; planes > 0; planes--, grad += grad_stride, image += image_stride) {
        const NAMED(Lanes) *masks = (const NAMED(Lanes) *)taps->masks + first;
        for (Index p = 0; p < taps->pixels; p += LANES, masks += taps->count) {
            NAMED(Vec) g = NAMED(load_lanes)(NAMED(first_lanes)(taps->pixels - p), grad + p);
            UNROLL for (int t = 0; t < N; t++)
                sums[t] += g * NAMED(load_lanes)(masks[t], image + p + taps->taps[first + t].offset);
        }
    }
    UNROLL for (int t = 0; t < N; t++) {
        T lanes[LANES];
        memcpy(lanes, &sums[t], sizeof lanes);
        for (int width = LANES / 2; width; width /= 2)
            for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
        to[first + t] += (double)lanes[0];
    }
}

static void NAMED(correlate_flat_grads)(double *to, const FlatTaps *taps, const void *grad,
                                        Index grad_stride, const void *image, Index image_stride,
                                        Index planes) {
    Index t = 0;
    for (; t + FLAT_TAPS <= taps->count; t += FLAT_TAPS)
        NAMED(correlate_flat_grads_of)(to, taps, t, (const T *)grad, grad_stride, (const T *)image,
                                       image_stride, planes, FLAT_TAPS);
    for (; t < taps->count; t++)
        NAMED(correlate_flat_grads_of)(to, taps, t, (const T *)grad, grad_stride, (const T *)image,
                                       image_stride, planes, 1);
}

static void NAMED(split)(void *even, void *odd, Index pitch, const void *source, Index from_pitch,
                         Index rows, Index columns) {
    const T *from = (const T *)source;
    T *evens = (T *)even, *odds = (T *)odd;
    for (; rows > 0; rows--, from += from_pitch, evens += pitch, odds += pitch)
        for (Index x = 0; x < columns; x += 2 * LANES) {
            NAMED(Vec) a = NAMED(load_lanes)(NAMED(first_lanes)(columns - x), from + x);
            NAMED(Vec) b = NAMED(load_lanes)(NAMED(first_lanes)(columns - x - LANES), from + x + LANES);
            *(NAMED(Loose) *)(evens + x / 2) = SHUFFLE(a, b, EVEN);
            *(NAMED(Loose) *)(odds + x / 2) = SHUFFLE(a, b, ODD);
        }
}

static void NAMED(merge)(void *result, Index pitch, const void *even, const void *odd,
                         Index from_pitch, Index rows, Index columns) {
    const T *evens = (const T *)even, *odds = (const T *)odd;
    T *to = (T *)result;
    for (; rows > 0; rows--, to += pitch, evens += from_pitch, odds += from_pitch)
        for (Index x = 0; x < columns; x += 2 * LANES) {
            NAMED(Lanes) pairs = NAMED(first_lanes)((columns - x + 1) / 2);
            NAMED(Vec) a = NAMED(load_lanes)(pairs, evens + x / 2);
            NAMED(Vec) b = NAMED(load_lanes)(pairs, odds + x / 2);
            NAMED(store_lanes)(to + x, NAMED(first_lanes)(columns - x), SHUFFLE(a, b, ZIP_FIRST));
            NAMED(store_lanes)(to + x + LANES, NAMED(first_lanes)(columns - x - LANES),
                                SHUFFLE(a, b, ZIP_SECOND));
        }
}

static const Flats NAMED(flats) = {sizeof(NAMED(Lanes)),     NAMED(fill_flat_masks),
                                   NAMED(correlate_flat),    NAMED(correlate_flat_grads),
                                   NAMED(split),             NAMED(merge)};

#endif
