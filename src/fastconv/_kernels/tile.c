/* Register tiles: the arithmetic of convolution, with one source for every vector width and type.
 *
 * The code uses the compilers' vector extension (vectors.h), because compilers vectorise plain
 * loops over an array of accumulators unpredictably.
 *
 * a. In `multiply`, lanes are filters. TILE_PIXELS x 2 accumulators stay in registers for up to
 *    `terms` steps. A step loads two vectors of packed filters and broadcasts one number per
 *    pixel:
 *
 *        sums[r*pixels + q][lane] += sum over steps k of packed[k][lane] * rows[r][offset[k] + q]
 *
 *    In a forward convolution, a step is a tap (c, kh, kw), and the pixels are neighbours in one to
 *    seven rows. In the gradient of the filters, a step is a pixel, and the "pixels" are taps kw of
 *    rows (c, kh). With AVX-512 and NEON, 14 x 2 accumulators, 2 filters and 1 broadcast number
 *    use 31 of 32 registers; with AVX2, 6 x 2 + 3 use 15 of 16. SSE2 has no fused multiply-add and
 *    needs registers for temporaries, so it has 4 x 2 accumulators.
 * b. In `correlate`, lanes are pixels. It is for few filters per group. Four rows of outputs share
 *    the pixels that are loaded.
 * c. In `correlate_taps`, lanes are pixels that are summed over. It computes the gradient of the
 *    filters of b.
 * d. Accumulators are added to sums in memory, because one long accumulator loses digits as the sum
 *    grows. In a. this happens after `terms` steps, a number that the driver chooses, and in b. and
 *    c. at the end of the call.
 */
#ifndef T

#include <string.h>

#include "clip.h"
#include "lanes.h"
#include "tile.h"

/* All shapes of the register tile: (rows, pixels). */
#if TILE_PIXELS == 14
#define EACH_TILE(X)                                                                            \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11)    \
    X(1, 12) X(1, 13) X(1, 14) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(2, 7) X(3, 1)   \
    X(3, 2) X(3, 3) X(3, 4) X(4, 1) X(4, 2) X(4, 3) X(5, 1) X(5, 2) X(6, 1) X(6, 2) X(7, 1)      \
    X(7, 2)
#elif TILE_PIXELS == 6
#define EACH_TILE(X)                                                                            \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(2, 1) X(2, 2) X(2, 3) X(3, 1) X(3, 2)      \
    X(4, 1) X(5, 1) X(6, 1)
#else
#define EACH_TILE(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(2, 1) X(2, 2) X(3, 1) X(4, 1)
#endif

#define TEMPLATE "transpose.h"
#include "number.h"
#define TEMPLATE "tile.c"
#include "number.h"

#else /* the template */

/* ---- lanes are filters ----------------------------------------------------------------------- */

ALWAYS_INLINE void NAMED(multiply_of)(void *to, const void *from, const void *filters,
                                      const void *const *rows, const int32_t *restrict offsets,
                                      Index steps, Index partial_sums, const void *soon,
                                      Index soon_stride, const int R, const int Q, const int V) {
    typedef NAMED(Vec) Vec;
    Vec *sums = (Vec *)to;
    const Vec *restrict packed = (const Vec *)filters;
    const Vec *start = (const Vec *)from;
    const char *next = (const char *)soon;
    const T *row[TILE_ROWS];
    UNROLL for (int r = 0; r < R; r++) row[r] = (const T *)rows[r];
    for (; partial_sums > 0; partial_sums--) {
        Index terms = steps / partial_sums;
        Vec acc[TILE_PIXELS][TILE_VECTORS];
        UNROLL for (int p = 0; p < R * Q; p++)
            UNROLL for (int v = 0; v < V; v++) acc[p][v] = (Vec){0};
        for (Index k = 0; k < terms; k++, packed += V) {
            Index at = offsets[k];
            __builtin_prefetch(next, 0, 2);
            next += soon_stride;
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int q = 0; q < Q; q++) {
                    T x = row[r][at + q];
                    UNROLL for (int v = 0; v < V; v++) acc[r * Q + q][v] += packed[v] * x;
                }
        }
        UNROLL for (int p = 0; p < R * Q; p++)
            UNROLL for (int v = 0; v < V; v++)
                sums[p * V + v] = (start ? start[v] : sums[p * V + v]) + acc[p][v];
        start = NULL;
        offsets += terms;
        steps -= terms;
    }
}

