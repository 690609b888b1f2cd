/* Means of all windows of `size` neighbours, along columns and along rows.
 *
 * A sum is never carried along a whole row, so that rounding errors do not add up, and a NaN spoils
 * only the windows that contain it. A window grows from pass to pass instead (`widen`): sums of w
 * neighbours become sums of 3 w + d, where d is the next digit of the size in base 3, and two
 * elements at most are added one by one. The rounding error grows with the logarithm of the size.
 * Sums of integers are exact, so those of columns slide: one row is added, and one is subtracted.
 * Columns of floats, but for tall windows of float64, are the sum of the end of one block of rows and
 * the beginning of the next (van Herk 1992, for maxima), which takes three additions.
 * This file is a template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_MEANS_H
#define FASTCONV_MEANS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "number.h"
#include "window.h"

/* Results overlap no source, which compilers do not check for as many pointers as some loops have. */
#define INDEPENDENT _Pragma("GCC ivdep")

enum {
    SUMS_BYTES = 512, /* The columns that are summed at a time, in bytes of sums. */
    /* The most float64 rows that are added one after the other: half a unit in the last place for
     * each is a bound of the error. */
    MOST_IN_TURN = 32,
};

/* How a sum is divided by the number of its terms, and rounded towards zero if it is an integer.
 *
 * Sums of 8- and 16-bit integers are integers of twice as many bits, and their quotient is the high
 * half of a product, shifted (Granlund and Montgomery 1994). All other sums are float64. */
typedef struct {
    Index size, step; /* The terms are `size` rows, or elements of a row that lie `step` apart. */
    uint32_t multiplier;
    int shift;
    double divisor, reciprocal;
} Divisor;

/* The callbacks of separable.pxd, with a Divisor as the filter. */
typedef struct {
    void (*rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                 Index count, char *stage);
    void (*line)(const void *filter, char *to, const char *line, Index count, char *stage);
    Index sum_bytes;
    int sum_bits;   /* The bits of an integer sum, or those of a float64 that may be used. */
    double largest; /* The largest absolute value of an integer, if it is known to be small. */
} Mean;

/* Return how many bytes of scratch `rows` and `line` need. */
static inline Index mean_rows_stage(Index size, Index outs) {
    return 3 * (outs + size) * SUMS_BYTES;
}
static inline Index mean_line_stage(Index size, Index step, Index count, Index sum_bytes) {
    return 3 * (count + size * step) * sum_bytes;
}

/* Prepare the division of sums of `size` numbers, and return whether it is exact for all of them. */
static inline int find_divisor(Divisor *divisor, const Mean *mean, Index size, Index step) {
    const double sum = mean->largest * (double)size, limit = ldexp(1.0, mean->sum_bits);
    divisor->size = size;
    divisor->step = step;
    divisor->divisor = (double)size;
    divisor->reciprocal = 1.0 / (double)size;
    divisor->multiplier = 0;
    divisor->shift = 0;
    if (mean->sum_bytes == sizeof(double)) return sum < limit;
    while ((Index)2 << divisor->shift < size) divisor->shift++;
    const double power = ldexp((double)(1 << divisor->shift), 8 * (int)mean->sum_bytes);
    const double multiplier = ceil(power / (double)size);
    divisor->multiplier = (uint32_t)multiplier;
    /* The product exceeds the quotient by less than the quotient's distance from an integer. */
    return sum < limit && multiplier < ldexp(1.0, 8 * (int)mean->sum_bytes) &&
           sum * (multiplier * (double)size - power) < power;
}

#define SUM_uint8_t uint16_t
#define SUM_int8_t int16_t
#define SUM_uint16_t uint32_t
#define SUM_int16_t int32_t
#define SUM_uint32_t double
#define SUM_int32_t double
#define SUM_uint64_t double
#define SUM_int64_t double
#define SUM_float double
#define SUM_double double

