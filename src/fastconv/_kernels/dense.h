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

#include "conversions.h"
#include "vectors.h"

/* Sixteen vectors of sums leave the other half of the registers of AVX-512 and NEON to inputs and
 * weights; eight are half of AVX2's. */
#if VECTOR_REGISTERS == 32
enum { TILE_WIDTH = 4 };
#else
enum { TILE_WIDTH = 2 };
#endif
enum { TILE_HEIGHT = 4 };

/* The number of a range of rows of a tile. */
#define RANGE(a, b) ((a) * (TILE_HEIGHT + 1) + (b))

typedef struct {
    int32_t row;   /* Which of the rows that the tile is given. */
    int32_t count; /* The number of neighbouring columns of the kernel. */
    int32_t range; /* The rows of outputs, as RANGE. */
    Index column;  /* Where the first column of the kernel is in the row of inputs. */
    Index weights; /* Where the weights are: [count][rows of outputs]. */
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

#endif
