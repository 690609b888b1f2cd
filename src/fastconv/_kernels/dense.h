/* Register tiles of correlation with a dense kernel, and the types of what they read and write.
 *
 * Lanes are neighbouring pixels of a row. A tile is TILE_HEIGHT rows of outputs times some vectors,
 * whose sums stay in registers. A vector of inputs is loaded once for all rows of the tile that
 * use it, because loads are the limit: at an odd place a load of 64 bytes touches two lines.
 *
 * What a tile adds up is a schedule that is made once a call: a list of runs. A run is a part of
 * one input row and neighbouring columns of the kernel, whose products go to the same rows of the
 * tile. Runs leave out weights of zero, where an infinite input must leave no NaN. For each output
 * they are in C order of the kernel, so that sums in SciPy's order are SciPy's sums.
 */
#ifndef FASTCONV_DENSE_H
#define FASTCONV_DENSE_H

#include <math.h>
#include <stdint.h>

#include "number.h"
#include "vectors.h"

/* Sixteen vectors of sums leave the other half of AVX-512's registers to inputs and weights; eight
 * are half of AVX2's. */
#if defined(__AVX512F__)
enum { TILE_WIDTH = 4 };
#else
enum { TILE_WIDTH = 2 };
#endif
enum { TILE_HEIGHT = 4 };

/* The number of a range of rows of a tile. */
#define RANGE(a, b) ((a) * (TILE_HEIGHT + 1) + (b))

typedef enum {
    IN_FLOAT,   /* float32, with fused multiply-adds. */
    IN_DOUBLE,  /* float64, with fused multiply-adds. */
    IN_ORDER,   /* float64, each product and each sum rounded, as SciPy computes. */
    IN_INTEGER, /* Integers modulo 2^64. */
    ARITHMETICS,
} Arithmetic;

typedef struct {
    int32_t row;     /* Which of the rows that the tile is given. */
    int32_t count;   /* The number of neighbouring columns of the kernel. */
    int32_t range;   /* The rows of outputs, as RANGE. */
    Index column;    /* Where the first column of the kernel is in the row of inputs. */
    Index weights;   /* Where the weights are: [count][rows of outputs]. */
} Run;

typedef struct {
    const Run *runs;
    Index count;
    const void *weights;
    Index step; /* How many inputs lie between those of neighbouring columns of the kernel. */
} Schedule;

/* Compute `height` rows of sums from some runs. With `adds`, they are added to those in memory. Row i
 * of the inputs begins at rows[i], and the tile at `column` of it. */
typedef void (*Tile)(const Schedule *schedule, Index first, Index last, const void *const *rows,
                     Index column, void *result, Index pitch, int height, int adds);

typedef uint64_t Vec_integer __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t Loose_integer
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(uint64_t)), may_alias));

#define ADD_FUSED(sum, x, w) (sum) += (x) * (w)
/* An empty instruction that may change a vector. So the compiler cannot fuse a product and its sum,
 * and does not load a vector again for each of its uses. */
#if defined(__x86_64__)
#define HIDE(product) __asm__("" : "+v"(product))
#elif defined(__aarch64__)
#define HIDE(product) __asm__("" : "+w"(product))
#else
#define HIDE(product) __asm__("" : "+m"(product))
#endif
#define ADD_ROUNDED(sum, x, w)     \
    do {                           \
        Vec_double product = (x) * (w); \
        HIDE(product);             \
        (sum) += product;          \
    } while (0)

#define T float
#define VECTOR Vec_float
#define LOOSE Loose_float
#define ADD_PRODUCT ADD_FUSED
#define NAMED_TILE(name) name##_in_float
#include "dense_tile.h"

#define T double
#define VECTOR Vec_double
#define LOOSE Loose_double
#define ADD_PRODUCT ADD_FUSED
#define NAMED_TILE(name) name##_in_double
#include "dense_tile.h"

#define T double
#define VECTOR Vec_double
#define LOOSE Loose_double
#define ADD_PRODUCT ADD_ROUNDED
#define NAMED_TILE(name) name##_in_order
#include "dense_tile.h"

#define T uint64_t
#define VECTOR Vec_integer
#define LOOSE Loose_integer
#define ADD_PRODUCT ADD_FUSED
#define NAMED_TILE(name) name##_in_integer
#include "dense_tile.h"

static Tile tile_of(Arithmetic arithmetic, int is_wide) {
    static const Tile tiles[ARITHMETICS][2] = {
        [IN_FLOAT] = {narrow_in_float, wide_in_float},
        [IN_DOUBLE] = {narrow_in_double, wide_in_double},
        [IN_ORDER] = {narrow_in_order, wide_in_order},
        [IN_INTEGER] = {narrow_in_integer, wide_in_integer},
    };
    return tiles[arithmetic][is_wide];
}

static Index bytes_in(Arithmetic arithmetic) {
    return arithmetic == IN_FLOAT ? sizeof(float) : sizeof(double);
}

/* The largest relative rounding error of float32. */
#define FLOAT_ROUNDING 0x1p-24

/* Find sums that are within `bound` of an integer but 0, at which all numbers are truncated to the
 * same integer on both sides. Return how many there are, and the first `most` in `found`. */
