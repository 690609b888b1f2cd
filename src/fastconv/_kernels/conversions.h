/* Conversions of rows between the types of arrays and those that filters compute with. This file is a
 * template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_CONVERSIONS_H
#define FASTCONV_CONVERSIONS_H

#include <math.h>
#include <stdint.h>

#include "number.h"

/* An empty instruction that may change a vector. So the compiler cannot fuse a product and its sum,
 * and does not load a vector again for each of its uses. */
#if defined(__x86_64__)
#define HIDE(product) __asm__("" : "+v"(product))
#elif defined(__aarch64__)
#define HIDE(product) __asm__("" : "+w"(product))
#else
#define HIDE(product) __asm__("" : "+m"(product))
#endif

typedef enum {
    IN_FLOAT,   /* float32, with fused multiply-adds. */
    IN_DOUBLE,  /* float64, with fused multiply-adds. */
    IN_ORDER,   /* float64, each product and each sum rounded, as SciPy computes. */
    IN_INTEGER, /* Integers modulo 2^64. */
    ARITHMETICS,
} Arithmetic;

static Index bytes_in(Arithmetic arithmetic) {
    return arithmetic == IN_FLOAT ? sizeof(float) : sizeof(double);
}

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
#define TEMPLATE "conversions.h"
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
#else /* the template */

static void NAMED(load_float)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((float *)to)[i] = (float)((const T *)from)[i];
}

static void NAMED(load_double)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((double *)to)[i] = (double)((const T *)from)[i];
}

static void NAMED(load_integer)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((uint64_t *)to)[i] = (uint64_t)((const T *)from)[i];
}

static void NAMED(store_float)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = NAMED(SHORT)(((const float *)from)[i]);
}

static void NAMED(store_double)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = NAMED(CAST)(((const double *)from)[i]);
}

static void NAMED(store_wrapped)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = (T)to_int64(((const double *)from)[i]);
}

static void NAMED(store_integer)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = (T)((const uint64_t *)from)[i];
}

#endif
