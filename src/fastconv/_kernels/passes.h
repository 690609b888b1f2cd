/* What the passes of separable.pyx compute with. */
#ifndef FASTCONV_PASSES_H
#define FASTCONV_PASSES_H

#include "certified.h"
#include "combine.h"
#include "correlation.h"

/* What computes with one type of lanes. Conversions that are NULL are not needed. */
typedef struct {
    Index bytes;
    void (*rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                 Index count, char *stage);
    void (*line)(const void *filter, char *to, const char *line, Index count, char *stage);
    void (*load[NUMBERS])(void *to, const void *from, Index count);
    Store store[NUMBERS];
} Lanes;

/* Return what computes a type in float32, float64, or modulo 2 ** 16 or 2 ** 32. */
static inline const Lanes *lanes_of(Number computed, Number written) {
#define FROM_SMALL_INTEGERS                                                  \
    {                                                                        \
        [INT8] = load_float_int8_t, [UINT8] = load_float_uint8_t,            \
        [INT16] = load_float_int16_t, [UINT16] = load_float_uint16_t,        \
    }
    static const Lanes of_float = {
        sizeof(float), correlate_rows_float, correlate_line_float, FROM_SMALL_INTEGERS, {NULL}};
    static const Lanes of_bytes = {sizeof(float),
                                   correlate_rows_certified,
                                   correlate_line_certified,
                                   FROM_SMALL_INTEGERS,
                                   {NULL}};
#undef FROM_SMALL_INTEGERS
    static const Lanes of_double = {
        sizeof(double),
        correlate_rows_double,
        correlate_line_double,
        {
            [INT8] = load_double_int8_t,
            [UINT8] = load_double_uint8_t,
            [INT16] = load_double_int16_t,
            [UINT16] = load_double_uint16_t,
            [INT32] = load_double_int32_t,
            [UINT32] = load_double_uint32_t,
            [INT64] = load_double_int64_t,
            [UINT64] = load_double_uint64_t,
            [FLOAT32] = load_double_float,
        },
        {
            [INT8] = store_int8_t_double,
            [UINT8] = store_uint8_t_double,
            [INT16] = store_int16_t_double,
            [UINT16] = store_uint16_t_double,
            [INT32] = store_int32_t_double,
            [UINT32] = store_uint32_t_double,
            [INT64] = store_int64_t_double,
            [UINT64] = store_uint64_t_double,
            [FLOAT32] = store_float_double,
        },
    };
    static const Lanes of_16_bits = {
        sizeof(uint16_t),
        correlate_rows_uint16_t,
        correlate_line_uint16_t,
        {[INT8] = load_uint16_t_int8_t, [UINT8] = load_uint16_t_uint8_t},
        {[INT8] = store_uint8_t_uint16_t, [UINT8] = store_uint8_t_uint16_t},
    };
    static const Lanes of_32_bits = {
        sizeof(uint32_t),
        correlate_rows_uint32_t,
        correlate_line_uint32_t,
        {
            [INT8] = load_uint32_t_int8_t,
            [UINT8] = load_uint32_t_uint8_t,
            [INT16] = load_uint32_t_int16_t,
            [UINT16] = load_uint32_t_uint16_t,
        },
        {NULL},
    };
    switch (computed) {
        case FLOAT32: return written == FLOAT32 ? &of_float : &of_bytes;
        case UINT16: return &of_16_bits;
        case UINT32: return &of_32_bits;
        default: return &of_double;
    }
}

#endif
