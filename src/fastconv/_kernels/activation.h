/* Rectification, masks and their products, of contiguous rows. */
#ifndef FASTCONV_ACTIVATION_H
#define FASTCONV_ACTIVATION_H

#include <stdint.h>

#include "number.h"
#include "window.h"

typedef struct {
    /* Set to[i] = x[i] <= 0 ? 0 : x[i]. */
    void (*rectify)(void *to, const void *x, Index count);
    /* Do the same, and set mask[i] = x[i] <= 0. */
    void (*rectify_masked)(void *to, uint8_t *mask, const void *x, Index count);
    /* Set to[i] = mask[i] ? 0 : grad[i]. */
    void (*clear)(void *to, const void *grad, const uint8_t *mask, Index count);
} Activations;

/* The functions of float32 and float64. */
typedef struct {
    /* Set mask[i] = y[i] <= low || y[i] >= high. */
    void (*mark)(uint8_t *mask, const void *y, Index count, double low, double high);
    /* Set to[i] = x[i] * (mask[i] ? marked : others). */
    void (*scale)(void *to, const void *x, const uint8_t *mask, Index count, double marked,
                  double others);
} Masks;

/* Rectification: numbers that are not positive become zero, and NaN stays NaN.
 *
 * Test the bits of a float16: it is not positive if it is zero, or lies between minus zero and
 * minus infinity. */
#define NOT_POSITIVE_HALF(v) ((v) == 0 || ((v) >= 0x8000 && (v) <= 0xfc00))
#define NOT_POSITIVE(v) ((v) <= 0)

#define DEFINE(NAME, T, ZEROED)                                                                \
    static void rectify_##NAME(void *to, const void *x, Index count) {                         \
        T *restrict out = (T *)to;                                                             \
        const T *restrict in = (const T *)x;                                                   \
        for (Index i = 0; i < count; i++) out[i] = ZEROED(in[i]) ? 0 : in[i];                  \
    }                                                                                          \
    static void rectify_masked_##NAME(void *to, uint8_t *restrict mask, const void *x,         \
                                      Index count) {                                           \
        T *restrict out = (T *)to;                                                             \
        const T *restrict in = (const T *)x;                                                   \
        for (Index i = 0; i < count; i++) {                                                    \
            out[i] = ZEROED(in[i]) ? 0 : in[i];                                                \
            mask[i] = ZEROED(in[i]);                                                           \
        }                                                                                      \
    }                                                                                          \
    static void clear_##NAME(void *to, const void *grad, const uint8_t *restrict mask,         \
                             Index count) {                                                    \
        T *restrict out = (T *)to;                                                             \
        const T *restrict from = (const T *)grad;                                              \
        for (Index i = 0; i < count; i++) out[i] = mask[i] ? 0 : from[i];                      \
    }                                                                                          \
    static const Activations activations_##NAME = {rectify_##NAME, rectify_masked_##NAME,      \
                                                   clear_##NAME};
DEFINE(half, uint16_t, NOT_POSITIVE_HALF)
DEFINE(float, float, NOT_POSITIVE)
DEFINE(double, double, NOT_POSITIVE)
#undef DEFINE
#undef NOT_POSITIVE
#undef NOT_POSITIVE_HALF

#define DEFINE(T)                                                                               \
    static void mark_##T(uint8_t *restrict mask, const void *y, Index count, double low,        \
                         double high) {                                                         \
        const T *restrict from = (const T *)y;                                                  \
        const T least = (T)low, most = (T)high;                                                 \
        for (Index i = 0; i < count; i++) mask[i] = (from[i] <= least) | (from[i] >= most);     \
    }                                                                                           \
    static void scale_##T(void *to, const void *x, const uint8_t *restrict mask, Index count,   \
                          double marked, double others) {                                       \
        T *restrict out = (T *)to;                                                              \
        const T *restrict from = (const T *)x;                                                  \
        const T yes = (T)marked, no = (T)others;                                                \
        for (Index i = 0; i < count; i++) out[i] = from[i] * (mask[i] ? yes : no);              \
    }                                                                                           \
    static const Masks masks_##T = {mark_##T, scale_##T};
DEFINE(float)
DEFINE(double)
#undef DEFINE

static inline const Activations *activations_of(Number number) {
    static const Activations *const table[NUMBERS] = {
        [FLOAT16] = &activations_half,
        [FLOAT32] = &activations_float,
        [FLOAT64] = &activations_double,
    };
    return table[number];
}

static inline const Masks *masks_of(Number number) {
    return number == FLOAT64 ? &masks_double : &masks_float;
}

#endif
