/* The inner loops of average pooling: sums of the taps of neighbouring windows, and means.
 *
 * A vector of sums stays in registers while all taps are added. This file is a template (see
 * number.h).
 */
#ifndef T
#ifndef FASTCONV_AVERAGE_H
#define FASTCONV_AVERAGE_H

#include "number.h"
#include "vectors.h"
#include "window.h"

typedef struct {
    /* Add to to[i] the sums of every row_taps taps taps[t][i], which are formed first, because short
     * sums lose fewer digits. to[i] begins as zero unless `begun`. */
    void (*add_taps)(void *to, const char *const *taps, Index n_taps, Index row_taps, Index count,
                     int begun);
    /* Divide to[i] by rows * columns[i]. */
    void (*divide)(void *to, Index rows, const Index *columns, Index count);
    /* Divide to[i] by one number. */
    void (*divide_all)(void *to, Index positions, Index count);
    /* Set to[i] to element q of `first` or `others`, where position + i = q * stride + p: of `first`
     * if p < n_first. */
    void (*merge)(void *to, const void *first, const void *others, Index count, Index position,
                  Index stride, Index n_first);
} Averages;

typedef float Four_float __attribute__((vector_size(16), aligned(4), may_alias));
typedef double Four_double __attribute__((vector_size(32), aligned(8), may_alias));

#define TEMPLATE "average.h"
#include "number.h"

static inline const Averages *averages_of(Number number) {
    return number == FLOAT32 ? &averages_float : &averages_double;
}

#endif
#else /* the template */

/* Add the taps of `vectors` vectors of type V, beginning with element i. */
#define SUM_BLOCK(V, vectors)                                                                 \
    do {                                                                                      \
        const Index first = i * (Index)sizeof(T);                                             \
        V total[vectors], sum[vectors];                                                       \
        UNROLL for (int v = 0; v < vectors; v++)                                              \
            total[v] = begun ? ((const V *)((char *)to + first))[v] : (V){0};                 \
        for (Index t = 0; t < n_taps;) {                                                      \
            const Index end = t + row_taps;                                                   \
            UNROLL for (int v = 0; v < vectors; v++) sum[v] = (V){0};                         \
            for (; t < end; t++)                                                              \
                UNROLL for (int v = 0; v < vectors; v++)                                      \
                    sum[v] += ((const V *)(taps[t] + first))[v];                              \
            UNROLL for (int v = 0; v < vectors; v++) total[v] += sum[v];                      \
        }                                                                                     \
        UNROLL for (int v = 0; v < vectors; v++) ((V *)((char *)to + first))[v] = total[v];   \
    } while (0)

static void NAMED(average_taps)(void *to, const char *const *taps, Index n_taps, Index row_taps,
                                Index count, int begun) {
    Index i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) SUM_BLOCK(NAMED(Loose), 4);
    for (; i + LANES <= count; i += LANES) SUM_BLOCK(NAMED(Loose), 1);
    for (; i + 4 <= count; i += 4) SUM_BLOCK(NAMED(Four), 1);
    for (; i < count; i++) {
        T total = begun ? ((const T *)to)[i] : 0;
        for (Index t = 0; t < n_taps;) {
            T sum = 0;
            for (const Index end = t + row_taps; t < end; t++) sum += ((const T *)taps[t])[i];
            total += sum;
        }
        ((T *)to)[i] = total;
    }
}
#undef SUM_BLOCK

static void NAMED(divide_means)(void *to, Index rows, const Index *columns, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] /= (T)(rows * columns[i]);
}

static void NAMED(divide_all_means)(void *to, Index positions, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] /= (T)positions;
}

static void NAMED(merge_sums)(void *restrict to, const void *restrict first,
                              const void *restrict others, Index count, Index position,
                              Index stride, Index n_first) {
    Index q = position / stride, p = position % stride;
    for (Index i = 0; i < count; i++) {
        ((T *)to)[i] = ((const T *)(p < n_first ? first : others))[q];
        if (++p == stride) p = 0, q++;
    }
}

static const Averages NAMED(averages) = {NAMED(average_taps), NAMED(divide_means),
                                         NAMED(divide_all_means), NAMED(merge_sums)};

#endif
