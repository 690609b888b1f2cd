/* What the register tiles of tile.c do; a., b. and c. are explained there. */
#ifndef FASTCONV_TILE_H
#define FASTCONV_TILE_H

#include <stdint.h>

#include "vectors.h"
#include "window.h"

#if defined(__AVX512F__)
#define TILE_PIXELS 14
#elif defined(__AVX2__)
#define TILE_PIXELS 6
#else
#define TILE_PIXELS 4
#endif
enum {
    TILE_ROWS = TILE_PIXELS < 7 ? TILE_PIXELS : 7,
    TILE_VECTORS = 2,
    PLANE_ROWS = 4,
    PLANE_VECTORS = 4,
    PLANE_TALL = 7, /* rows of planes at most a vector wide */
    PLANE_TAPS = 9,
};

typedef struct {
    Index lanes; /* in a vector */
    /* a.; `sums` is [rows*pixels][vectors] vectors, `packed` [steps][vectors], both aligned.
     * Each pixel starts from `start` or, if that is NULL, from what `sums` holds. What lies `ahead`
     * of the first row's numbers is asked for. */
    void (*multiply)(void *sums, const void *start, const void *packed, const void *const *rows,
                     const int32_t *offsets, Index steps, Index block, Index n_rows, Index pixels,
                     Index vectors, Index ahead);
    /* to[lane*pitch + p] = sums[p][lane]; overwrites up to lanes - 1 numbers behind `pixels`. */
    void (*unpack)(void *to, Index pitch, const void *sums, Index pixels, Index vectors);
    /* The inverse: to[p][lane] = from[lane*pitch + p], zero in the lanes behind `filters`. More
     * than the rows may be read, if so many numbers are `readable`. */
    void (*pack)(void *to, const void *from, Index pitch, Index filters, Index pixels,
                 Index vectors, Index readable);
    /* b.: to[r*to_pitch + i] += sum over (kh, kw) of
     * filter[kh*kernel_w + kw] * image[(r + kh)*pitch + columns[kw] + i]
     * for whole vectors of i; returns how many rows kh of the filter it has done. */
    Index (*correlate)(void *to, Index to_pitch, Index out_rows, Index vectors, const void *image,
                       Index pitch, const void *filter, Index kernel_h, Index kernel_w,
                       const int32_t *columns);
    /* The same for all of one plane of outputs, to[y*out_w + x] = start + ..., whose rows lie
     * `stride` rows of the image apart; returns whether there is one for such a filter. */
    int (*correlate_plane)(void *to, Index out_h, Index out_w, const void *image, Index pitch,
                           Index stride, const void *filter, Index kernel_h, Index kernel_w,
                           const int32_t *columns, const void *start);
    /* c.: to[t] += sum over (p, r, i) of
     * grad[(p*rows + r)*grad_pitch + i] * image[p*plane_step + r*pitch + taps[t] + i] */
    void (*correlate_taps)(void *to, const void *grad, Index grad_pitch, const void *image,
                           Index pitch, Index rows, Index count, Index planes, Index plane_step,
                           const int32_t *taps, Index n_taps);
    /* Of numbers anywhere, in several short sums that are joined in float64. */
    double (*sum)(const void *numbers, Index count);
} Tiles;

/* Hidden: every module has the tiles of its own CPU level. */
__attribute__((visibility("hidden"))) const Tiles *tiles_of(Index bytes);

#endif