/* The sum bits and the largest number of Mean. */
#define RANGE_uint8_t 16, 0x1p8 - 1
#define RANGE_int8_t 15, 0x1p7
#define RANGE_uint16_t 32, 0x1p16 - 1
#define RANGE_int16_t 31, 0x1p15
/* The product with the reciprocal is exact enough if it has two bits more than the sum. */
#define RANGE_uint32_t 50, 0x1p32 - 1
#define RANGE_int32_t 50, 0x1p31
/* Whether sums of 64-bit integers are exact depends on the numbers. */
#define RANGE_uint64_t 53, 0
#define RANGE_int64_t 53, 0
#define RANGE_float 53, 0
#define RANGE_double 53, 0

static inline uint8_t quotient_uint8_t(uint16_t sum, Divisor by) {
    return (uint8_t)((uint16_t)((uint32_t)sum * (uint16_t)by.multiplier >> 16) >> by.shift);
}
static inline int8_t quotient_int8_t(int16_t sum, Divisor by) {
    const uint16_t size = (uint16_t)(sum < 0 ? -sum : sum);
    const int16_t quotient =
        (int16_t)((uint16_t)((uint32_t)size * (uint16_t)by.multiplier >> 16) >> by.shift);
    return (int8_t)(sum < 0 ? -quotient : quotient);
}
static inline uint16_t quotient_uint16_t(uint32_t sum, Divisor by) {
    return (uint16_t)((uint32_t)((uint64_t)sum * by.multiplier >> 32) >> by.shift);
}
static inline int16_t quotient_int16_t(int32_t sum, Divisor by) {
    const uint32_t size = (uint32_t)(sum < 0 ? -sum : sum);
    const int32_t quotient =
        (int32_t)((uint32_t)((uint64_t)size * by.multiplier >> 32) >> by.shift);
    return (int16_t)(sum < 0 ? -quotient : quotient);
}
/* A half keeps the product on the right side of an integer, and more than half away from the next. */
static inline uint32_t quotient_uint32_t(double sum, Divisor by) {
    return (uint32_t)((sum + 0.5) * by.reciprocal);
}
static inline int32_t quotient_int32_t(double sum, Divisor by) {
    return (int32_t)((sum + (sum < 0 ? -0.5 : 0.5)) * by.reciprocal);
}
static inline uint64_t quotient_uint64_t(double sum, Divisor by) {
    return (uint64_t)(sum / by.divisor);
}
static inline int64_t quotient_int64_t(double sum, Divisor by) {
    return (int64_t)(sum / by.divisor);
}
/* The mean of equal numbers is this number, because the float64 sum is rounded to a float32. */
static inline float quotient_float(double sum, Divisor by) { return (float)(sum * by.reciprocal); }
static inline double quotient_double(double sum, Divisor by) { return sum / by.divisor; }

#define IS_INTEGER_float 0
#define IS_INTEGER_double 0
#define IS_INTEGER_int8_t 1
#define IS_INTEGER_int16_t 1
#define IS_INTEGER_int32_t 1
#define IS_INTEGER_int64_t 1
#define IS_INTEGER_uint8_t 1
#define IS_INTEGER_uint16_t 1
#define IS_INTEGER_uint32_t 1
#define IS_INTEGER_uint64_t 1

/* Define a pass, which adds the sums at distances 0, w and 2 w, and the next `more` elements behind
 * them. With PAIR in place of a digit there are only the sums at 0 and w. */
enum { PAIR = -1 };
#define DEFINE_PASS(name, FROM, TO, STORE)                                                    \
    static void name(TO *restrict to, const FROM *sums, Index w, const FROM *more, int digit, \
                     Index step, Index count, Divisor by) {                                   \
        (void)by;                                                                             \
        if (digit == PAIR)                                                                    \
            for (Index x = 0; x < count; x++) to[x] = STORE(sums[x] + sums[x + w]);           \
        else if (digit == 0)                                                                  \
            for (Index x = 0; x < count; x++)                                                 \
                to[x] = STORE(sums[x] + sums[x + w] + sums[x + 2 * w]);                       \
        else if (digit == 1)                                                                  \
            for (Index x = 0; x < count; x++)                                                 \
                to[x] = STORE(sums[x] + sums[x + w] + sums[x + 2 * w] + more[x]);             \
        else                                                                                  \
            for (Index x = 0; x < count; x++)                                                 \
                to[x] = STORE(sums[x] + sums[x + w] + sums[x + 2 * w] +                       \
                              (more[x] + more[x + step]));                                    \
    }

