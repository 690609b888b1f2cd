/* The interface of the register tiles of tile.c, which explains a., b. and c. */
#ifndef FASTCONV_TILE_H
#define FASTCONV_TILE_H

#include <stdint.h>

#include "vectors.h"
#include "window.h"

#if VECTOR_REGISTERS == 32
#define TILE_PIXELS 14
#elif defined(__AVX2__)
#define TILE_PIXELS 6
#else
#define TILE_PIXELS 4
#endif
enum {
    TILE_ROWS = TILE_PIXELS < 7 ? TILE_PIXELS : 7,
    TILE_VECTORS = 2,
    PLANAR_ROWS = 4,
    PLANAR_VECTORS = 4,
    PLANAR_TALL = 7, /* The rows of outputs that are computed together in planes of one vector. */
    PLANAR_TAPS = 9,
};

/* A plane of outputs, to[y*out_w + x] = start + sum over (kh, kw) of
 * filter[kh*kernel_w + kw] * image[(y*stride + kh)*pitch + columns[kw] + x]. */
typedef struct {
    void *to;
    Index out_h, out_w;
    const void *image;
    Index pitch, stride;
    const void *filter;
    Index kernel_h, kernel_w;
    const int32_t *columns;
    const void *start;
    const void *residual; /* This plane is added; NULL means zeros. It must not be `to`. */
    int clips;            /* Whether the outputs are clipped to low and high. */
    double low, high;
} PlaneOutputs;

/* Where `write` writes the sums of some pixels: those of each filter to a row of a plane, `pitch`
 * numbers apart. Up to `spare` numbers behind each row may be overwritten. The residual of the same
 * places is added unless it is NULL, and results are clipped if `clips` is set. */
typedef struct {
    void *to;
    const void *residual;
    Index pitch, filters, spare;
    int clips;
    double low, high;
} TileOutputs;

/* Some of these functions have up to 12 parameters. They are called for as few as some hundred
 * products, and their callers have most of the arguments in registers, so that filling a structure
 * would only add stores and loads. */
typedef struct {
    Index lanes; /* The number of lanes of a vector. */
    /* See a. `sums` has [rows*pixels][vectors] vectors and `packed` has [steps][vectors]; both
     * are aligned. Each pixel starts from `start` or, if that is NULL, from the value in `sums`.
     * Each step prefetches a line: the first one that at `soon`, every other one that `soon_stride`
     * bytes behind the line before. */
    void (*multiply)(void *sums, const void *start, const void *packed, const void *const *rows,
                     const int32_t *offsets, Index steps, Index terms, Index n_rows, Index pixels,
                     Index vectors, const void *soon, Index soon_stride);
    /* Set to[lane*pitch + p] = sums[p][lane]. Up to lanes - 1 numbers after `pixels` are
     * overwritten. */
    void (*unpack)(void *to, Index pitch, const void *sums, Index pixels, Index vectors);
    /* Set to[p][lane] = from[lane*pitch + p], and zero in the lanes after `filters`. Numbers
     * after the rows may be read if `readable` numbers of `from` include them. */
    void (*pack)(void *to, const void *from, Index pitch, Index filters, Index pixels,
                 Index vectors, Index readable);
    /* See b. Add to to[r*to_pitch + i] the sum over (kh, kw) of
     * filter[kh*kernel_w + kw] * image[(r + kh)*pitch + columns[kw] + i]
     * for whole vectors of i. Return the number of rows kh of the filter that were used. */
    Index (*correlate)(void *to, Index to_pitch, Index out_rows, Index vectors, const void *image,
                       Index pitch, const void *filter, Index kernel_h, Index kernel_w,
                       const int32_t *columns);
    /* See b. Compute a whole plane of outputs. */
    void (*correlate_plane)(const PlaneOutputs *plane);
    /* Return whether `correlate_plane` can compute filters of kernel_h rows whose windows lie
     * `stride` rows of the image apart. */
    int (*has_plane_tile)(Index kernel_h, Index stride);
    /* See c. Add to to[t] the sum over (p, r, i) of
     * grad[(p*rows + r)*grad_pitch + i] * image[p*plane_stride + r*pitch + taps[t] + i] */
    void (*correlate_taps)(void *to, const void *grad, Index grad_pitch, const void *image,
                           Index pitch, Index rows, Index count, Index planes, Index plane_stride,
                           const int32_t *taps, Index n_taps);
    /* Return the sum of numbers of any alignment: short sums that are added in float64. */
    double (*sum)(const void *numbers, Index count);
    /* Finish and write sums[p][lane] to the planes of outputs. */
    void (*write)(const TileOutputs *outputs, const void *sums, Index pixels, Index vectors);
} Tiles;

#endif