#define TILE_ARGUMENTS                                                                          \
    void *sums, const void *start, const void *packed, const void *const *rows,                 \
        const int32_t *offsets, Index steps, Index partial_sums, const void *soon,              \
        Index soon_stride
#define DEFINE(R, Q)                                                                            \
    static void NAMED(multiply_##R##_##Q##_1)(TILE_ARGUMENTS) {                                 \
        NAMED(multiply_of)(sums, start, packed, rows, offsets, steps, partial_sums, soon,       \
                           soon_stride, R, Q, 1);                                               \
    }                                                                                           \
    static void NAMED(multiply_##R##_##Q##_2)(TILE_ARGUMENTS) {                                 \
        NAMED(multiply_of)(sums, start, packed, rows, offsets, steps, partial_sums, soon,       \
                           soon_stride, R, Q, 2);                                               \
    }
EACH_TILE(DEFINE)
#undef DEFINE

static void NAMED(multiply)(void *sums, const void *start, const void *packed,
                            const void *const *rows, const int32_t *offsets, Index steps,
                            Index terms, Index n_rows, Index pixels, Index vectors,
                            const void *soon, Index soon_stride) {
    static void (*const tiles[TILE_ROWS + 1][TILE_PIXELS + 1][TILE_VECTORS])(TILE_ARGUMENTS) = {
#define ENTRY(R, Q) [R][Q] = {NAMED(multiply_##R##_##Q##_1), NAMED(multiply_##R##_##Q##_2)},
        EACH_TILE(ENTRY)
#undef ENTRY
    };
    tiles[n_rows][pixels][vectors - 1](sums, start, packed, rows, offsets, steps,
                                       ceil_div(steps, terms), soon, soon_stride);
}
#undef TILE_ARGUMENTS

static void NAMED(unpack)(void *to, Index pitch, const void *from, Index pixels, Index vectors) {
    typedef NAMED(Vec) Vec;
    for (Index v = 0; v < vectors; v++)
        for (Index p = 0; p < pixels; p += LANES) {
            const Vec *sums = (const Vec *)from + p * vectors + v;
            T *lane = (T *)to + v * LANES * pitch + p;
            Vec rows[LANES];
            UNROLL for (int i = 0; i < LANES; i++)
                rows[i] = i < pixels - p ? sums[i * vectors] : (Vec){0};
            NAMED(transpose)(rows);
            UNROLL for (int i = 0; i < LANES; i++)
                *(NAMED(Loose) *)(lane + i * pitch) = rows[i];
        }
}

/* Finish and write a square of outputs, whose rows are those of filters. */
ALWAYS_INLINE void NAMED(write_square)(const TileOutputs *outputs, NAMED(Vec) *rows, T *to,
                                       const T *residual, Index filters, Index count) {
    const Index pitch = outputs->pitch;
    if (residual)
        UNROLL for (int i = 0; i < LANES; i++)
            if (i < filters) rows[i] += NAMED(load_some)(residual + i * pitch, count);
    if (outputs->clips)
        UNROLL for (int i = 0; i < LANES; i++)
            rows[i] =
                NAMED(clip)(rows[i], NAMED(all)(outputs->low), NAMED(all)(outputs->high));
    if (filters == LANES && count + outputs->spare >= LANES)
        UNROLL for (int i = 0; i < LANES; i++) *(NAMED(Loose) *)(to + i * pitch) = rows[i];
    else
        UNROLL for (int i = 0; i < LANES; i++)
            if (i < filters) NAMED(store_some)(to + i * pitch, rows[i], count);
}

static void NAMED(write)(const TileOutputs *outputs, const void *from, Index pixels,
                         Index vectors) {
    for (Index v = 0; v < vectors; v++)
        for (Index p = 0; p < pixels; p += LANES) {
            const NAMED(Vec) *sums = (const NAMED(Vec) *)from + p * vectors + v;
            const Index at = v * LANES * outputs->pitch + p, count = smaller(LANES, pixels - p);
            const T *residual = (const T *)outputs->residual;
            NAMED(Vec) rows[LANES];
            if (count == LANES)
                UNROLL for (int i = 0; i < LANES; i++) rows[i] = sums[i * vectors];
            else
                UNROLL for (int i = 0; i < LANES; i++)
                    rows[i] = i < count ? sums[i * vectors] : (NAMED(Vec)){0};
            NAMED(transpose)(rows);
            NAMED(write_square)(outputs, rows, (T *)outputs->to + at,
                                residual ? residual + at : NULL,
                                smaller(LANES, outputs->filters - v * LANES), count);
        }
}