#define AS_UINT16(x) ((uint16_t)(x))
#define AS_INT16(x) ((int16_t)(x))
#define AS_IS(x) (x)
DEFINE_PASS(widen_uint16_t, uint16_t, uint16_t, AS_UINT16)
DEFINE_PASS(widen_int16_t, int16_t, int16_t, AS_INT16)
DEFINE_PASS(widen_uint32_t, uint32_t, uint32_t, AS_IS)
DEFINE_PASS(widen_int32_t, int32_t, int32_t, AS_IS)
DEFINE_PASS(widen_double, double, double, AS_IS)

/* Return the largest power of 3 that is at most `size`. */
static inline Index leading_power(Index size) {
    Index power = 1;
    while (3 * power <= size) power *= 3;
    return power;
}

#define TEMPLATE "means.h"
#define WITH_UNSIGNED
#define WITH_SIGNED
#include "number.h"

static inline const Mean *mean_of(Number number) {
    static const Mean *const table[NUMBERS] = {
        [FLOAT32] = &mean_float,   [FLOAT64] = &mean_double,  [INT8] = &mean_int8_t,
        [INT16] = &mean_int16_t,   [INT32] = &mean_int32_t,   [INT64] = &mean_int64_t,
        [UINT8] = &mean_uint8_t,   [UINT16] = &mean_uint16_t, [UINT32] = &mean_uint32_t,
        [UINT64] = &mean_uint64_t,
    };
    return table[number];
}

#endif
#else /* the template */

#define SUM NAMED(SUM)
#define QUOTIENT(sum) NAMED(quotient)((SUM)(sum), by)
#define WIDEN NUMBER_JOIN(widen, SUM)

DEFINE_PASS(NAMED(finish), SUM, T, QUOTIENT)

/* Convert numbers to the type of sums. */
static void NAMED(convert)(SUM *restrict to, const T *from, Index count) {
    for (Index x = 0; x < count; x++) to[x] = (SUM)from[x];
}

/* Write the means of three rows, or of a line and of the same line moved by one and by two elements. */
static void NAMED(mean_of_three)(T *restrict to, const T *a, const T *b, const T *c, Index count,
                                 Divisor by) {
    for (Index x = 0; x < count; x++) to[x] = QUOTIENT((SUM)((SUM)a[x] + (SUM)b[x]) + (SUM)c[x]);
}

/* Write the means of three rows in each of `outs` rows. A row is converted once for four of them. */
static void NAMED(means_of_three)(char *to, Index pitch, const T *const *from, Index outs,
                                  Index count, Divisor by) {
    Index i = 0;
    for (; i + 4 <= outs; i += 4) {
        const T *a = from[i], *b = from[i + 1], *c = from[i + 2], *d = from[i + 3];
        const T *e = from[i + 4], *f = from[i + 5];
        T *first = (T *)(to + i * pitch), *second = (T *)(to + (i + 1) * pitch);
        T *third = (T *)(to + (i + 2) * pitch), *last = (T *)(to + (i + 3) * pitch);
        INDEPENDENT for (Index x = 0; x < count; x++) {
            const SUM at_b = (SUM)b[x], at_c = (SUM)c[x], at_d = (SUM)d[x], at_e = (SUM)e[x];
            first[x] = QUOTIENT((SUM)((SUM)a[x] + at_b) + at_c);
            second[x] = QUOTIENT((SUM)(at_b + at_c) + at_d);
            third[x] = QUOTIENT((SUM)(at_c + at_d) + at_e);
            last[x] = QUOTIENT((SUM)(at_d + at_e) + (SUM)f[x]);
        }
    }
    for (; i < outs; i++)
        NAMED(mean_of_three)((T *)(to + i * pitch), from[i], from[i + 1], from[i + 2], count, by);
}

