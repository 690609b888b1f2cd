/* Vectors of the CPU level's width. In a template of number.h, Vec, Loose and Mask are named after T,
 * and LANES is the number of T in a vector. */
#ifndef FASTCONV_VECTORS_H
#define FASTCONV_VECTORS_H

#include <stdint.h>

#include "number.h"

enum {
#if defined(__AVX512F__)
    VECTOR_BYTES = 64,
#elif defined(__AVX2__)
    VECTOR_BYTES = 32,
#else
    VECTOR_BYTES = 16,
#endif
};

/* The number of vector registers, which register tiles are made for. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define VECTOR_REGISTERS 32
#else
#define VECTOR_REGISTERS 16
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* Orders of the lanes of two vectors a and b. ZIP_FIRST and ZIP_SECOND interleave the first or
 * the second halves of both: a0 b0 a1 b1 ... EVEN and ODD take every second lane of a, and then
 * of b. */
#define ZIP_FIRST_2 0, 2
#define ZIP_SECOND_2 1, 3
#define EVEN_2 0, 2
#define ODD_2 1, 3
#define ZIP_FIRST_4 0, 4, 1, 5
#define ZIP_SECOND_4 2, 6, 3, 7
#define EVEN_4 0, 2, 4, 6
#define ODD_4 1, 3, 5, 7
#define ZIP_FIRST_8 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_SECOND_8 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN_8 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_8 1, 3, 5, 7, 9, 11, 13, 15
#define ZIP_FIRST_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_SECOND_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN_16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
/* The lanes before those of b, of which the first is the last of a, and the lanes after those of a, of
 * which the last is the first of b. */
#define BEFORE_2 1, 2
#define AFTER_2 1, 2
#define BEFORE_4 3, 4, 5, 6
#define AFTER_4 1, 2, 3, 4
#define BEFORE_8 7, 8, 9, 10, 11, 12, 13, 14
#define AFTER_8 1, 2, 3, 4, 5, 6, 7, 8
#define BEFORE_16 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define AFTER_16 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#if defined(__AVX512F__)
#define ORDER_float(name) name##_16
#define ORDER_double(name) name##_8
#elif defined(__AVX2__)
#define ORDER_float(name) name##_8
#define ORDER_double(name) name##_4
#else
#define ORDER_float(name) name##_4
#define ORDER_double(name) name##_2
#endif

#define VECTORS_OF(T, MASK)                                                                      \
    typedef T Vec_##T __attribute__((vector_size(VECTOR_BYTES)));                                \
    typedef T Loose_##T __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias)); \
    typedef MASK Mask_##T __attribute__((vector_size(VECTOR_BYTES)));
VECTORS_OF(float, int32_t)
VECTORS_OF(double, int64_t)
VECTORS_OF(int8_t, int8_t)
VECTORS_OF(uint8_t, int8_t)
VECTORS_OF(int16_t, int16_t)
VECTORS_OF(uint16_t, int16_t)
VECTORS_OF(int32_t, int32_t)
VECTORS_OF(uint32_t, int32_t)
VECTORS_OF(int64_t, int64_t)
VECTORS_OF(uint64_t, int64_t)
#undef VECTORS_OF

#define LANES (VECTOR_BYTES / (Index)sizeof(T))
#if defined(__clang__)
#define SHUFFLE(a, b, order) __builtin_shufflevector(a, b, NAMED(ORDER)(order))
#else
#define SHUFFLE(a, b, order) __builtin_shuffle(a, b, (NAMED(Mask)){NAMED(ORDER)(order)})
#endif

#endif
