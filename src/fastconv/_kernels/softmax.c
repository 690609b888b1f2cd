/* Softmax of rows, in whole vectors. This file is a template (see number.h).
 *
 * a. The last vector of a row is filled up with minus infinity, whose power is zero.
 * b. A row is read three times, and is in L1 from the second time on.
 */
#ifndef T

#include "softmax.h"

#include <math.h>
#include <string.h>

#include "clip.h"
#include "exponential.h"
#include "vectors.h"

#define TEMPLATE "softmax.c"
#include "number.h"

#else /* the template */

/* Return the largest lane, and the sum of the lanes, in halves: a lane at a time takes longer than
 * a row of ten scores. */
#define FOLD(NAME, STEP)                                          \
    ALWAYS_INLINE T NAMED(NAME)(NAMED(Vec) v) {                   \
        T lanes[LANES];                                           \
        memcpy(lanes, &v, sizeof v);                              \
        UNROLL for (Index half = LANES / 2; half > 0; half /= 2)  \
            UNROLL for (Index i = 0; i < half; i++) STEP;         \
        return lanes[0];                                          \
    }
FOLD(largest_lane, lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half])
FOLD(sum_of_lanes, lanes[i] += lanes[i + half])
#undef FOLD

static void NAMED(softmax_row)(T *to, const T *x, Index count) {
    const Index whole = count - count % LANES;
    const size_t rest = (size_t)(count - whole) * sizeof(T);
    const NAMED(Vec) infinity = NAMED(all)(INFINITY);
    NAMED(Vec) last = -infinity, most, sum, largest, total;
    memcpy(&last, x + whole, rest);
    most = last;
    for (Index i = 0; i < whole; i += LANES)
        most = NAMED(clip)(*(const NAMED(Loose) *)(x + i), most, infinity);
    largest = (NAMED(Vec)){0} + NAMED(largest_lane)(most);
    sum = last = NAMED(exponential)(last - largest);
    for (Index i = 0; i < whole; i += LANES) {
        NAMED(Vec) power = NAMED(exponential)(*(const NAMED(Loose) *)(x + i) - largest);
        *(NAMED(Loose) *)(to + i) = power;
        sum += power;
    }
    total = (NAMED(Vec)){0} + NAMED(sum_of_lanes)(sum);
    for (Index i = 0; i < whole; i += LANES) *(NAMED(Loose) *)(to + i) /= total;
    last /= total;
    memcpy(to + whole, &last, rest);
}

static void NAMED(softmax)(void *to, const void *x, Index rows, Index count) {
    for (Index r = 0; r < rows; r++)
        NAMED(softmax_row)((T *)to + r * count, (const T *)x + r * count, count);
}

#endif
