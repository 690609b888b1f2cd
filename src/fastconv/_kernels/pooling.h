/* Conversions between the buffers of pooling and the arrays of its callers. */
#ifndef FASTCONV_POOLING_H
#define FASTCONV_POOLING_H

#include <stdint.h>
#include <string.h>

#include "rows.h"
#include "vectors.h"
#include "window.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Copy rows that lie `pitch` bytes apart to contiguous memory. Copies have a constant size; the
 * next copy overwrites the surplus of one, and there is no surplus at the end. */
static void store_rows(char *restrict to, const char *restrict from, Index rows, Index bytes,
                       Index pitch) {
    const char *end = to + rows * bytes;
    for (Index r = 0; r < rows; r++, to += bytes, from += pitch) {
        Index at = 0;
        for (; at < bytes && end - (to + at) >= 64; at += 64) memcpy(to + at, from + at, 64);
#if defined(__AVX512F__)
        if (at < bytes) {
            const __mmask64 rest = ~(__mmask64)0 >> (64 - smaller(bytes - at, 64));
            _mm512_mask_storeu_epi8(to + at, rest, _mm512_maskz_loadu_epi8(rest, from + at));
            at += 64;
        }
#endif
        if (at < bytes) memcpy(to + at, from + at, (size_t)(bytes - at));
    }
}

/* The indices of neighbouring outputs of max_pool2d. */
typedef struct {
    Index rows, columns;
    Index first;              /* The position of the first window's first tap in its plane. */
    Index row_stride, stride; /* Positions from one window to the next, along both axes. */
    Index pitch, to_pitch;    /* Elements from one row to the next: of offsets, and of indices. */
} Positions;

/* Write the position of each window's first tap plus the offset of the tap that is the maximum. */
#define STORE_INDICES(OFFSET)                                                           \
    for (Index r = 0; r < at.rows; r++, to += at.to_pitch, at.first += at.row_stride) { \
        Index position = at.first;                                                      \
        for (Index i = 0; i < at.columns; i++, position += at.stride)                   \
            to[i] = position + ((const OFFSET *)offsets)[r * at.pitch + i];             \
    }
#if defined(__AVX512F__)
/* Masks of 8 lanes, because the rows of most planes are short. */
static void store_narrow_indices(int64_t *to, const int32_t *offsets, Positions at) {
    const __m512i ramp = _mm512_mullo_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi64(at.stride));
    const __m512i step = _mm512_set1_epi64(8 * at.stride);
    for (Index r = 0; r < at.rows; r++, to += at.to_pitch, offsets += at.pitch) {
        __m512i position = _mm512_add_epi64(_mm512_set1_epi64(at.first + r * at.row_stride), ramp);
        for (Index i = 0; i < at.columns; i += 8, position = _mm512_add_epi64(position, step)) {
            const Index n = at.columns - i;
            const __mmask8 lanes = n >= 8 ? 0xff : (__mmask8)((1u << n) - 1);
            const __m256i some = _mm256_maskz_loadu_epi32(lanes, offsets + i);
            _mm512_mask_storeu_epi64(to + i, lanes,
                                     _mm512_add_epi64(position, _mm512_cvtepi32_epi64(some)));
        }
    }
}
#else
static void store_narrow_indices(int64_t *restrict to, const int32_t *restrict offsets,
                                 Positions at) {
    STORE_INDICES(int32_t)
}
#endif
static void store_indices(int64_t *restrict to, const void *restrict offsets, int wide,
                          Positions at) {
    if (wide)
        STORE_INDICES(int64_t)
    else
        store_narrow_indices(to, (const int32_t *)offsets, at);
}
#undef STORE_INDICES

/* Set offsets[i] = base + firsts[i]. */
static inline void start_indices(void *offsets, int wide, Index base, const Index *firsts,
                                 Index count) {
    if (wide)
        for (Index i = 0; i < count; i++) ((int64_t *)offsets)[i] = base + firsts[i];
    else
        for (Index i = 0; i < count; i++) ((int32_t *)offsets)[i] = (int32_t)(base + firsts[i]);
}

/* Rows of a padded band in scratch that are made of rows of pixels which can be read in place. */
typedef struct {
    const char *pixels; /* The pixel of row 0 that is the first one in the band. */
    Index row_stride;   /* The number of bytes from one row of pixels to the next. */
    Index size;         /* The number of rows of pixels. */
    Index first, step;  /* Row r of the band is row first + r*step; the others are padding. */
    Index rows;
    Index lead, inner, count; /* A row: `lead` elements of padding, `inner` pixels, and padding. */
    Index pitch;              /* The number of elements from one row of the band to the next. */
    Index phases;             /* 2 if even and odd positions are apart, and otherwise 1. */
    Index phase_length;       /* The number of elements from even positions to odd ones. */
} BandRows;

ALWAYS_INLINE void fill_few(char *to, const char *element, Index count, Index bytes) {
    for (Index i = 0; i < count; i++) memcpy(to + i * bytes, element, (size_t)bytes);
}

/* Copy `count` positions of a row that are one phase of it, with the padding around them. */
ALWAYS_INLINE void pad_phase(char *row, const char *outside, Index lead, Index inner, Index count,
                             Index bytes) {
    fill_few(row, outside, lead, bytes);
    fill_few(row + (lead + inner) * bytes, outside, count - lead - inner, bytes);
}

