/* Correlation of 8-bit integers in float32, with results that are SciPy's, which computes in float64
 * and truncates.
 *
 * A sum in float32 differs from the one in float64 by less than a margin (`Taps.margin`). If no integer
 * is that close to it, both have the same integer part. Otherwise a run of results is computed again
 * in float64. Of photographs these are some per cent of the runs. Where an image is constant they are
 * all, but then one sum serves for all results that show nothing but one value.
 */
#ifndef FASTCONV_CERTIFIED_H
#define FASTCONV_CERTIFIED_H

#include "correlation.h"

enum {
    RUN = 16,   /* The results that are computed again together. */
    BLOCK = 64, /* The results that are checked together. */
};

typedef float HalfLoose_float
    __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(float)), may_alias));

/* The elements that results depend on: in a line, or in rows. */
typedef struct {
    const Taps *taps;
    const float *line;
    const char *const *rows; /* NULL for a line. */
    /* The last value that filled all windows of a block, and the result of such windows. */
    float value;
    uint8_t result;
    int is_known;
} Elements;

static inline const float *elements_of(const Elements *from, Index tap, Index x) {
    return from->rows ? (const float *)from->rows[tap] + x
                      : from->line + tap * from->taps->step + x;
}

ALWAYS_INLINE Vec_double exact_element(const Elements *from, Index tap, Index x) {
    return __builtin_convertvector(*(const HalfLoose_float *)elements_of(from, tap, x), Vec_double);
}

/* Compute results from x on in float64, in SciPy's order. */
static void sum_exactly(const Elements *from, double *sums, Index x) {
    const Taps *taps = from->taps;
    const Index lanes = VECTOR_BYTES / sizeof(double), last = taps->size - 1;
    const Index centre = taps->symmetry == GENERAL ? last : last / 2;
    for (Index i = 0; i < RUN; i += lanes) {
        Vec_double sum = exact_element(from, centre, x + i) * taps->exact[centre];
        ROUNDED(sum);
        for (Index t = 0; t < centre; t++) {
            Vec_double element = exact_element(from, t, x + i);
            if (taps->symmetry == SYMMETRIC) element += exact_element(from, last - t, x + i);
            if (taps->symmetry == ANTISYMMETRIC) element -= exact_element(from, last - t, x + i);
            element *= taps->exact[t];
            ROUNDED(element);
            sum += element;
        }
        memcpy(sums + i, &sum, sizeof(sum));
    }
}

/* Tell whether `BLOCK` results from x on depend on nothing but elements of one value. */
static int is_flat(const Elements *from, Index x) {
    enum { VECTORS = BLOCK * sizeof(uint32_t) / VECTOR_BYTES };
    Vec_uint32_t differences[VECTORS] = {{0}};
    uint32_t value, any = 0;
    memcpy(&value, elements_of(from, 0, x), sizeof(value));
    for (Index t = 0; t < from->taps->size; t++) {
        const Loose_uint32_t *elements = (const Loose_uint32_t *)elements_of(from, t, x);
    UNROLL for (Index i = 0; i < VECTORS; i++) {
            differences[i] |= (Vec_uint32_t)elements[i] ^ value;
        }
    }
    for (Index i = 1; i < VECTORS; i++) differences[0] |= differences[i];
    for (Index i = 0; i < VECTOR_BYTES / (Index)sizeof(uint32_t); i++) any |= differences[0][i];
    return !any;
}

/* Compute and store a run of results again. */
static void store_exactly(const Elements *from, uint8_t *to, Index x) {
    double sums[RUN];
    sum_exactly(from, sums, x);
    store_uint8_t_double(to, sums, RUN);
}

/* Store the results of a block in which all windows show one value. */
static void store_flat(Elements *from, uint8_t *to, Index x) {
    float value = elements_of(from, 0, x)[0];
    if (!from->is_known || from->value != value) {
        uint8_t results[RUN];
        store_exactly(from, results, x);
        from->value = value;
        from->result = results[0];
        from->is_known = 1;
    }
    memset(to, from->result, BLOCK);
}

/* Tell whether an integer is within the margin of any of `count` sums, which are below 2 ** 22. */
ALWAYS_INLINE int is_doubtful(const float *sums, Index count, float margin) {
    const float shift = 12582912; /* 1.5 * 2 ** 23: float32 has no fractions there. */
    int doubtful = 0;
    for (Index i = 0; i < count; i++) {
        float rest = sums[i] - ((sums[i] + shift) - shift);
        doubtful |= (rest < 0 ? -rest : rest) <= margin;
    }
    return doubtful;
}

/* Truncate and store sums of results from x on. */
static void store_certified(Elements *from, uint8_t *to, const float *sums, Index x, Index count) {
    const float margin = from->taps->margin;
    for (Index i = 0; i < count; i += BLOCK) {
        Index some = smaller(BLOCK, count - i);
        for (Index j = i; j < i + some; j++) to[j] = (uint8_t)(int32_t)sums[j];
        int doubtful = some == BLOCK ? is_doubtful(sums + i, BLOCK, margin)
                                     : is_doubtful(sums + i, some, margin);
        if (doubtful && some == BLOCK && is_flat(from, x + i)) {
            store_flat(from, to + i, x + i);
            continue;
        }
        for (Index j = i; doubtful && j < i + some; j += RUN) {
            Index at = smaller(j, count - RUN); /* The last run ends where the results end. */
            if (is_doubtful(sums + at, RUN, margin)) store_exactly(from, to + at, x + at);
        }
    }
}

/* A FilterRows of the driver, for rows that have at least RUN elements. */
static void correlate_rows_certified(const void *filter, char *to, Index pitch,
                                     const char *const *rows, Index outs, Index count,
                                     char *stage) {
    const Taps *taps = (const Taps *)filter;
    const Index stage_pitch = 2 * COLUMNS_TOGETHER * sizeof(float);
    for (Index y = 0, some_rows; y < outs; y += some_rows) {
        some_rows = smaller(outs - y, ROWS_TOGETHER);
        for (Index x = 0, some; x < count; x += some) {
            some = count - x < 2 * COLUMNS_TOGETHER ? count - x : COLUMNS_TOGETHER;
            any_rows_float(taps, stage, stage_pitch, rows + y, some_rows, x, some);
            for (Index r = 0; r < some_rows; r++) {
                Elements from = {taps, NULL, rows + y + r, 0, 0, 0};
                const float *sums = (const float *)(stage + r * stage_pitch);
                char *at = to + (y + r) * pitch + x;
                char *into = taps->combine ? stage + CONVERTED_AT : at;
                store_certified(&from, (uint8_t *)into, sums, x, some);
                if (taps->combine) taps->combine(at, into, some);
            }
        }
    }
}

/* A FilterLine of the driver. */
static void correlate_line_certified(const void *filter, char *to, const char *line, Index count,
                                     char *stage) {
    const Taps *taps = (const Taps *)filter;
    Elements from = {taps, (const float *)line, NULL, 0, 0, 0};
    Index whole = larger(count, RUN);
    any_line_float(taps, (float *)stage, (const float *)line, whole);
    char *into = whole == count && !taps->combine ? to : stage + CONVERTED_AT;
    store_certified(&from, (uint8_t *)into, (const float *)stage, 0, whole);
    if (taps->combine) {
        taps->combine(to, into, count);
    } else if (into != to) {
        memcpy(to, into, (size_t)count);
    }
}

#endif
