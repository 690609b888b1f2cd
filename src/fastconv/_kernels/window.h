/* The geometry of a sliding window, as `fastconv._window.Window.packed` lays it out. */
#ifndef FASTCONV_WINDOW_H
#define FASTCONV_WINDOW_H

#include <stddef.h>

typedef ptrdiff_t Index;

/* Fewer neighbouring outputs than this are not worth vectors. */
enum { FEW = 8 };

enum { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT, PAD_SYMMETRIC, PAD_WRAP };

/* One axis of a window: tap k of output o reads the padded position o*stride + k*dilation. */
typedef struct {
    Index size, out, kernel, stride, dilation, before, after, pad_mode;
} Axis;

typedef struct {
    Axis h, w;
} Window;

static inline Index modulo(Index a, Index b) {
    Index r = a % b;
    return r < 0 ? r + b : r;
}

/* Return the pixel that a padded position shows, or -1 for constant padding. As in `numpy.pad`,
 * padding larger than the image continues it periodically. */
static inline Index source_index(const Axis *axis, Index padded) {
    Index i = padded - axis->before, n = axis->size;
    if (i >= 0 && i < n) return i;
    switch (axis->pad_mode) {
        case PAD_EDGE: return i < 0 ? 0 : n - 1;
        case PAD_WRAP: return modulo(i, n);
        case PAD_SYMMETRIC: return (i = modulo(i, 2 * n)) < n ? i : 2 * n - 1 - i;
        case PAD_REFLECT:
            if (n == 1) return 0;
            return (i = modulo(i, 2 * n - 2)) < n ? i : 2 * n - 2 - i;
        default: return -1;
    }
}

/* Return the size of the padded axis. */
static inline Index padded_size(const Axis *axis) {
    return axis->before + axis->size + axis->after;
}

/* Return the distance between the first and the last tap of a window, plus one. */
static inline Index window_span(const Axis *axis) {
    return (axis->kernel - 1) * axis->dilation + 1;
}

/* Return the number of padded positions that the windows of adjacent outputs cover. */
static inline Index reach(const Axis *axis, Index outputs) {
    return (outputs - 1) * axis->stride + window_span(axis);
}

static inline Index ceil_div(Index a, Index b) {
    return a <= 0 ? 0 : b == 1 ? a : (a + b - 1) / b; /* A division takes more than 10 cycles. */
}
static inline Index smaller(Index a, Index b) { return a < b ? a : b; }
static inline Index larger(Index a, Index b) { return a > b ? a : b; }

#endif
