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

#include <math.h>

#include "clip.h"
#include "lanes.h"
#include "rowwise.h"

enum {
    ROWWISE_ROWS = 7,
    FEW_ROWWISE_ROWS = 4,
    ROWWISE_AHEAD =
        2, /* Channels that lie so many behind the one that is computed are prefetched. */
};

typedef enum {
    INNER,      /* All pixels of a vector's taps lie in the image. */
    AT_EDGES,   /* Masks tell which ones do. */
    WHOLE_ROWS, /* As well; the vectors of the first taps contain all pixels of the others. */
} Edges;

#define TEMPLATE "rowwise.c"
#include "number.h"

#else /* the template */

/* The lanes of a vector of neighbouring pixels of a row that lie in the image. */
#if defined(__AVX2__)
typedef NAMED(Lanes) NAMED(Inside);
#else
typedef struct {
    Index from, to;
} NAMED(Inside);
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
ALWAYS_INLINE NAMED(Vec)
    NAMED(load_pixels)(const NAMED(Inside) *lanes, const T *from, const int masked) {
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
 * Masks are those of the three vectors that are loaded. With stride 2, those of taps 0 and 1 lie in the
 * first two, and only the last pixel of tap 2 lies in the third. */
ALWAYS_INLINE void NAMED(load_taps)(NAMED(Vec) *taps, const T *from, const NAMED(Inside) *masks,
                                    const int S, const Edges edges) {
    const int masked = edges != INNER;
    NAMED(Vec) a = NAMED(load_pixels)(masks, from, masked), b;
    if (S == 1) {
        taps[0] = a;
    UNROLL for (int kw = 1; kw < ROWWISE_KERNEL; kw++)
            taps[kw] = edges == WHOLE_ROWS ? SHUFFLE(taps[kw - 1], a, AFTER)
                                           : NAMED(load_pixels)(masks + kw, from + kw, masked);
        return;
    }
    b = NAMED(load_pixels)(masks + 1, from + LANES, masked);
    taps[0] = SHUFFLE(a, b, EVEN);
    taps[1] = SHUFFLE(a, b, ODD);
    if (edges != WHOLE_ROWS) a = NAMED(load_pixels)(masks + 2, from + 2 * LANES, masked);
    taps[2] = SHUFFLE(taps[0], a, AFTER);
}

/* What the register tile knows of all rows: copies, which stores of outputs cannot change. */
typedef struct {
    Index top, height, pitch, columns, ahead;
    const T *image;
    T *to;
    NAMED(Vec) weights[ROWWISE_KERNEL * ROWWISE_KERNEL], start, low, high;
    NAMED(Inside) masks[ROWWISE_KERNEL];
} NAMED(Rowwise);

/* Compute a vector of outputs of R rows. The outputs of the first one begin at row y and column x, and
 * their pixels at column `from` of the image. */
ALWAYS_INLINE void NAMED(rowwise_of)(const NAMED(Rowwise) *know, Index y, Index x, Index from,
                                     const int S, const int R, const Edges edges) {
    static const T zeros[4 * LANES];
    const Index top = know->top + y * S, columns = know->columns;
    const T *row = know->image + top * know->pitch + from;
    T *to = know->to + y * columns + x;
    NAMED(Vec) sums[ROWWISE_ROWS];
    UNROLL for (int r = 0; r < R; r++) sums[r] = (NAMED(Vec)){0};
    UNROLL for (int i = 0; i < (R - 1) * S + ROWWISE_KERNEL; i++, row += know->pitch) {
        NAMED(Vec) taps[ROWWISE_KERNEL];
        const int is_inside = (size_t)(top + i) < (size_t)know->height;
        UNROLL for (int v = 0; v < S; v++) __builtin_prefetch(row + v * LANES + know->ahead, 0, 2);
        NAMED(load_taps)(taps, is_inside ? row : zeros, know->masks, S, edges);
        UNROLL for (int r = 0; r < R; r++)
            if (i >= r * S && i < r * S + ROWWISE_KERNEL)
                UNROLL for (int kw = 0; kw < ROWWISE_KERNEL; kw++)
                    sums[r] += know->weights[(i - r * S) * ROWWISE_KERNEL + kw] * taps[kw];
    }
    UNROLL for (int r = 0; r < R; r++) {
        sums[r] = NAMED(clip)(sums[r] + know->start, know->low, know->high);
        /* What is written behind a row of one vector is written again with the next row. */
        if (edges == WHOLE_ROWS || columns - x >= LANES || columns <= LANES)
            *(NAMED(Loose) *)(to + r * columns) = sums[r];
        else
            NAMED(store_some)(to + r * columns, sums[r], columns - x);
    }
}

ALWAYS_INLINE void NAMED(set_masks)(NAMED(Rowwise) *know, Index from, Index width, const int S) {
    UNROLL for (int i = 0; i < ROWWISE_KERNEL; i++)
        know->masks[i] = NAMED(inside)(from + (S == 1 ? i : i * LANES), width);
}

/* Compute all rows of a channel, R at a time. The last ones overlap those before them. */
ALWAYS_INLINE void NAMED(rowwise_channel)(NAMED(Rowwise) *know, const RowwiseRows *rows,
                                          int is_whole, const int S, const int R) {
    const Index n_rows = rows->rows, last = n_rows - R;
    if (is_whole) {
        for (Index y = 0; y < n_rows; y += R)
            NAMED(rowwise_of)(know, smaller(y, last), 0, -rows->left, S, R, WHOLE_ROWS);
        return;
    }
    for (Index x = 0; x < rows->columns; x += LANES) {
        const Index from = x * S - rows->left;
        const Index end = from + (S == 1 ? LANES + ROWWISE_KERNEL - 1 : ROWWISE_KERNEL * LANES);
        const int inner = from >= 0 && end <= rows->width;
        if (!inner) NAMED(set_masks)(know, from, rows->width, S);
        for (Index y = 0; y < n_rows; y += R)
            if (inner)
                NAMED(rowwise_of)(know, smaller(y, last), x, from, S, R, INNER);
            else
                NAMED(rowwise_of)(know, smaller(y, last), x, from, S, R, AT_EDGES);
    }
}

ALWAYS_INLINE void NAMED(rowwise_of_all)(const RowwiseRows *rows, const int S, const int R) {
    const int is_whole = (rows->columns - 1) * S + ROWWISE_KERNEL <= S * LANES;
    const T *filter = (const T *)rows->filters, *bias = (const T *)rows->bias;
    NAMED(Rowwise) know = {
        .top = rows->first * S - rows->top, .height = rows->height, .pitch = rows->pitch,
        .columns = rows->columns, .image = (const T *)rows->image, .to = (T *)rows->to,
        .low = NAMED(all)(rows->clips ? rows->low : -INFINITY),
        .high = NAMED(all)(rows->clips ? rows->high : INFINITY),
    };
    if (is_whole) NAMED(set_masks)(&know, -rows->left, rows->width, S);
    for (Index c = 0; c < rows->channels; c++) {
        know.ahead = c + ROWWISE_AHEAD < rows->channels ? ROWWISE_AHEAD * rows->image_stride : 0;
        UNROLL for (int t = 0; t < ROWWISE_KERNEL * ROWWISE_KERNEL; t++)
            know.weights[t] = (NAMED(Vec)){0} + *filter++;
        know.start = (NAMED(Vec)){0} + (bias ? bias[c] : 0);
        NAMED(rowwise_channel)(&know, rows, is_whole, S, R);
        know.image += rows->image_stride;
        know.to += rows->to_stride;
    }
}

static void NAMED(rowwise)(const RowwiseRows *rows) {
#define EACH_SIZE(S)                                           \
    if (rows->rows >= ROWWISE_ROWS)                            \
        NAMED(rowwise_of_all)(rows, S, ROWWISE_ROWS);          \
    else if (rows->rows >= FEW_ROWWISE_ROWS)                   \
        NAMED(rowwise_of_all)(rows, S, FEW_ROWWISE_ROWS);      \
    else                                                       \
        NAMED(rowwise_of_all)(rows, S, 1)
    if (rows->stride == 1) {
        EACH_SIZE(1);
    } else {
        EACH_SIZE(2);
    }
#undef EACH_SIZE
}

#endif
