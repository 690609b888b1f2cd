/* Residuals and activations, in whole vectors.
 *
 * a. The last vector of a row begins early enough to end with it. It is computed first, and written
 *    last, because the row may be overwritten in place.
 * b. exp(t) = 2^n * exp(r), where n is the integer next to t / log(2) and |r| <= log(2) / 2. The
 *    Taylor polynomial of exp(r) errs less than half a unit in the last place from degree 7 (float)
 *    and 13 (double) on. n * log(2) is subtracted in two parts, and the first part is exact.
 */
#ifndef T

#include "epilogue.h"

#include "clip.h"
#include "vectors.h"

#define TEMPLATE "epilogue.c"
#include "number.h"

#else /* the template */

#define IS_FLOAT (sizeof(T) == sizeof(float))

/* Return 2^n. */
ALWAYS_INLINE NAMED(Vec) NAMED(power_of_two)(NAMED(Mask) n) {
    return (NAMED(Vec))((n + (IS_FLOAT ? 127 : 1023)) << (IS_FLOAT ? 23 : 52));
}

/* Return exp(t) for t <= 0, as b. describes. */
ALWAYS_INLINE NAMED(Vec) NAMED(exponential)(NAMED(Vec) t) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Mask) Mask;
    static const double inverse_factorials[] = {
        1.0,
        1.0,
        1.0 / 2,
        1.0 / 6,
        1.0 / 24,
        1.0 / 120,
        1.0 / 720,
        1.0 / 5040,
        1.0 / 40320,
        1.0 / 362880,
        1.0 / 3628800,
        1.0 / 39916800,
        1.0 / 479001600,
        1.0 / 6227020800.0,
    };
    /* To add `magic` rounds to an integer, which is then in the low bits. */
    const Vec magic = NAMED(all)(IS_FLOAT ? 0x1.8p23 : 0x1.8p52);
    const double log_2_high = IS_FLOAT ? 0x1.63p-1 : 0x1.62e42feep-1;
    const double log_2_low = IS_FLOAT ? -0x1.bd0106p-13 : 0x1.a39ef35793c76p-33;
    /* For smaller t the result is zero. */
    t = NAMED(clip)(t, NAMED(all)(IS_FLOAT ? -104.0 : -746.0), NAMED(all)(0));
    Vec rounded = t * (T)0x1.71547652b82fep0 + magic;
    Mask n = (Mask)rounded - (Mask)magic, half = n >> 1;
    Vec r = t - (rounded - magic) * (T)log_2_high;
    r -= (rounded - magic) * (T)log_2_low;
    Vec sum = NAMED(all)(inverse_factorials[IS_FLOAT ? 7 : 13]);
    UNROLL for (int k = IS_FLOAT ? 6 : 12; k >= 0; k--) sum = sum * r + (T)inverse_factorials[k];
    /* Multiply by 2^n in two steps, because 2^n alone may be too small for the type. */
    return sum * NAMED(power_of_two)(half) * NAMED(power_of_two)(n - half);
}

ALWAYS_INLINE NAMED(Vec) NAMED(sigmoid)(NAMED(Vec) x) {
    NAMED(Mask) negative = x < NAMED(all)(0);
    NAMED(Vec) e = NAMED(exponential)(NAMED(select)(negative, x, -x));
    return NAMED(select)(negative, e, NAMED(all)(1)) / (e + (T)1);
}

ALWAYS_INLINE NAMED(Vec) NAMED(activate)(NAMED(Vec) x, NAMED(Vec) a, NAMED(Vec) b,
                                         const int kind) {
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
    finished = NAMED(finish_vector)(few[0], few[1], a, b, kind);
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
        *(NAMED(Loose) *)(to + i) =
            NAMED(finish_vector)(sums + i, residual ? residual + i : NULL, a, b, kind);
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
#undef IS_FLOAT

#endif
