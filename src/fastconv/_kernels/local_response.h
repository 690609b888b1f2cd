/* Normalisation by the channels around: the inner loops of local_response.pyx, on runs of pixels.
 * This file is a template (see number.h).
 *
 * Powers by -1/2, -3/4 and -1 are computed with square roots, which are vectors' and correctly
 * rounded. Of all others the C library's `pow` is asked for each number.
 */
#ifndef T
#ifndef FASTCONV_LOCAL_RESPONSE_H
#define FASTCONV_LOCAL_RESPONSE_H

#include <math.h>
#include <string.h>

#include "number.h"

/* The scale is k + alpha * (sum of the squares of the channels around); beta is its exponent. */
typedef struct {
    double alpha, beta, k;
} Response;

typedef struct {
    /* Compute the scales of `count` pixels of a channel from the rows of the channels around, which
     * lie `pitch` numbers apart. */
    void (*scale)(void *scales, const void *around, Index pitch, Index channels, Index count,
                  const Response *response);
    /* Replace scales by their powers. */
    void (*power)(void *scales, Index count, const Response *response);
    void (*multiply)(void *to, const void *x, const void *factors, Index count);
    /* Turn scales into factors, and compute dout * x * factor / scale. */
    void (*weigh)(void *weights, void *scales, const void *x, const void *dout, Index count,
                  const Response *response);
    /* Write dout * factor - 2 * alpha * beta * x * (sum of the weights of the channels around). */
    void (*gradient)(void *to, const void *x, const void *dout, const void *factors,
                     const void *around, Index pitch, Index channels, Index count,
                     const Response *response);
} Responses;

#define POWER_float powf
#define POWER_double pow
#define ROOT_float sqrtf
#define ROOT_double sqrt

#define TEMPLATE "local_response.h"
#include "number.h"

/* Half-precision numbers come as float32. */
static inline const Responses *responses_of(Number number) {
    static const Responses *const table[NUMBERS] = {
        [FLOAT16] = &responses_float,
        [FLOAT32] = &responses_float,
        [FLOAT64] = &responses_double,
    };
    return table[number];
}

#endif
#else /* the template */

/* Every sum is computed anew. If it slid over the channels, each rounding of a large square would
 * remain in the sums of the channels after it. */
static void NAMED(scale)(void *scales, const void *around, Index pitch, Index channels, Index count,
                         const Response *response) {
    T *restrict to = (T *)scales;
    T alpha = (T)response->alpha, k = (T)response->k;
    memset(to, 0, (size_t)count * sizeof(T));
    for (Index c = 0; c < channels; c++) {
        const T *restrict x = (const T *)around + c * pitch;
        for (Index i = 0; i < count; i++) to[i] += x[i] * x[i];
    }
    for (Index i = 0; i < count; i++) to[i] = k + alpha * to[i];
}

static void NAMED(power)(void *scales, Index count, const Response *response) {
    T *restrict to = (T *)scales;
    if (response->beta == 0.75) {
        for (Index i = 0; i < count; i++) {
            T root = NAMED(ROOT)(to[i]);
            to[i] = 1 / (root * NAMED(ROOT)(root));
        }
    } else if (response->beta == 0.5) {
        for (Index i = 0; i < count; i++) to[i] = 1 / NAMED(ROOT)(to[i]);
    } else if (response->beta == 1) {
        for (Index i = 0; i < count; i++) to[i] = 1 / to[i];
    } else {
        T exponent = (T)-response->beta;
        for (Index i = 0; i < count; i++) to[i] = NAMED(POWER)(to[i], exponent);
    }
}

static void NAMED(multiply)(void *to, const void *x, const void *factors, Index count) {
    for (Index i = 0; i < count; i++)
        ((T *restrict)to)[i] = ((const T *)x)[i] * ((const T *)factors)[i];
}

static void NAMED(weigh)(void *weights, void *scales, const void *x, const void *dout, Index count,
                         const Response *response) {
    T *restrict to = (T *)weights;
    T *restrict factors = (T *)scales;
    const T *restrict xs = (const T *)x, *restrict douts = (const T *)dout;
    for (Index i = 0; i < count; i++) to[i] = xs[i] / factors[i];
    NAMED(power)(scales, count, response);
    for (Index i = 0; i < count; i++) to[i] *= douts[i] * factors[i];
}

static void NAMED(gradient)(void *to, const void *x, const void *dout, const void *factors,
                            const void *around, Index pitch, Index channels, Index count,
                            const Response *response) {
    T *restrict out = (T *)to;
    const T *restrict xs = (const T *)x, *restrict douts = (const T *)dout;
    const T *restrict of = (const T *)factors;
    T by = (T)(-2 * response->alpha * response->beta);
    memset(out, 0, (size_t)count * sizeof(T));
    for (Index c = 0; c < channels; c++) {
        const T *restrict weights = (const T *)around + c * pitch;
        for (Index i = 0; i < count; i++) out[i] += weights[i];
    }
    for (Index i = 0; i < count; i++) out[i] = douts[i] * of[i] + by * xs[i] * out[i];
}

static const Responses NAMED(responses) = {NAMED(scale), NAMED(power), NAMED(multiply),
                                           NAMED(weigh), NAMED(gradient)};

#endif
