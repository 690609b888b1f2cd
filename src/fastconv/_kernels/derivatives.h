/* The derivatives of those activations of epilogue.h that are not piecewise linear. */
#ifndef FASTCONV_DERIVATIVES_H
#define FASTCONV_DERIVATIVES_H

#include "epilogue.h"
#include "window.h"

/* Set to[i] = grad[i] * d activation / dx for `count` numbers. `saved` is what the forward pass kept:
 * the function's result for SIGMOID, its argument x for SILU and HARD_SWISH. Those three are the
 * only kinds. */
typedef void (*Differentiate)(void *to, const void *grad, const void *saved, Index count,
                              const Activation *activation);

#endif