/* The sums that the last pass adds. */
typedef struct {
    const SUM *sums;
    Index width;
    int digit;
} NAMED(Window);

/* Let windows of elements that lie `step` apart grow until one pass is left, which will have `count`
 * results. There are count + (size - 1) * step values. */
static NAMED(Window)
    NAMED(grow)(const SUM *values, Index step, Index count, Divisor by, SUM *const *buffers) {
    const Index size = by.size;
    NAMED(Window) window = {values, 1, PAIR};
    Index power = leading_power(size), pass = 0;
    if (power == 1) return window;
    if (size / power == 2) {
        window.sums = buffers[pass++];
        window.width = 2;
        WIDEN((SUM *)window.sums, values, step, values, PAIR, step, count + (size - 2) * step, by);
    }
    for (; power > 3; power /= 3) {
        const Index tripled = 3 * window.width;
        const int digit = (int)(size / (power / 3) % 3);
        SUM *to = buffers[pass++ % 2];
        WIDEN(to, window.sums, window.width * step, values + tripled * step, digit, step,
              count + (size - tripled - digit) * step, by);
        window.sums = to;
        window.width = tripled + digit;
    }
    window.digit = (int)(size % 3);
    return window;
}

static void NAMED(mean_of_line)(const void *filter, char *to, const char *line, Index count,
                                char *stage) {
    const Divisor by = *(const Divisor *)filter;
    const Index step = by.step, room = count + by.size * step;
    const SUM *values = (const SUM *)line;
    SUM *const buffers[2] = {(SUM *)stage + room, (SUM *)stage + 2 * room};
    if (by.size == 3) {
        const T *first = (const T *)line;
        NAMED(mean_of_three)((T *)to, first, first + step, first + 2 * step, count, by);
        return;
    }
    if (!__builtin_types_compatible_p(T, SUM)) {
        NAMED(convert)((SUM *)stage, (const T *)line, count + (by.size - 1) * step);
        values = (const SUM *)stage;
    }
    NAMED(Window) window = NAMED(grow)(values, step, count, by, buffers);
    NAMED(finish)((T *)to, window.sums, window.width * step, values + 3 * window.width * step,
                  window.digit, step, count, by);
}

#if NAMED(IS_INTEGER)
/* Add two rows to sums. */
static void NAMED(add_rows)(SUM *restrict sums, const T *a, const T *b, Index count) {
    for (Index x = 0; x < count; x++) sums[x] = (SUM)(sums[x] + (SUM)a[x] + (SUM)b[x]);
}

/* Add the last row of windows, write their means, and subtract the first row. */
static void NAMED(slide)(T *restrict out, SUM *restrict sums, const T *first, const T *last,
                         Index count, Divisor by) {
    for (Index x = 0; x < count; x++) {
        const SUM sum = (SUM)(sums[x] + (SUM)last[x]);
        out[x] = QUOTIENT(sum);
        sums[x] = (SUM)(sum - (SUM)first[x]);
    }
}

static void NAMED(mean_of_rows)(const void *filter, char *to, Index pitch, const char *const *rows,
                                Index outs, Index count, char *stage) {
    const Divisor by = *(const Divisor *)filter;
    const T *const *from = (const T *const *)rows;
    const Index strip = SUMS_BYTES / (Index)sizeof(SUM);
    if (by.size == 3) {
        NAMED(means_of_three)(to, pitch, from, outs, count, by);
        return;
    }
    SUM *sums = (SUM *)stage;
    for (Index x = 0; x < count; x += strip) {
        const Index n = smaller(strip, count - x);
        Index i = (by.size - 1) % 2;
        memset(sums, 0, (size_t)n * sizeof(SUM));
        if (i) NAMED(convert)(sums, from[0] + x, n);
        for (; i < by.size - 1; i += 2) NAMED(add_rows)(sums, from[i] + x, from[i + 1] + x, n);
        for (i = 0; i < outs; i++)
            NAMED(slide)((T *)(to + i * pitch) + x, sums, from[i] + x, from[i + by.size - 1] + x, n,
                         by);
    }
}
#else
/* Set sums to other sums and a row. */
static void NAMED(add_row)(SUM *sums, const SUM *others, const T *row, Index count) {
    for (Index x = 0; x < count; x++) sums[x] = others[x] + (SUM)row[x];
}

