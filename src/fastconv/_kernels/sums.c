/* Sums of rows, taps and elements: the inner loops of col2im, fold and the gradients of both
 * poolings. This file is a template (see number.h).
 *
 * There are no sums of signed integers, because those of unsigned integers have the same bits, and
 * wrap around on overflow as NumPy's do.
 */
#ifndef T

#include "sums.h"

#include <string.h>

#include "number.h"

#define TEMPLATE "sums.c"
#define WITH_UNSIGNED
#include "number.h"

#else /* the template */

static void NAMED(add_row)(void *restrict to, const void *restrict from, Index count) {
    T *restrict sums = (T *)to;
    const T *restrict values = (const T *)from;
    for (Index i = 0; i < count; i++) sums[i] += values[i];
}

static void NAMED(add_element)(void *to, Index at, const void *from, Index index) {
    ((T *)to)[at] += ((const T *)from)[index];
}

static void NAMED(add_at)(void *restrict to, const int64_t *restrict at, Index first, Index last,
                          const void *restrict from, Index count) {
    for (Index i = 0; i < count; i++)
        if (at[i] >= first && at[i] < last) ((T *)to)[at[i] - first] += ((const T *)from)[i];
}

/* Add the rows of a window as vectors of N >= kernel_w elements, with the surplus masked to
 * zero. This reads beyond the row, so the last row, after which there may be no memory, is added
 * element by element. */
#define ADD_ROWS(N)                                                                              \
    do {                                                                                         \
        typedef T Lanes __attribute__((vector_size(N * sizeof(T))));                             \
        typedef __typeof__((Lanes){0} == (Lanes){0}) Mask;                                       \
        Mask mask;                                                                               \
        Lanes sum, tap;                                                                          \
        for (int i = 0; i < N; i++) mask[i] = i < kernel_w ? -1 : 0;                             \
        for (; kh < rows - last; kh++) {                                                         \
            memcpy(&sum, sums + kh * to_row, sizeof sum);                                        \
            memcpy(&tap, taps + kh * kernel_w, sizeof tap);                                      \
            sum += (Lanes)((Mask)tap & mask);                                                    \
            memcpy(sums + kh * to_row, &sum, sizeof sum);                                        \
        }                                                                                        \
    } while (0)

static inline void NAMED(add_taps_of)(T *restrict sums, const T *restrict taps, Index channels,
                                      Index to_channel, Index from_channel, Index rows,
                                      Index to_row, Index kernel_w) {
    for (Index c = 0; c < channels; c++, sums += to_channel, taps += from_channel) {
        Index kh = 0, last = c == channels - 1;
        if (kernel_w > 1 && kernel_w <= 4)
            ADD_ROWS(4);
        else if (kernel_w > 4 && kernel_w <= 8)
            ADD_ROWS(8);
        for (; kh < rows; kh++)
            for (Index kw = 0; kw < kernel_w; kw++)
                sums[kh * to_row + kw] += taps[kh * kernel_w + kw];
    }
}
#undef ADD_ROWS

static void NAMED(add_taps)(void *to, const void *from, Index channels, Index to_channel,
                            Index from_channel, Index rows, Index to_row, Index kernel_w) {
    if (rows == 3 && kernel_w == 3)
        NAMED(add_taps_of)(to, from, channels, to_channel, from_channel, 3, to_row, 3);
    else
        NAMED(add_taps_of)(to, from, channels, to_channel, from_channel, rows, to_row, kernel_w);
}

static void NAMED(interleave_phases)(void *restrict to, const void *restrict from, Index count,
                                     Index first, Index phases, Index phase_length) {
    Index phase = first % phases, at = first / phases;
    if (phases == 1) {
        memcpy(to, (const T *)from + first, (size_t)count * sizeof(T));
        return;
    }
    for (Index i = 0; i < count; i++) {
        ((T *)to)[i] = ((const T *)from)[phase * phase_length + at];
        if (++phase == phases) phase = 0, at++;
    }
}

static const Sums NAMED(sums) = {NAMED(add_row), NAMED(add_element), NAMED(add_at), NAMED(add_taps),
                                 NAMED(interleave_phases)};

#endif
