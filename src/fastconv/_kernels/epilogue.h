/* What is done to results on their way out: a residual is added, and an activation is applied. */
#ifndef FASTCONV_EPILOGUE_H
#define FASTCONV_EPILOGUE_H

#include "stream.h"
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

/* Set to[i] = activation(sums[i] + residual[i]) for `count` numbers of each row. Rows of `to` and of
 * the residual lie to_stride bytes apart, and rows of sums `pitch` bytes. A residual of NULL means
 * zeros. Sums and residual may be `to` itself. NaN stays NaN. */
typedef void (*Finish)(void *to, Index to_stride, const void *sums, Index pitch,
                       const void *residual, Index rows, Index count, const Activation *activation);

/* Ask the processor to load memory into L2. */
static inline void prefetch(const char *from, Index bytes) {
    const char *end = from + bytes;
    for (from -= (uintptr_t)from % LINE_BYTES; from < end; from += LINE_BYTES)
        __builtin_prefetch(from, 0, 2);
}

#endif