ALWAYS_INLINE void load_rows_of(char *to, const BandRows *band, const char *outside,
                                const Index bytes) {
    const Index lead = band->lead, inner = band->inner, count = band->count;
    for (Index r = 0; r < band->rows; r++, to += band->pitch * bytes) {
        const Index y = band->first + r * band->step;
        const char *from = band->pixels + y * band->row_stride;
        char *odd = to + band->phase_length * bytes;
        if (y < 0 || y >= band->size) {
            fill_few(to, outside, count, bytes);
            if (band->phases == 2) fill_few(odd, outside, count, bytes);
        } else if (band->phases == 1) {
            pad_phase(to, outside, lead, inner, count, bytes);
            if (bytes >= 4 && inner)
                copy_bytes(to + lead * bytes, from, inner * bytes);
            else
                memcpy(to + lead * bytes, from, (size_t)(inner * bytes));
        } else {
            /* The phase of the first pixel has one pixel more than the other if there is an odd
             * one. */
            char *one = lead % 2 ? odd : to, *other = lead % 2 ? to : odd;
            pad_phase(one, outside, lead / 2, (inner + 1) / 2, count, bytes);
            pad_phase(other, outside, (lead + 1) / 2, inner / 2, count, bytes);
            deinterleave_row(one + lead / 2 * bytes, other + (lead + 1) / 2 * bytes, from, inner,
                             bytes);
        }
    }
}

#if defined(__AVX512F__)
/* The longest row of a band that is made of masked vectors, in vectors. */
enum { MASKS = 64 };

ALWAYS_INLINE __mmask64 bytes_below(Index n) {
    return n <= 0 ? 0 : n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

/* Return one phase, 0 or 1, of the elements of two vectors. */
ALWAYS_INLINE __m512i phase_of(__m512i a, __m512i b, int phase, const Index bytes) {
    const __m512i ramp = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    if (bytes == 4)
        return _mm512_permutex2var_epi32(
            a, _mm512_add_epi32(_mm512_slli_epi32(ramp, 1), _mm512_set1_epi32(phase)), b);
    return _mm512_permutex2var_epi64(
        a, _mm512_add_epi64(_mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0), _mm512_set1_epi64(phase)),
        b);
}

/* Do as load_rows_of in whole vectors: a masked load reads pixels, and leaves padding elsewhere. The
 * vectors of a row may reach up to 64 bytes beyond its end, which the next row overwrites. */
ALWAYS_INLINE void load_rows_in_vectors(char *to, const BandRows *band, __m512i outside,
                                        const Index bytes, const int phases) {
    const Index row_bytes = phases * band->count * bytes, lead = band->lead * bytes;
    const Index pair = phases * 64, length = band->phase_length * bytes;
    __mmask64 masks[MASKS + 1];
    for (Index i = 0; i * 64 < row_bytes + 64; i++)
        masks[i] = bytes_below(lead + band->inner * bytes - i * 64) & ~bytes_below(lead - i * 64);
    for (Index r = 0; r < band->rows; r++, to += band->pitch * bytes) {
        const Index y = band->first + r * band->step;
        const int visible = y >= 0 && y < band->size;
        const char *from = band->pixels + y * band->row_stride - lead;
        for (Index i = 0; i < row_bytes; i += pair) {
            const __mmask64 *mask = masks + i / 64;
            __m512i one = outside, two = outside;
            if (visible) one = _mm512_mask_loadu_epi8(outside, mask[0], from + i);
            if (phases == 1) {
                _mm512_storeu_si512(to + i, one);
                continue;
            }
            if (visible) two = _mm512_mask_loadu_epi8(outside, mask[1], from + i + 64);
            __builtin_prefetch(from + i + PREFETCH_BYTES);
            __builtin_prefetch(from + i + PREFETCH_BYTES + 64);
            _mm512_storeu_si512(to + i / 2, phase_of(one, two, 0, bytes));
            _mm512_storeu_si512(to + i / 2 + length, phase_of(one, two, 1, bytes));
        }
    }
}
#endif

/* Make rows of a band; `outside` is the element of padding, or NULL for zero. Behind the rows there
 * must be 64 bytes more, which may be overwritten. */
static void load_band_rows(char *to, const BandRows *band, const void *outside, Index bytes) {
    static const char zeros[8] = {0};
    const char *element = outside ? (const char *)outside : zeros;
#if defined(__AVX512F__)
    if (band->count * bytes * band->phases <= MASKS * 64 - 64 && bytes >= 4 * (band->phases - 1)) {
        char line[64];
        __m512i all;
        fill_few(line, element, 64 / bytes, bytes);
        memcpy(&all, line, sizeof all);
        if (band->phases == 1)
            load_rows_in_vectors(to, band, all, bytes, 1);
        else if (bytes == 4)
            load_rows_in_vectors(to, band, all, 4, 2);
        else
            load_rows_in_vectors(to, band, all, 8, 2);
        return;
    }
#endif
    switch (bytes) {
        case 1: load_rows_of(to, band, element, 1); break;
        case 2: load_rows_of(to, band, element, 2); break;
        case 4: load_rows_of(to, band, element, 4); break;
        default: load_rows_of(to, band, element, 8);
    }
}

#endif