static void NAMED(pack)(void *to, const void *from, Index pitch, Index filters, Index pixels,
                        Index vectors, Index readable) {
    typedef NAMED(Vec) Vec;
    for (Index v = 0; v < vectors; v++)
        for (Index p = 0; p < pixels; p += LANES) {
            const T *row = (const T *)from + v * LANES * pitch + p;
            Vec *packed = (Vec *)to + p * vectors + v, rows[LANES];
            Index n_rows = smaller(LANES, filters - v * LANES), count = smaller(LANES, pixels - p);
            Index end = larger(pitch, 0) * ((v + 1) * LANES - 1) + p + LANES;
            if (n_rows == LANES && (count == LANES || end <= readable)) {
                UNROLL for (int i = 0; i < LANES; i++)
                    rows[i] = *(const NAMED(Loose) *)(row + i * pitch);
            } else {
                memset(rows, 0, sizeof rows);
                for (Index i = 0; i < n_rows; i++)
                    for (Index j = 0; j < count; j++) rows[i][j] = row[i * pitch + j];
            }
            NAMED(transpose)(rows);
            if (count == LANES)
                UNROLL for (int i = 0; i < LANES; i++) packed[i * vectors] = rows[i];
            else
                for (Index i = 0; i < count; i++) packed[i * vectors] = rows[i];
        }
}

/* ---- lanes are pixels ------------------------------------------------------------------------ */

/* Set acc[r][v] to the sum that `correlate` adds to vector v of output row r. Neighbouring
 * output rows lie S source rows apart, and neighbouring vectors lie `vector_stride` numbers apart. */
ALWAYS_INLINE void NAMED(accumulate)(NAMED(Vec) (*restrict acc)[PLANAR_VECTORS],
                                     const T *restrict image, Index pitch,
                                     const T *restrict filter, Index kernel_w,
                                     const int32_t *restrict columns, Index vector_stride, const int KH,
                                     const int S, const int R, const int V) {
    typedef NAMED(Vec) Vec;
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) acc[r][v] = (Vec){0};
    for (Index kw = 0; kw < kernel_w; kw++) {
        const T *column = image + columns[kw];
        UNROLL for (int y = 0; y < (R - 1) * S + KH; y++)
            UNROLL for (int v = 0; v < V; v++) {
                Vec x = *(const NAMED(Loose) *)(column + y * pitch + v * vector_stride);
                UNROLL for (int r = 0; r < R; r++)
                    if (y >= r * S && y < r * S + KH)
                        acc[r][v] += filter[(y - r * S) * kernel_w + kw] * x;
            }
    }
}

ALWAYS_INLINE void NAMED(correlate_of)(T *to, Index to_pitch, const T *image, Index pitch,
                                       const T *filter, Index kernel_w, const int32_t *columns,
                                       const int KH, const int R, const int V) {
    NAMED(Vec) acc[PLANAR_ROWS][PLANAR_VECTORS];
    NAMED(accumulate)(acc, image, pitch, filter, kernel_w, columns, LANES, KH, 1, R, V);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++)
            *(NAMED(Loose) *)(to + r * to_pitch + v * LANES) += acc[r][v];
}

static Index NAMED(correlate)(void *to, Index to_pitch, Index out_rows, Index vectors,
                              const void *image, Index pitch, const void *filter, Index kernel_h,
                              Index kernel_w, const int32_t *columns) {
#define CASE(KH, R, V)                                                                          \
    NAMED(correlate_of)((T *)to, to_pitch, (const T *)image, pitch, (const T *)filter, kernel_w, \
                        columns, KH, R, V);                                                     \
    return KH
#define EACH_SIZE(KH)                                       \
    if (out_rows < PLANAR_ROWS) {                            \
        if (vectors < 2) { CASE(KH, 1, 1); }                \
        if (vectors < PLANAR_VECTORS) { CASE(KH, 1, 2); }    \
        CASE(KH, 1, PLANAR_VECTORS);                         \
    }                                                       \
    if (vectors < 2) { CASE(KH, PLANAR_ROWS, 1); }           \
    if (vectors < PLANAR_VECTORS) { CASE(KH, PLANAR_ROWS, 2); } \
    CASE(KH, PLANAR_ROWS, PLANAR_VECTORS)
    if (kernel_h >= 7) { EACH_SIZE(7); }
    if (kernel_h >= 5) { EACH_SIZE(5); }
    if (kernel_h >= 3) { EACH_SIZE(3); }
    EACH_SIZE(1);
#undef EACH_SIZE
#undef CASE
}

