/* Depthwise convolution of rows of a plane with 3 x 3 windows, for images that lie in the caches.
 *
 * a. Lanes are outputs of a row. Pixels are read where they lie: where a vector reaches beyond the
 *    ends of a row, a mask makes the load return zeros without reading memory; rows above and below
 *    the image are left out. So nothing is copied for the sake of padding.
 * b. Up to ROWWISE_ROWS rows of outputs are computed together, which share the pixels that are loaded.
 * c. With stride 2 a pair of vectors is loaded, of which every second lane is taken.
 * d. The order of each sum depends on nothing but the window.
 */
#ifndef T

#include "rowwise.h"
#include "clip.h"
#include "lanes.h"

#ifndef HINT
#define HINT 2
#endif
enum { ROWWISE_ROWS = 7, FEW_ROWWISE_ROWS = 4 };

#define TEMPLATE "rowwise.c"
#include "number.h"

#else /* the template */

/* The lanes of a vector of neighbouring pixels of a row that lie in the image. */
#if defined(__AVX2__)
typedef NAMED(Lanes) NAMED(Inside);
#else
typedef struct { Index from, to; } NAMED(Inside);
#endif

/* Return which lanes of the vector of pixels from x on lie in a row. */
ALWAYS_INLINE NAMED(Inside) NAMED(inside)(Index x, Index width) {
    const Index from = smaller(larger(-x, 0), LANES), to = smaller(larger(width - x, 0), LANES);
#if defined(__AVX2__)
    return NAMED(lanes_of)((((uint32_t)1 << to) - 1) & ~(((uint32_t)1 << from) - 1));
#else
    return (NAMED(Inside)){from, to};
#endif
}

/* Load a vector of pixels: all lanes, or those that a mask tells. */
ALWAYS_INLINE NAMED(Vec) NAMED(load_pixels)(const NAMED(Inside) *lanes, const T *from,
                                            const int masked) {
    if (!masked) return *(const NAMED(Loose) *)from;
#if defined(__AVX2__)
    return NAMED(load_lanes)(*lanes, from);
#else
    NAMED(Vec) x = {0};
    for (Index i = lanes->from; i < lanes->to; i++) x[i] = from[i];
    return x;
#endif
}

/* Load the pixels that the taps of a row of the window see; those of the first one begin at `from`.
 * Masks are those of the three vectors, or of a pair of vectors for taps 0 and 1 and one for tap 2. */
ALWAYS_INLINE void NAMED(load_taps)(NAMED(Vec) *taps, const T *from, const NAMED(Inside) *masks,
                                    const int S, const int masked) {
    if (S == 1) {
        UNROLL for (int kw = 0; kw < ROWWISE_KERNEL; kw++)
            taps[kw] = NAMED(load_pixels)(masks + kw, from + kw, masked);
        return;
    }
    NAMED(Vec) a = NAMED(load_pixels)(masks, from, masked);
    NAMED(Vec) b = NAMED(load_pixels)(masks + 1, from + LANES, masked);
    taps[0] = SHUFFLE(a, b, EVEN);
    taps[1] = SHUFFLE(a, b, ODD);
    a = NAMED(load_pixels)(masks + 2, from + 2, masked);
    b = NAMED(load_pixels)(masks + 3, from + LANES + 2, masked);
    taps[2] = SHUFFLE(a, b, EVEN);
}

/* Compute a vector of outputs of R rows. The outputs of the first one begin at row y and column x. */
ALWAYS_INLINE void NAMED(rowwise_of)(const RowwiseRows *rows, Index y, Index x,
                                     const NAMED(Vec) *weights, const NAMED(Inside) *masks,
                                     const int S, const int R, const int masked) {
    const Index top = (rows->first + y) * S - rows->top, pitch = rows->pitch;
    const Index columns = rows->columns, left = columns - x;
    const T *image = (const T *)rows->image + top * pitch + x * S - rows->left;
    const NAMED(Vec) start = (NAMED(Vec)){0} + *(const T *)rows->start;
    T *to = (T *)rows->to + y * columns + x;
    NAMED(Vec) sums[ROWWISE_ROWS];
    UNROLL for (int r = 0; r < R; r++) sums[r] = (NAMED(Vec)){0};
    UNROLL for (int i = 0; i < (R - 1) * S + ROWWISE_KERNEL; i++) {
        NAMED(Vec) taps[ROWWISE_KERNEL];
        if (top + i < 0 || top + i >= rows->height) continue;
        NAMED(load_taps)(taps, image + i * pitch, masks, S, masked);
        UNROLL for (int v = 0; v < S; v++)
            __builtin_prefetch(image + i * pitch + v * LANES + rows->ahead, 0, HINT);
        UNROLL for (int r = 0; r < R; r++)
            if (i >= r * S && i < r * S + ROWWISE_KERNEL)
                UNROLL for (int kw = 0; kw < ROWWISE_KERNEL; kw++)
                    sums[r] += weights[(i - r * S) * ROWWISE_KERNEL + kw] * taps[kw];
    }
    UNROLL for (int r = 0; r < R; r++) {
        sums[r] += start;
        if (rows->clips)
            sums[r] = NAMED(clip)(sums[r], NAMED(all)(rows->low), NAMED(all)(rows->high));
        /* What is written behind a row of one vector is written again with the next row. */
        if (left >= LANES || columns <= LANES)
            *(NAMED(Loose) *)(to + r * columns) = sums[r];
        else
            NAMED(store_some)(to + r * columns, sums[r], left);
    }
}

/* Compute all rows, R at a time. The last ones overlap those before them. */
ALWAYS_INLINE void NAMED(rowwise_rows)(const RowwiseRows *rows, const int S, const int R) {
    const T *filter = (const T *)rows->filter;
    NAMED(Vec) weights[ROWWISE_KERNEL * ROWWISE_KERNEL];
    UNROLL for (int t = 0; t < ROWWISE_KERNEL * ROWWISE_KERNEL; t++)
        weights[t] = (NAMED(Vec)){0} + filter[t];
    for (Index x = 0; x < rows->columns; x += LANES) {
        const Index from = x * S - rows->left, end = from + S * LANES + ROWWISE_KERNEL - 1;
        const int masked = from < 0 || end > rows->width;
        NAMED(Inside) masks[4];
        UNROLL for (int i = 0; i < 4; i++)
            masks[i] = NAMED(inside)(from + (S == 1 ? i : i / 2 * 2 + i % 2 * LANES), rows->width);
        for (Index y = 0; y < rows->rows; y += R) {
            const Index at = smaller(y, rows->rows - R);
            if (masked)
                NAMED(rowwise_of)(rows, at, x, weights, masks, S, R, 1);
            else
                NAMED(rowwise_of)(rows, at, x, weights, masks, S, R, 0);
        }
    }
}

static void NAMED(rowwise)(const RowwiseRows *rows) {
#define EACH_SIZE(S)                                                                    \
    if (rows->rows >= ROWWISE_ROWS)                                                     \
        NAMED(rowwise_rows)(rows, S, ROWWISE_ROWS);                                     \
    else if (rows->rows >= FEW_ROWWISE_ROWS)                                            \
        NAMED(rowwise_rows)(rows, S, FEW_ROWWISE_ROWS);                                 \
    else                                                                                \
        NAMED(rowwise_rows)(rows, S, 1)
    if (rows->stride == 1) {
        EACH_SIZE(1);
    } else {
        EACH_SIZE(2);
    }
#undef EACH_SIZE
}

#endif
