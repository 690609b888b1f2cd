/* What is done to results on their way out: a residual is added, and an activation is applied. */
#ifndef FASTCONV_EPILOGUE_H
#define FASTCONV_EPILOGUE_H

#include "window.h"

/* The functions of x, with ONNX's formulas; a and b are parameters. */
enum {
    IDENTITY,
    CLIP,         /* min(max(x, a), b) */
    LEAKY_RELU,   /* x < 0 ? a * x : x */
    HARD_SIGMOID, /* min(max(a * x + b, 0), 1) */
    HARD_SWISH,   /* x * min(max(a * x + b, 0), 1) */
    SIGMOID,      /* 1 / (1 + exp(-x)) */
    SILU,         /* x / (1 + exp(-x)) */
};

typedef struct {
    int kind;
    double a, b;
} Activation;

/* to[i] = activation(sums[i] + residual[i]); a residual of NULL is zeros. Both may be `to` itself.
 * NaN stays NaN. */
typedef void (*Finish)(void *to, const void *sums, const void *residual, Index count,
                       const Activation *activation);

#endif