/* Write a vector of outputs; `left` are those of the plane, unless all `fits`. */
ALWAYS_INLINE void NAMED(store_outputs)(T *to, NAMED(Vec) sums, Index left, const int fits) {
    if (fits || left >= LANES)
        *(NAMED(Loose) *)to = sums;
    else
        memcpy(to, &sums, (size_t)left * sizeof(T));
}

/* Load fewer numbers than a vector has, and zeros behind them. This is called for the last vectors
 * of a plane only. Within the 144 places that call it, it would be a quarter of this file's time in
 * the compiler. */
static __attribute__((noinline)) NAMED(Vec) NAMED(load_rest)(const T *from, Index count) {
    return NAMED(load_some)(from, count);
}

/* Add the residual to such a vector, and clip it. */
ALWAYS_INLINE NAMED(Vec) NAMED(finish_outputs)(const PlaneOutputs *plane, Index at,
                                               NAMED(Vec) sums, Index left, const int fits) {
    if (plane->residual) {
        const T *residual = (const T *)plane->residual + at;
        if (fits || left >= LANES)
            sums += *(const NAMED(Loose) *)residual;
        else
            sums += NAMED(load_rest)(residual, left);
    }
    if (plane->clips) sums = NAMED(clip)(sums, NAMED(all)(plane->low), NAMED(all)(plane->high));
    return sums;
}

/* Compute a plane in pieces of R rows and V vectors. The last pieces overlap those before them,
 * so that they end with the plane. A row narrower than a vector overwrites numbers after it,
 * which are written again later. */
ALWAYS_INLINE void NAMED(correlate_plane_of)(const PlaneOutputs *plane, const int KH, const int S,
                                             const int R, const int V) {
    const Index out_h = plane->out_h, out_w = plane->out_w, pitch = plane->pitch;
    const Index vector_stride = V == 2 ? smaller(LANES, out_w - LANES) : LANES;
    const Index width = (V - 1) * vector_stride + LANES;
    const T *image = (const T *)plane->image, *filter = (const T *)plane->filter;
    const T start = *(const T *)plane->start;
    const int finishes = plane->residual || plane->clips;
    T *const to = (T *)plane->to;
    for (Index i = 0; i < out_h; i += R)
        for (Index j = 0; j < out_w; j += width) {
            Index y = smaller(i, out_h - R), x = larger(0, smaller(j, out_w - width));
            NAMED(Vec) acc[PLANAR_TALL][PLANAR_VECTORS];
            NAMED(accumulate)(acc, image + y * S * pitch + x, pitch, filter, plane->kernel_w,
                              plane->columns, vector_stride, KH, S, R, V);
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int v = 0; v < V; v++) acc[r][v] += start;
            const Index at = y * out_w + x, left = out_h * out_w - at;
            if (finishes)
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int v = 0; v < V; v++) {
                        Index q = r * out_w + v * vector_stride;
                        acc[r][v] = NAMED(finish_outputs)(plane, at + q, acc[r][v], left - q, V > 1);
                    }
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int v = 0; v < V; v++) {
                    Index q = r * out_w + v * vector_stride;
                    NAMED(store_outputs)(to + at + q, acc[r][v], left - q, V > 1);
                }
        }
}

/* All filters that there are tiles for: rows, and stride of the windows. */
#define EACH_PLANE(X) X(1, 1) X(2, 1) X(3, 1) X(3, 2) X(5, 1) X(5, 2)

