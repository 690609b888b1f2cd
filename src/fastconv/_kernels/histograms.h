/* Ranks of bytes in boxes whose cost does not depend on the size of the box: histograms of columns, whose
 * sum over neighbouring columns is the histogram of a box (Perreault and Hebert, "Median filtering in
 * constant time", 2007).
 *
 * Histograms are cumulative, so that one comparison of a vector finds the bin of a rank: bin j counts the
 * keys up to j. They have two levels: 16 coarse bins, and for each of these 16 fine ones, which are
 * brought up to date only where a wanted key falls into their coarse bin.
 */
#ifndef FASTCONV_HISTOGRAMS_H
#define FASTCONV_HISTOGRAMS_H

#include <stdint.h>
#include <string.h>

#include "vectors.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum {
    BINS = 16,
    TALLEST_COLUMN = 255,  /* The counts of a column are bytes. */
    MOST_COUNTED = 0x7fff, /* The counts of a box are compared as signed integers. */
};

typedef uint8_t ColumnBins __attribute__((vector_size(BINS), aligned(1), may_alias));
typedef int16_t BoxBins __attribute__((vector_size(2 * BINS)));

/* A block of bytes, boxes in it, and scratch memory for the histograms of its columns. */
typedef struct {
    const uint8_t *keys;
    Index step;          /* The distance between rows of keys. */
    Index rows, columns; /* The boxes of the block. */
    Index height, width; /* Of a box. */
    Index rank;
    uint8_t *coarse; /* BINS for each column of the block. */
    uint8_t *fine; /* BINS times as much: all columns of the first coarse bin, of the second, ... */
} Boxes;

static inline Index columns_of(const Boxes *boxes) { return boxes->columns + boxes->width - 1; }

ALWAYS_INLINE ColumnBins *bins_at(uint8_t *bins, Index column) {
    return (ColumnBins *)(bins + column * BINS);
}

ALWAYS_INLINE BoxBins widened(const uint8_t *bins, Index column) {
    return __builtin_convertvector(*(const ColumnBins *)(bins + column * BINS), BoxBins);
}

/* Return a one in each bin from a bin on. */
ALWAYS_INLINE ColumnBins ones_from(unsigned bin) {
    static const uint8_t ones[2 * BINS] = {[BINS... 2 * BINS - 1] = 1};
    return *(const ColumnBins *)(ones + BINS - bin);
}

/* Return the first bin that counts more keys than `rank`. */
ALWAYS_INLINE int bin_of_rank(BoxBins bins, Index rank) {
#if defined(__AVX512F__)
    return __builtin_popcount(
        _mm256_cmple_epi16_mask((__m256i)bins, _mm256_set1_epi16((int16_t)rank)));
#elif defined(__SSE2__)
    const BoxBins counted = bins > (int16_t)rank;
    __m128i halves[2];
    memcpy(halves, &counted, sizeof counted);
    return __builtin_ctz((unsigned)_mm_movemask_epi8(_mm_packs_epi16(halves[0], halves[1])));
#else
    int bin = 0;
    while (bins[bin] <= rank) bin++;
    return bin;
#endif
}

/* Add a row of keys to the histograms of the columns. */
static void add_row(const Boxes *boxes, const uint8_t *keys) {
    const Index columns = columns_of(boxes);
    for (Index x = 0; x < columns; x++) {
        const unsigned high = keys[x] / BINS, low = keys[x] % BINS;
        *bins_at(boxes->coarse, x) += ones_from(high);
        *bins_at(boxes->fine, (Index)high * columns + x) += ones_from(low);
    }
}

/* Add a row of keys, and remove another. */
static void replace_row(const Boxes *boxes, const uint8_t *keys, const uint8_t *removed) {
    const Index columns = columns_of(boxes);
    for (Index x = 0; x < columns; x++) {
        const unsigned high = keys[x] / BINS, low = keys[x] % BINS;
        const unsigned old_high = removed[x] / BINS, old_low = removed[x] % BINS;
        *bins_at(boxes->coarse, x) += ones_from(high) - ones_from(old_high);
        *bins_at(boxes->fine, (Index)old_high * columns + x) -= ones_from(old_low);
        *bins_at(boxes->fine, (Index)high * columns + x) += ones_from(low);
    }
}

/* Find the wanted keys of a row of boxes. */
static void rank_row(const Boxes *boxes, uint8_t *to) {
    const Index columns = columns_of(boxes), width = boxes->width, rank = boxes->rank;
    Index fresh[BINS]; /* The box whose fine bins are known. */
    int16_t counts[1 + BINS] = {0};
    BoxBins fine_bins[BINS], box = {0};
    for (int bin = 0; bin < BINS; bin++) fresh[bin] = -width;
    for (Index x = 0; x < width - 1; x++) box += widened(boxes->coarse, x);
    for (Index x = 0; x < boxes->columns; x++) {
        int bin;
        const uint8_t *fine;
        BoxBins bins;
        box += widened(boxes->coarse, x + width - 1);
        bin = bin_of_rank(box, rank);
        memcpy(counts + 1, &box, sizeof box);
        fine = boxes->fine + bin * columns * BINS;
        if (2 * (x - fresh[bin]) > width) {
            bins = widened(fine, x);
            for (Index c = x + 1; c < x + width; c++) bins += widened(fine, c);
        } else {
            bins = fine_bins[bin];
            for (Index c = fresh[bin]; c < x; c++)
                bins += widened(fine, c + width) - widened(fine, c);
        }
        fine_bins[bin] = bins;
        fresh[bin] = x;
        to[x] = (uint8_t)(bin * BINS + bin_of_rank(bins, rank - counts[bin]));
        box -= widened(boxes->coarse, x);
    }
}

/* Find the wanted keys of all boxes of a block. */
static void rank_boxes(const Boxes *boxes, uint8_t *to, Index stride) {
    const Index columns = columns_of(boxes);
    const uint8_t *keys = boxes->keys;
    memset(boxes->coarse, 0, (size_t)(columns * BINS));
    memset(boxes->fine, 0, (size_t)(columns * BINS * BINS));
    for (Index y = 0; y < boxes->height; y++) add_row(boxes, keys + y * boxes->step);
    for (Index y = 0;; y++, keys += boxes->step, to += stride) {
        rank_row(boxes, to);
        if (y == boxes->rows - 1) return;
        replace_row(boxes, keys + boxes->height * boxes->step, keys);
    }
}

#endif
