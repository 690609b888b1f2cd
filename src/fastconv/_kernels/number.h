/* The types of numbers, and the mechanism of headers that are templates over them.
 *
 * Kernels have tables of functions, one entry per type, that are indexed by a Number. The entry of
 * a type for which a kernel has no functions is NULL.
 *
 * A template defines TEMPLATE as its own file name and includes this header. This header then
 * includes the template once for float and once for double, or also for the integers that the
 * template asks for with WITH_UNSIGNED and WITH_SIGNED. In the template, T is the type, and
 * NAMED(name) is a name that contains T.
 */
#ifndef FASTCONV_NUMBER_H
#define FASTCONV_NUMBER_H

#include <stdint.h>

#include "window.h"

typedef enum {
    OPAQUE, /* An element of any size that is moved, but never computed with. */
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    NUMBERS, /* The length of a table. */
} Number;

/* Return the size of a number in bytes, or 0 if it may have any size. */
static inline Index bytes_of(Number number) {
    static const Index bytes[NUMBERS] = {
        [FLOAT16] = 2, [FLOAT32] = 4, [FLOAT64] = 8, [INT8] = 1,   [INT16] = 2,  [INT32] = 4,
        [INT64] = 8,   [UINT8] = 1,   [UINT16] = 2,  [UINT32] = 4, [UINT64] = 8,
    };
    return bytes[number];
}

/* Return the type of NumPy's `kind` that has a size in bytes. A bool ('b') is a UINT8. */
static inline Number number_of_kind(char kind, Index bytes) {
    Number smallest = kind == 'i' ? INT8 : kind == 'u' || kind == 'b' ? UINT8 : FLOAT16;
    Number last = kind == 'i' ? INT64 : kind == 'u' || kind == 'b' ? UINT64 : FLOAT64;
    for (Number number = smallest; number <= last; number++)
        if (bytes_of(number) == bytes) return number;
    return OPAQUE;
}

#define NUMBER_JOIN_(a, b) a##_##b
#define NUMBER_JOIN(a, b) NUMBER_JOIN_(a, b)
#define NAMED(name) NUMBER_JOIN(name, T)

#endif

#ifdef TEMPLATE
#define T float
#include TEMPLATE
#undef T
#define T double
#include TEMPLATE
#undef T
#ifdef WITH_UNSIGNED
#define T uint8_t
#include TEMPLATE
#undef T
#define T uint16_t
#include TEMPLATE
#undef T
#define T uint32_t
#include TEMPLATE
#undef T
#define T uint64_t
#include TEMPLATE
#undef T
#undef WITH_UNSIGNED
#endif
#ifdef WITH_SIGNED
#define T int8_t
#include TEMPLATE
#undef T
#define T int16_t
#include TEMPLATE
#undef T
#define T int32_t
#include TEMPLATE
#undef T
#define T int64_t
#include TEMPLATE
#undef T
#undef WITH_SIGNED
#endif
#undef TEMPLATE
#endif
