/* Copies of rows of an array with any layout to contiguous scratch memory, and back.
 *
 * Only these functions know about arrays that are strided, unaligned, byte-swapped, float16 or
 * padded. Kernels compute on rows that are contiguous, native and already padded. The copies of
 * padded rows have up to ten parameters, because a row has a place and a layout on both sides, and
 * most of these functions are inlined.
 */
#ifndef FASTCONV_ROWS_H
#define FASTCONV_ROWS_H

#include <stdint.h>
#include <string.h>

#include "number.h"
#include "window.h"

/* The conversions of an element that is copied to scratch, where it becomes float32 or float64. */
enum { AS_IS, FROM_HALF, FROM_FLOAT, FROM_SIGNED, FROM_UNSIGNED };

/* The format of an element in memory and in scratch. */
typedef struct {
    Index bytes;         /* The size of an element in memory. */
    Index scratch_bytes; /* The size of an element in scratch. */
    Number number;       /* The type of an element in scratch. */
    int conversion;
    int swapped; /* Whether the byte order in memory is not that of the processor. */
} Format;

static inline float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t mantissa = half & 0x3ff, bits;
    float value;
    if (exponent == 0) { /* Zero or subnormal: mantissa * 2^-24 is exact in float32. */
        value = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &value, 4);
        bits |= sign;
    } else {
        bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | mantissa << 13;
    }
    return bits_to_float(bits);
}

static inline uint16_t float_to_half(float value) {
    uint32_t bits, sign, magnitude;
    memcpy(&bits, &value, 4);
    sign = bits >> 16 & 0x8000;
    magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) /* NaN: if the shorter payload were 0, it would be infinity. */
        return (uint16_t)(sign | 0x7c00 | (magnitude >> 13 & 0x3ff ? magnitude >> 13 & 0x3ff : 1));
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* Rounded to infinity. */
    if (magnitude < 0x38800000) {                                  /* Subnormal in float16. */
        float scaled;
        memcpy(&scaled, &magnitude, 4);
        scaled += 0.5f; /* The last bit of 0.5 is 2^-24, so the addition rounds to it. */
        memcpy(&bits, &scaled, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1); /* Round to nearest, ties to even. */
    return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

static inline uint16_t swap_2(uint16_t v) { return (uint16_t)(v << 8 | v >> 8); }
static inline uint32_t swap_4(uint32_t v) {
    return v << 24 | (v & 0xff00) << 8 | (v >> 8 & 0xff00) | v >> 24;
}
static inline uint64_t swap_8(uint64_t v) {
    return (uint64_t)swap_4((uint32_t)v) << 32 | swap_4((uint32_t)(v >> 32));
}

typedef struct {
    uint64_t low, high;
} Bytes16;

/* Copy `count` elements that lie `stride` bytes apart. For every second element, which windows
 * of stride 2 read, the compiler knows the stride and uses shuffles. Neither side needs to be
 * aligned. */
#define STRIDED_ROW(BYTES, T, CONVERT)                                                      \
    static void load_row_##BYTES(char *restrict to, const char *restrict from, Index count, \
                                 Index stride) {                                            \
        if (stride == 2 * BYTES)                                                            \
            for (Index i = 0; i < count; i++)                                               \
                memcpy(to + i * BYTES, from + i * 2 * BYTES, BYTES);                        \
        else                                                                                \
            for (Index i = 0; i < count; i++)                                               \
                memcpy(to + i * BYTES, from + i * stride, BYTES);                           \
    }                                                                                       \
    static void load_swapped_row_##BYTES(char *restrict to, const char *restrict from,      \
                                         Index count, Index stride) {                       \
        T value;                                                                            \
        for (Index i = 0; i < count; i++) {                                                 \
            memcpy(&value, from + i * stride, BYTES);                                       \
            value = CONVERT(value);                                                         \
            memcpy(to + i * BYTES, &value, BYTES);                                          \
        }                                                                                   \
    }
#define SAME(v) (v)
STRIDED_ROW(1, uint8_t, SAME)
STRIDED_ROW(2, uint16_t, swap_2)
STRIDED_ROW(4, uint32_t, swap_4)
STRIDED_ROW(8, uint64_t, swap_8)
STRIDED_ROW(16, Bytes16, SAME)
#undef STRIDED_ROW

