/* Residuals and activations, in whole vectors.
 *
 * The last vector of a row begins early enough to end with it. It is computed first, and written
 * last, because the row may be overwritten in place.
 */
#ifndef T

#include "epilogue.h"

#include "clip.h"
#include "exponential.h"
#include "vectors.h"

#define TEMPLATE "epilogue.c"
#include "number.h"

#else /* the template */

ALWAYS_INLINE NAMED(Vec) NAMED(activate)(NAMED(Vec) x, NAMED(Vec) a, NAMED(Vec) b, const int kind) {
    switch (kind) {
        case CLIP: return NAMED(clip)(x, a, b);
        case LEAKY_RELU: return NAMED(select)(x < NAMED(all)(0), a * x, x);
        case HARD_SIGMOID: return NAMED(clip)(a * x + b, NAMED(all)(0), NAMED(all)(1));
        case HARD_SWISH: return x * NAMED(clip)(a * x + b, NAMED(all)(0), NAMED(all)(1));
        case SIGMOID: return NAMED(sigmoid)(x);
        case SILU: return x * NAMED(sigmoid)(x);
        default: return x;
    }
}

ALWAYS_INLINE NAMED(Vec) NAMED(finish_vector)(const T *sums, const T *residual, NAMED(Vec) a,
                                              NAMED(Vec) b, const int kind) {
    NAMED(Vec) x = *(const NAMED(Loose) *)sums;
    if (residual) x += *(const NAMED(Loose) *)residual;
    return NAMED(activate)(x, a, b, kind);
}

/* Finish a row that is shorter than a vector. */
ALWAYS_INLINE void NAMED(finish_few)(T *to, const T *sums, const T *residual, Index count,
                                     NAMED(Vec) a, NAMED(Vec) b, const int kind) {
    T few[2][LANES] = {{0}, {0}};
    NAMED(Vec) finished;
    for (Index i = 0; i < count; i++) few[0][i] = sums[i];
    for (Index i = 0; residual && i < count; i++) few[1][i] = residual[i];
    finished = NAMED(finish_vector)(few[0], residual ? few[1] : NULL, a, b, kind);
    for (Index i = 0; i < count; i++) to[i] = finished[i];
}

ALWAYS_INLINE void NAMED(finish_row)(T *to, const T *sums, const T *residual, Index count,
                                     NAMED(Vec) a, NAMED(Vec) b, const int kind) {
    const Index end = count - LANES;
    NAMED(Vec) last;
    if (end < 0) {
        NAMED(finish_few)(to, sums, residual, count, a, b, kind);
        return;
    }
    last = NAMED(finish_vector)(sums + end, residual ? residual + end : NULL, a, b, kind);
    for (Index i = 0; i < end; i += LANES)
        *(NAMED(Loose) *)(to + i) = NAMED(finish_vector)(sums + i, residual ? residual + i : NULL,
                                                         a, b, kind);
    *(NAMED(Loose) *)(to + end) = last;
}

ALWAYS_INLINE void NAMED(finish_rows)(char *to, Index to_stride, const char *sums, Index pitch,
                                      const char *residual, Index rows, Index count,
                                      const Activation *activation, const int kind) {
    const NAMED(Vec) a = NAMED(all)(activation->a), b = NAMED(all)(activation->b);
    for (Index r = 0; r < rows; r++, to += to_stride, sums += pitch)
        if (residual) {
            NAMED(finish_row)((T *)to, (const T *)sums, (const T *)residual, count, a, b, kind);
            residual += to_stride;
        } else {
            NAMED(finish_row)((T *)to, (const T *)sums, NULL, count, a, b, kind);
        }
}

static void NAMED(finish)(void *to, Index to_stride, const void *sums, Index pitch,
                          const void *residual, Index rows, Index count,
                          const Activation *activation) {
#define CASE(KIND)                                                                              \
    case KIND:                                                                                  \
        NAMED(finish_rows)((char *)to, to_stride, (const char *)sums, pitch,                    \
                           (const char *)residual, rows, count, activation, KIND);              \
        break;
    switch (activation->kind) {
        CASE(IDENTITY)
        CASE(CLIP)
        CASE(LEAKY_RELU)
        CASE(HARD_SIGMOID)
        CASE(HARD_SWISH)
        CASE(SIGMOID)
        CASE(SILU)
    }
#undef CASE
}

#endif
