/* The gradient of the mean cross entropy of softmax. This file is a template (see number.h). */
#ifndef T
#ifndef FASTCONV_LOSS_H
#define FASTCONV_LOSS_H

#include "number.h"

/* Set to[r][i] = (y[r][i] - (i == labels[r])) * factor for contiguous rows of `count` numbers. */
typedef void (*LossGradient)(void *to, const void *y, const Index *labels, Index rows, Index count,
                             double factor);

#define TEMPLATE "loss.h"
#include "number.h"

static inline LossGradient loss_gradient_of(Number number) {
    return number == FLOAT64 ? loss_gradient_double : loss_gradient_float;
}

#endif
#else /* the template */

static void NAMED(loss_gradient)(void *to, const void *y, const Index *labels, Index rows,
                                 Index count, double factor) {
    const T scale = (T)factor;
    for (Index r = 0; r < rows; r++) {
        T *restrict out = (T *)to + r * count;
        const T *restrict from = (const T *)y + r * count;
        for (Index i = 0; i < count; i++) out[i] = from[i] * scale;
        out[labels[r]] = (from[labels[r]] - 1) * scale;
    }
}

#endif