/* Add a row to sums, and write the means of these and of other sums. */
static void NAMED(add_and_finish)(T *restrict to, SUM *restrict sums, const T *row,
                                  const SUM *others, Index count, Divisor by) {
    for (Index x = 0; x < count; x++) {
        sums[x] += (SUM)row[x];
        to[x] = QUOTIENT(others[x] + sums[x]);
    }
}

/* Write the means of n <= size windows, which have the rows n - 1 to size - 1 in common, in some
 * columns from x on. First, sums has those of the rows in front of row `size`, window by window; then
 * the rows from there on are added. */
static void NAMED(mean_of_block)(char *to, Index pitch, const T *const *from, Index n, Index x,
                                 Index count, SUM *sums, Divisor by) {
    SUM *common = sums + (n - 1) * count, *next = sums + n * count;
    NAMED(convert)(common, from[n - 1] + x, count);
    for (Index r = n; r < by.size; r++) NAMED(add_row)(common, common, from[r] + x, count);
    for (Index r = n - 2; r >= 0; r--)
        NAMED(add_row)(sums + r * count, sums + (r + 1) * count, from[r] + x, count);
    for (Index i = 0; i < count; i++) ((T *)to)[x + i] = QUOTIENT(sums[i]);
    memset(next, 0, (size_t)count * sizeof(SUM));
    for (Index r = 1; r < n; r++)
        NAMED(add_and_finish)((T *)(to + r * pitch) + x, next, from[by.size + r - 1] + x,
                              sums + r * count, count, by);
}

static void NAMED(mean_of_rows)(const void *filter, char *to, Index pitch, const char *const *rows,
                                Index outs, Index count, char *stage) {
    const Divisor by = *(const Divisor *)filter;
    const Index strip = SUMS_BYTES / (Index)sizeof(SUM), room = (outs + by.size) * strip;
    const T *const *from = (const T *const *)rows;
    if (by.size == 3) {
        NAMED(means_of_three)(to, pitch, from, outs, count, by);
        return;
    }
    const int in_turn = sizeof(T) < sizeof(SUM) || by.size <= MOST_IN_TURN;
    SUM *values = (SUM *)stage;
    for (Index i = 0, n; in_turn && i < outs; i += n) {
        n = smaller(by.size, outs - i);
        for (Index x = 0; x < count; x += strip)
            NAMED(mean_of_block)(to + i * pitch, pitch, from + i, n, x, smaller(strip, count - x),
                                 values, by);
    }
    if (in_turn) return;
    SUM *const buffers[2] = {values + room, values + 2 * room};
    for (Index x = 0; x < count; x += strip) {
        const Index n = smaller(strip, count - x);
        for (Index i = 0; i < outs + by.size - 1; i++)
            NAMED(convert)(values + i * n, from[i] + x, n);
        NAMED(Window) window = NAMED(grow)(values, n, outs * n, by, buffers);
        for (Index i = 0; i < outs; i++)
            NAMED(finish)((T *)(to + i * pitch) + x, window.sums + i * n, window.width * n,
                          values + (i + 3 * window.width) * n, window.digit, n, n, by);
    }
}
#endif

static const Mean NAMED(mean) = {NAMED(mean_of_rows), NAMED(mean_of_line), sizeof(SUM),
                                 NAMED(RANGE)};

#undef SUM
#undef QUOTIENT
#undef WIDEN
#endif