/* Copy a row to scratch, and convert each element. */
#define CONVERT_ROW(T, SWAP, TO, CONVERT)                    \
    for (Index i = 0; i < count; i++) {                      \
        T value;                                             \
        memcpy(&value, from + i * stride, sizeof value);     \
        if (format.swapped) value = SWAP(value);             \
        ((TO *)to)[i] = (TO)CONVERT(value);                  \
    }
#define CONVERT_INTEGERS(SIGN, TO)                                      \
    switch (format.bytes) {                                             \
        case 1: CONVERT_ROW(uint8_t, SAME, TO, (SIGN##8_t)) break;      \
        case 2: CONVERT_ROW(uint16_t, swap_2, TO, (SIGN##16_t)) break;  \
        case 4: CONVERT_ROW(uint32_t, swap_4, TO, (SIGN##32_t)) break;  \
        default: CONVERT_ROW(uint64_t, swap_8, TO, (SIGN##64_t))        \
    }
#define CONVERT_TO(TO)                                                           \
    switch (format.conversion) {                                                 \
        case FROM_HALF: CONVERT_ROW(uint16_t, swap_2, TO, half_to_float) break;  \
        case FROM_FLOAT: CONVERT_ROW(uint32_t, swap_4, TO, bits_to_float) break; \
        case FROM_SIGNED: CONVERT_INTEGERS(int, TO) break;                       \
        default: CONVERT_INTEGERS(uint, TO)                                      \
    }
static void load_converted_row(void *to, const char *from, Index count, Index stride,
                               Format format) {
    if (format.number == FLOAT32)
        CONVERT_TO(float)
    else
        CONVERT_TO(double)
}
#undef CONVERT_TO
#undef CONVERT_INTEGERS
#undef CONVERT_ROW
#undef SAME

/* Copy `count` elements, `stride` bytes apart, to contiguous scratch. */
static void load_row(void *row, const char *from, Index count, Index stride, Format format) {
    char *to = (char *)row;
    if (format.conversion) {
        load_converted_row(to, from, count, stride, format);
    } else if (format.swapped) {
        switch (format.bytes) {
            case 2: load_swapped_row_2(to, from, count, stride); break;
            case 4: load_swapped_row_4(to, from, count, stride); break;
            case 8: load_swapped_row_8(to, from, count, stride); break;
        }
    } else if (stride == format.bytes) {
        memcpy(to, from, (size_t)(count * format.bytes));
    } else {
        switch (format.bytes) {
            case 1: load_row_1(to, from, count, stride); break;
            case 2: load_row_2(to, from, count, stride); break;
            case 4: load_row_4(to, from, count, stride); break;
            case 8: load_row_8(to, from, count, stride); break;
            case 16: load_row_16(to, from, count, stride); break;
            default:
                for (Index i = 0; i < count; i++)
                    memcpy(to + i * format.bytes, from + i * stride, (size_t)format.bytes);
        }
    }
}

/* Lines are prefetched this far ahead, beyond the end of a page, where hardware prefetchers
 * stop. Of 1, 2, 4 and 8 KiB this is the best; it saves a tenth to a quarter of the time of
 * max_pool2d. */
enum { PREFETCH_BYTES = 4096 };

/* De-interleave `count` elements into two rows. */
static inline void deinterleave_row(void *restrict even, void *restrict odd,
                                    const void *restrict from, Index count, Index bytes) {
    Index i = 0, pairs = count / 2;
/* Copy N pairs at a time. The last N overlap those before them, so that they end with the row.
 * Loops of constant length become shuffles, and no rest of the row needs scalar code. */
#define DEINTERLEAVE_PAIRS(T, N)                                                   \
    for (; pairs >= N && i < pairs; i += N) {                              \
        i = smaller(i, pairs - N);                                         \
        for (Index j = i; j < i + N; j++) {                                \
            ((T *)even)[j] = ((const T *)from)[2 * j];                     \
            ((T *)odd)[j] = ((const T *)from)[2 * j + 1];                  \
        }                                                                  \
    }
#define DEINTERLEAVE(T)                                                            \
    do {                                                                   \
        DEINTERLEAVE_PAIRS(T, 16)                                                  \
        DEINTERLEAVE_PAIRS(T, 4)                                                   \
        DEINTERLEAVE_PAIRS(T, 1)                                                   \
        if (count % 2) ((T *)even)[pairs] = ((const T *)from)[count - 1];  \
    } while (0)
    for (Index ahead = 0; ahead < count * bytes; ahead += 64)
        __builtin_prefetch((const char *)from + ahead + PREFETCH_BYTES);
    switch (bytes) {
        case 1: DEINTERLEAVE(uint8_t); break;
        case 2: DEINTERLEAVE(uint16_t); break;
        case 4: DEINTERLEAVE(uint32_t); break;
        default: DEINTERLEAVE(uint64_t);
    }
#undef DEINTERLEAVE
#undef DEINTERLEAVE_PAIRS
}

/* Interleave two rows: to = even[0], odd[0], even[1], ... There may be one odd element fewer. */
static inline void interleave_rows(void *restrict to, const void *restrict even,
                                   const void *restrict odd, Index count, Index bytes) {
    Index i = 0, pairs = count / 2;
#define INTERLEAVE_PAIRS(T, N)                                                    \
    for (; pairs >= N && i < pairs; i += N) {                              \
        i = smaller(i, pairs - N);                                         \
        for (Index j = i; j < i + N; j++) {                                \
            ((T *)to)[2 * j] = ((const T *)even)[j];                       \
            ((T *)to)[2 * j + 1] = ((const T *)odd)[j];                    \
        }                                                                  \
    }
#define INTERLEAVE(T)                                                             \
    do {                                                                   \
        INTERLEAVE_PAIRS(T, 16)                                                   \
        INTERLEAVE_PAIRS(T, 4)                                                    \
        INTERLEAVE_PAIRS(T, 1)                                                    \
        if (count % 2) ((T *)to)[count - 1] = ((const T *)even)[pairs];    \
    } while (0)
    if (bytes == 4)
        INTERLEAVE(uint32_t);
    else
        INTERLEAVE(uint64_t);
#undef INTERLEAVE
#undef INTERLEAVE_PAIRS
}

/* Return whether kernels can read a row in place. */
static inline int is_plain(Format format, Index stride, const char *data) {
    return stride == format.bytes && !format.swapped && !format.conversion &&
           (uintptr_t)data % (uintptr_t)format.bytes == 0;
}

/* Write scratch to a contiguous native row, and convert float32 to float16 for a float16 row. */
static inline void store_row(char *to, const void *from, Index count, Format format) {
    if (format.conversion == FROM_HALF) {
        uint16_t *out = (uint16_t *)to;
        for (Index i = 0; i < count; i++) out[i] = float_to_half(((const float *)from)[i]);
    } else {
        memcpy(to, from, (size_t)(count * format.bytes));
    }
}

/* Write scratch to a native row whose elements lie `stride` bytes apart, as store_row does. */
static inline void store_strided_row(char *to, Index stride, const void *from, Index count,
                                     Format format) {
    for (Index i = 0; i < count; i++, to += stride) {
        if (format.bytes == 4) {
            memcpy(to, (const float *)from + i, 4);
        } else if (format.bytes == 8) {
            memcpy(to, (const double *)from + i, 8);
        } else {
            uint16_t half = float_to_half(((const float *)from)[i]);
            memcpy(to, &half, 2);
        }
    }
}

/* Clear the few bytes of most paddings without a call of memset, which would take longer. */
static inline void clear_bytes(char *to, Index bytes) {
    static const char zeros[16] = {0};
    if (bytes >= 4 && bytes <= 16) {
        if (bytes < 8) {
            memcpy(to, zeros, 4), memcpy(to + bytes - 4, zeros, 4);
        } else {
            memcpy(to, zeros, 8), memcpy(to + bytes - 8, zeros, 8);
        }
    } else if (bytes) {
        memset(to, 0, (size_t)bytes);
    }
}

/* Write `count` copies of one element; NULL means zero. */
static void fill_row(void *to, const void *element, Index count, Index bytes) {
    Index total = count * bytes, done = bytes;
    if (!element || !total) {
        clear_bytes((char *)to, total);
        return;
    }
    memcpy(to, element, (size_t)bytes);
    for (; done < total; done *= 2)
        memcpy((char *)to + done, to, (size_t)smaller(done, total - done));
}

/* Copy the `count` padded positions first, first+spacing, ... of a row to scratch. `from` is pixel
 * 0 of the row, or NULL for a row outside the image. `outside` is the element of constant
 * padding. */
static void load_padded_row(void *to, const char *from, Index first, Index spacing, Index count,
                            Index stride, const Axis *axis, Format format, const void *outside) {
    char *out = (char *)to;
    Index bytes = format.scratch_bytes, lead, inner;
    if (!from) {
        fill_row(out, outside, count, bytes);
        return;
    }
    lead = axis->before - first, inner = lead + axis->size;
    if (spacing != 1) lead = ceil_div(lead, spacing), inner = ceil_div(inner, spacing);
    lead = smaller(larger(lead, 0), count);
    inner = smaller(larger(inner, lead), count) - lead;
    if (inner)
        load_row(out + lead * bytes, from + (first + lead * spacing - axis->before) * stride, inner,
                 spacing * stride, format);
    if (axis->pad_mode == PAD_CONSTANT) {
        fill_row(out, outside, lead, bytes);
        fill_row(out + (lead + inner) * bytes, outside, count - lead - inner, bytes);
        return;
    }
    for (Index i = 0; i < count; i++) {
        if (i == lead) i += inner;
        if (i < count)
            load_row(out + i * bytes, from + source_index(axis, first + i * spacing) * stride, 1, 0,
                     format);
    }
}

/* Copy the padded positions first, first+1, ... to scratch, de-interleaved into `phases` rows of
 * `count` elements that lie `phase_stride` bytes apart. */
static inline void load_padded_phases(char *to, Index phase_stride, Index phases, const char *from,
                                      Index first, Index count, Index stride, const Axis *axis,
                                      Format format, const void *outside) {
    Index skipped = larger(first - axis->before, 0); /* The pixels left of the first position. */
    Index lead = axis->before + skipped - first;     /* The positions left of the first pixel. */
    Index pixels = smaller(axis->size - skipped, 2 * count - lead);
    if (phases != 2 || !from || pixels < 0 || axis->pad_mode != PAD_CONSTANT ||
        !is_plain(format, stride, from)) {
        for (Index phase = 0; phase < phases; phase++)
            load_padded_row(to + phase * phase_stride, from, first + phase, phases, count, stride,
                            axis, format, outside);
        return;
    }
    for (Index side = 0; side < 2; side++) { /* The phase of the first pixel comes first. */
        Index phase = (lead + side) % 2, before = (lead + side) / 2;
        Index inner = (pixels + 1 - side) / 2;
        char *row = to + phase * phase_stride;
        if (before) fill_row(row, outside, before, format.bytes);
        if (before + inner < count)
            fill_row(row + (before + inner) * format.bytes, outside, count - before - inner,
                     format.bytes);
    }
    deinterleave_row(to + lead % 2 * phase_stride + lead / 2 * format.bytes,
                     to + (lead + 1) % 2 * phase_stride + (lead + 1) / 2 * format.bytes,
                     from + skipped * format.bytes, pixels, format.bytes);
}

/* Copy a multiple of 4 bytes in copies of constant size. The last copy overlaps the one before
 * it, so that it ends with the row. For most rows a call of memcpy would take longer. */
static inline void copy_bytes(char *to, const char *from, Index bytes) {
#define COPY_BY(CHUNK)                                                                  \
    do {                                                                                \
        for (Index i = 0; i < bytes - CHUNK; i += CHUNK) memcpy(to + i, from + i, CHUNK); \
        memcpy(to + bytes - CHUNK, from + bytes - CHUNK, CHUNK);                        \
    } while (0)
    if (bytes >= 64)
        COPY_BY(64);
    else if (bytes >= 16)
        COPY_BY(16);
    else
        for (Index i = 0; i < bytes; i += 4) memcpy(to + i, from + i, 4);
#undef COPY_BY
}

/* Copy rows of `inner` bytes with zeros around them: `above` and `below` are numbers of rows,
 * `before` and `behind` are numbers of bytes. All numbers of bytes are multiples of 4. */
static inline void load_plain_rows(char *to, Index pitch, const char *from, Index stride,
                                   Index above, Index rows, Index below, Index before, Index inner,
                                   Index behind) {
    clear_bytes(to, above * pitch);
    to += above * pitch;
    for (; rows > 0; rows--, to += pitch, from += stride) {
        char *end = to + before + inner;
        for (Index i = 0; i < before; i += 4) memset(to + i, 0, 4);
        copy_bytes(to + before, from, inner);
        for (Index i = 0; i < behind; i += 4) memset(end + i, 0, 4);
    }
    clear_bytes(to, below * pitch);
}

#endif
