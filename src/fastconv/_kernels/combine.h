/* How the results of several filters become one: their sum, or the root of the sum of their squares. */
#ifndef FASTCONV_COMBINE_H
#define FASTCONV_COMBINE_H

#include <math.h>

#include "correlation.h"
#include "number.h"

typedef enum {
    REPLACE,
    ADD,
    SQUARE, /* The first of several squares. */
    ADD_SQUARE,
    ADD_LAST_SQUARE,
    MAGNITUDE, /* The only square. */
    COMBINATIONS,
} Combination;

#define COMBINED(NAME, T, VALUE)                                         \
    static void NAME##_##T(void *to, const void *results, Index count) { \
        for (Index i = 0; i < count; i++) {                              \
            T before = ((T *)to)[i], x = ((const T *)results)[i];        \
            (void)before;                                                \
            ((T *)to)[i] = (T)(VALUE);                                   \
        }                                                                \
    }
#define SQUARES(T, ROOT)                            \
    COMBINED(square, T, x *x)                       \
    COMBINED(add_square, T, before + x * x)         \
    COMBINED(add_last_square, T, ROOT(before + x * x)) \
    COMBINED(magnitude, T, ROOT(x *x))
COMBINED(add, float, before + x)
COMBINED(add, double, before + x)
COMBINED(add, uint8_t, before + x)
COMBINED(add, uint16_t, before + x)
COMBINED(add, uint32_t, before + x)
COMBINED(add, uint64_t, before + x)
SQUARES(float, sqrtf)
SQUARES(double, sqrt)
#undef COMBINED
#undef SQUARES

/* Return what combines results of a type. Only floats have squares. */
static inline Combine combine_of(Number number, Combination how) {
    static const Combine adds[NUMBERS] = {
        [FLOAT32] = add_float,   [FLOAT64] = add_double,  [UINT8] = add_uint8_t,
        [INT8] = add_uint8_t,    [UINT16] = add_uint16_t, [INT16] = add_uint16_t,
        [UINT32] = add_uint32_t, [INT32] = add_uint32_t,  [UINT64] = add_uint64_t,
        [INT64] = add_uint64_t,
    };
    static const Combine squares[COMBINATIONS][2] = {
        [SQUARE] = {square_float, square_double},
        [ADD_SQUARE] = {add_square_float, add_square_double},
        [ADD_LAST_SQUARE] = {add_last_square_float, add_last_square_double},
        [MAGNITUDE] = {magnitude_float, magnitude_double},
    };
    return how == ADD ? adds[number] : squares[how][number == FLOAT64];
}

#endif
