/* The derivatives of activations, in whole vectors. This file is a template (see number.h).
 *
 * A sigmoid's derivative follows from its result, so that the exponential is not computed again.
 */
#ifndef T

#include "derivatives.h"

#include <string.h>

#include "clip.h"
#include "exponential.h"
#include "vectors.h"

#define TEMPLATE "derivatives.c"
#include "number.h"

#else /* the template */

ALWAYS_INLINE NAMED(Vec)
    NAMED(derivative)(NAMED(Vec) saved, NAMED(Vec) a, NAMED(Vec) b, const int kind) {
    const NAMED(Vec) zero = NAMED(all)(0), one = NAMED(all)(1);
    NAMED(Vec) y;
    switch (kind) {
        case SIGMOID: return saved * (one - saved);
        case SILU: y = NAMED(sigmoid)(saved); return y + saved * y * (one - y);
        default: /* HARD_SWISH: x * y, where y is constant at its bounds. */
            y = NAMED(clip)(a * saved + b, zero, one);
            return y + NAMED(select)((y > zero) & (y < one), a * saved, zero);
    }
}

ALWAYS_INLINE void NAMED(differentiate_kind)(T *to, const T *grad, const T *saved, Index count,
                                             const Activation *activation, const int kind) {
    const NAMED(Vec) a = NAMED(all)(activation->a), b = NAMED(all)(activation->b);
    T few[2][LANES] = {{0}, {0}};
    NAMED(Vec) last;
    Index i = 0;
    size_t rest;
    for (; i + LANES <= count; i += LANES)
        *(NAMED(Loose) *)(to + i) = *(const NAMED(Loose) *)(grad + i) *
                                    NAMED(derivative)(*(const NAMED(Loose) *)(saved + i), a, b,
                                                      kind);
    rest = (size_t)(count - i) * sizeof(T);
    memcpy(few[0], grad + i, rest);
    memcpy(few[1], saved + i, rest);
    last = *(const NAMED(Loose) *)few[0] *
           NAMED(derivative)(*(const NAMED(Loose) *)few[1], a, b, kind);
    memcpy(to + i, &last, rest);
}

static void NAMED(differentiate)(void *to, const void *grad, const void *saved, Index count,
                                 const Activation *activation) {
#define CASE(KIND)                                                                                \
    case KIND:                                                                                    \
        NAMED(differentiate_kind)((T *)to, (const T *)grad, (const T *)saved, count, activation, \
                                  KIND);                                                          \
        break;
    switch (activation->kind) {
        CASE(SIGMOID)
        CASE(SILU)
        CASE(HARD_SWISH)
    }
#undef CASE
}

#endif