static int find_near_integers(const float *sums, Index count, float bound, int32_t *found,
                              int most) {
    int near = 0;
    for (Index i = 0; i < count; i += VECTOR_BYTES / (Index)sizeof(float)) {
        Index end = smaller(i + VECTOR_BYTES / (Index)sizeof(float), count);
        int any = 0;
        for (Index j = i; j < end; j++)
            any |= (fabsf(sums[j] - rintf(sums[j])) <= bound) & (fabsf(sums[j]) > 0.5f);
        if (!any) continue;
        for (Index j = i; j < end; j++)
            if (fabsf(sums[j] - rintf(sums[j])) <= bound && fabsf(sums[j]) > 0.5f) {
                if (near < most) found[near] = (int32_t)j;
                near++;
            }
        if (near > most) break;
    }
    return near;
}

/* Return the sum of row r of a tile, of rows of float32 and weights of float64, as SciPy computes. */
static double sum_in_order(const Schedule *schedule, const void *const *rows, Index column, int r) {
    double sum = 0;
    for (Index i = 0; i < schedule->count; i++) {
        const Run *run = schedule->runs + i;
        int a = run->range / (TILE_HEIGHT + 1), b = run->range % (TILE_HEIGHT + 1);
        const float *x = (const float *)rows[run->row] + column + run->column;
        const double *w = (const double *)schedule->weights + run->weights + (r - a);
        if (r < a || r >= b) continue;
        for (int k = 0; k < run->count; k++, x += schedule->step, w += b - a) {
            double product = *x * *w;
            HIDE(product);
            sum += product;
        }
    }
    return sum;
}

/* Conversions of rows from and to the types that tiles compute with. */
typedef void (*Conversion)(void *to, const void *from, Index count);

/* C's conversions of float64 as x86-64 computes them, also out of range, where C leaves it open. */
static inline int64_t to_int64(double x) { return (int64_t)x; }
static inline uint64_t to_uint64(double x) {
    const double half = 9223372036854775808.0;
    double size = fabs(x);
    uint64_t whole = size >= half ? (uint64_t)to_int64(size - half) ^ (uint64_t)1 << 63
                                  : (uint64_t)to_int64(size);
    return x < 0 ? -whole : whole; /* As SciPy does: the negative of what -x becomes. */
}

#define CAST_float(x) (float)(x)
#define CAST_double(x) (x)
#define CAST_int8_t(x) (int8_t)(int32_t)(x)
#define CAST_int16_t(x) (int16_t)(int32_t)(x)
#define CAST_int32_t(x) (int32_t)(x)
#define CAST_int64_t(x) to_int64(x)
#define CAST_uint8_t(x) (uint8_t)(int32_t)(x)
#define CAST_uint16_t(x) (uint16_t)(int32_t)(x)
#define CAST_uint32_t(x) (uint32_t)to_int64(x)
#define CAST_uint64_t(x) to_uint64(x)
/* Small sums in float32 are within the range of int32_t. */
#define SHORT_float(x) (x)
#define SHORT_double(x) (double)(x)
#define SHORT_int8_t(x) (int8_t)(int32_t)(x)
#define SHORT_int16_t(x) (int16_t)(int32_t)(x)
#define SHORT_int32_t(x) (int32_t)(x)
#define SHORT_int64_t(x) (int64_t)(int32_t)(x)
#define SHORT_uint8_t(x) (uint8_t)(int32_t)(x)
#define SHORT_uint16_t(x) (uint16_t)(int32_t)(x)
#define SHORT_uint32_t(x) (uint32_t)(int32_t)(x)
#define SHORT_uint64_t(x) (uint64_t)(int64_t)(int32_t)(x)

#define WITH_UNSIGNED
#define WITH_SIGNED
#define TEMPLATE "dense_rows.h"
#include "number.h"

#define FOR_EACH_TYPE(name)                                                                     \
    {[FLOAT32] = name##_float,   [FLOAT64] = name##_double,  [INT8] = name##_int8_t,            \
     [INT16] = name##_int16_t,   [INT32] = name##_int32_t,   [INT64] = name##_int64_t,          \
     [UINT8] = name##_uint8_t,   [UINT16] = name##_uint16_t, [UINT32] = name##_uint32_t,        \
     [UINT64] = name##_uint64_t}

static Conversion loader_of(Arithmetic arithmetic, Number number) {
    static const Conversion floats[NUMBERS] = FOR_EACH_TYPE(load_float),
                            doubles[NUMBERS] = FOR_EACH_TYPE(load_double),
                            integers[NUMBERS] = FOR_EACH_TYPE(load_integer);
    return arithmetic == IN_FLOAT     ? floats[number]
           : arithmetic == IN_INTEGER ? integers[number]
                                      : doubles[number];
}

/* With `wraps`, integral sums in float64 are taken modulo 2^64, and else as C converts them. */
static Conversion storer_of(Arithmetic arithmetic, Number number, int wraps) {
    static const Conversion floats[NUMBERS] = FOR_EACH_TYPE(store_float),
                            doubles[NUMBERS] = FOR_EACH_TYPE(store_double),
                            wrapping[NUMBERS] = FOR_EACH_TYPE(store_wrapped),
                            integers[NUMBERS] = FOR_EACH_TYPE(store_integer);
    return arithmetic == IN_FLOAT     ? floats[number]
           : arithmetic == IN_INTEGER ? integers[number]
           : wraps                    ? wrapping[number]
                                      : doubles[number];
}

#endif
