/* The exponential function and the sigmoid of vectors. This file is a template (see number.h).
 *
 * exp(t) = 2^n * exp(r), where n is the integer next to t / log(2) and |r| <= log(2) / 2. The
 * Taylor polynomial of exp(r) errs less than half a unit in the last place from degree 7 (float)
 * and 13 (double) on. n * log(2) is subtracted in two parts, and the first part is exact.
 */
#ifndef T
#ifndef FASTCONV_EXPONENTIAL_H
#define FASTCONV_EXPONENTIAL_H

#include "clip.h"
#include "vectors.h"

#define TEMPLATE "exponential.h"
#include "number.h"

#endif
#else /* the template */

#define IS_FLOAT (sizeof(T) == sizeof(float))

/* Return 2^n. */
ALWAYS_INLINE NAMED(Vec) NAMED(power_of_two)(NAMED(Mask) n) {
    return (NAMED(Vec))((n + (IS_FLOAT ? 127 : 1023)) << (IS_FLOAT ? 23 : 52));
}

/* Return exp(t) for t <= 0, as described above. */
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
#undef IS_FLOAT

#endif