static void NAMED(correlate_plane)(const PlaneOutputs *plane) {
    const Index out_h = plane->out_h, out_w = plane->out_w;
#define CASE(KH, S, R, V)                          \
    NAMED(correlate_plane_of)(plane, KH, S, R, V); \
    return
#define EACH_SIZE(KH, S)                                                     \
    if (plane->kernel_h == KH && plane->stride == S) {                       \
        if (out_w <= LANES) {                                                \
            if (out_h >= PLANAR_TALL) { CASE(KH, S, PLANAR_TALL, 1); }         \
            if (out_h >= PLANAR_ROWS) { CASE(KH, S, PLANAR_ROWS, 1); }         \
            CASE(KH, S, 1, 1);                                               \
        }                                                                    \
        if (out_w < PLANAR_VECTORS * LANES) {                                 \
            if (out_h >= PLANAR_ROWS) { CASE(KH, S, PLANAR_ROWS, 2); }         \
            CASE(KH, S, 1, 2);                                               \
        }                                                                    \
        if (out_h >= PLANAR_ROWS) { CASE(KH, S, PLANAR_ROWS, PLANAR_VECTORS); } \
        CASE(KH, S, 1, PLANAR_VECTORS);                                       \
    }
    EACH_PLANE(EACH_SIZE)
#undef EACH_SIZE
#undef CASE
}

static int NAMED(has_plane_tile)(Index kernel_h, Index stride) {
#define MATCHES(KH, S) || (kernel_h == KH && stride == S)
    return 0 EACH_PLANE(MATCHES);
#undef MATCHES
}
#undef EACH_PLANE

ALWAYS_INLINE void NAMED(correlate_taps_of)(T *restrict to, const T *restrict grad,
                                            Index grad_pitch, const T *restrict image,
                                            Index pitch, Index rows, Index count, Index planes,
                                            Index plane_stride, const int32_t *restrict taps,
                                            const int N) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Loose) Loose;
    typedef NAMED(Mask) Mask;
    Index whole = count / LANES * LANES;
    Vec acc[PLANAR_TAPS];
    Mask inside;
    for (int i = 0; i < LANES; i++) inside[i] = whole + i < count ? -1 : 0;
    UNROLL for (int t = 0; t < N; t++) acc[t] = (Vec){0};
    for (Index r = 0; r < planes * rows; r++, grad += grad_pitch, image += pitch) {
        if (r % rows == 0 && r) image += plane_stride - rows * pitch;
        for (Index i = 0; i < whole; i += LANES) {
            Vec g = *(const Loose *)(grad + i);
            UNROLL for (int t = 0; t < N; t++)
                acc[t] += g * *(const Loose *)(image + taps[t] + i);
        }
        if (whole == count) continue;
        /* Numbers after the row may be NaN, or subnormal, which takes a hundred cycles: mask
         * them. */
        Vec g = (Vec)((Mask) * (const Loose *)(grad + whole) & inside);
        UNROLL for (int t = 0; t < N; t++) {
            Vec product = g * *(const Loose *)(image + taps[t] + whole);
            acc[t] += (Vec)((Mask)product & inside);
        }
    }
    UNROLL for (int t = 0; t < N; t++) {
        T lanes[LANES];
        memcpy(lanes, &acc[t], sizeof lanes);
        for (int width = LANES / 2; width; width /= 2)
            for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
        to[t] += lanes[0];
    }
}

static void NAMED(correlate_taps)(void *to, const void *grad, Index grad_pitch, const void *image,
                                  Index pitch, Index rows, Index count, Index planes,
                                  Index plane_stride, const int32_t *taps, Index n_taps) {
    switch (n_taps) {
#define CASE(N)                                                                                 \
    case N:                                                                                     \
        NAMED(correlate_taps_of)((T *)to, (const T *)grad, grad_pitch, (const T *)image, pitch, \
                                 rows, count, planes, plane_stride, taps, N);                     \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9)
#undef CASE
    }
}

static double NAMED(sum)(const void *from, Index count) {
    const T *numbers = (const T *)from;
    double sum = 0;
    Index i = 0;
    while (i + 4 * LANES <= count) {
        NAMED(Vec) acc[4] = {{0}, {0}, {0}, {0}}, total;
        Index end = smaller(count, i + 256 * LANES) - 4 * LANES;
        for (; i <= end; i += 4 * LANES)
            UNROLL for (int v = 0; v < 4; v++)
                acc[v] += *(const NAMED(Loose) *)(numbers + i + v * LANES);
        total = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        for (int lane = 0; lane < LANES; lane++) sum += (double)total[lane];
    }
    for (; i < count; i++) sum += (double)numbers[i];
    return sum;
}

static const Tiles NAMED(tiles) = {LANES, NAMED(multiply), NAMED(unpack), NAMED(pack),
                                   NAMED(correlate), NAMED(correlate_plane), NAMED(has_plane_tile),
                                   NAMED(correlate_taps), NAMED(sum), NAMED(write)};

#endif
