/* The interface of the transforms of transforms.c, which explains d. */
#ifndef FASTCONV_TRANSFORMS_H
#define FASTCONV_TRANSFORMS_H

#include "window.h"

enum { WINOGRAD_TAPS = 3, LARGEST_TILE = 4, MOST_POSITIONS = 6 };

typedef void (*PlaneTransform)(void *to, Index pitch, Index position_stride,
                               const void *const *rows, Index tiles);

typedef struct {
    /* Set to[position*position_stride + t] = (B' d B)[position] for `tiles` neighbouring tiles. Tile t
     * begins at from[t*m], and its rows lie `pitch` apart. Up to lanes - 1 more tiles are read
     * and written. */
    void (*pixels)(void *to, Index position_stride, const void *from, Index pitch, Index tiles);
    /* Set to[position*position_stride + f] = (G g G')[position] for `lanes` filters from[tap][f]. */
    void (*filters)(void *to, Index position_stride, const void *from, Index lanes);
    /* Set to[y*pitch + x] = start + (A' m A)[y][x % m] for tile x / m, whose products lie at
     * from[position*position_stride + tile]. `bad` becomes NaN in the lane of a tile with an output that is
     * not finite. */
    void (*outputs)(void *to, Index pitch, const void *from, Index position_stride, Index vectors,
                    const void *start, void *bad);
    /* See d. For a row of tiles, set to[position*position_stride + t*pitch] = B' d B (plane_pixels) or A d
     * A' of m x m numbers (plane_grads). `rows` contains a vector of planes for each column. */
    PlaneTransform plane_pixels, plane_grads;
    /* Set to[i][tap][vector] = G' m G for the sums [i][vector] at from[position*position_stride + ...].
     * `bad` is a vector that becomes NaN in the lanes of results that are not finite. */
    void (*taps)(void *to, const void *from, Index position_stride, Index count, Index vectors,
                 void *bad);
} Transforms;

#endif
