/* The elements of given rank among the neighbours of pixels: kernels of rank.pyx, which explains how
 * they are chosen. They compute with keys: integers that are ordered as the numbers of an array are.
 * Lanes are pixels, except in `slide`.
 *
 * This file is a template over the types of keys. It includes itself once for each, because number.h
 * would also include it for float and double.
 */
#ifndef T
#ifndef FASTCONV_RANK_H
#define FASTCONV_RANK_H

#include <stdint.h>
#include <string.h>

#include "vectors.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* How the bits of a number become a key, and back. */
typedef enum {
    AS_THEY_ARE,
    SIGN_FLIPPED, /* An integer whose type has the other sign. */
    FLOATING,     /* The bits of a float, whose magnitude is inverted below zero. */
} KeyKind;

/* The neighbours of a pixel, and which of them is wanted. */
typedef struct {
    const Index *offsets; /* From the pixel to each neighbour, in keys. */
    Index taps;           /* The number of neighbours. */
    Index rank;           /* The number of neighbours that are not larger than the wanted one. */
    Index span;           /* The keys from the first neighbour of a row to the last, minus one. */
    Index pitch;          /* The length of a line of `lines`, in keys. */
    void *lines;          /* Scratch memory for MOST_LINES lines. */
} Neighbours;

enum {
    MOST_AXES = 64, /* NumPy's limit. */
    MOST_LINES = 5,
    MOST_HELD = 40, /* The length of the list of `select`. */
};

/* Compute the results of `count` pixels of a row that begins `at`. Whole vectors are read and written,
 * so up to VECTOR_BYTES behind the last ones are accessible. */
typedef void (*RankRow)(void *to, const void *at, const Neighbours *neighbours, Index count);

/* How a window moves along an axis: the neighbours of a pixel that are none of the next pixel's, and
 * the neighbours of a pixel that are none of the previous one's. */
typedef struct {
    const Index *back, *front;
    Index count;
    Index step;     /* The distance to the next pixel, in keys of the block. */
    Index out_step; /* The same in elements of the result. */
    Index pixels;
} Move;

/* The arrays of `slide`. */
typedef struct {
    void *keys, *spare;        /* The block's keys, and as much memory again. */
    int32_t *order, *ordinals; /* As many integers, twice. */
    uint64_t *present;         /* A bit for each key. */
    Index count;               /* The number of keys. */
} Sorted;

typedef struct {
    void (*gather)(void *to, const void *source, const Index *indices, Index count,
                   const void *constant);
    void (*convert)(void *to, const void *from, Index count, KeyKind kind, int to_keys);
    RankRow median_of_3, median_of_5, median_of_3x3, median_of_5x5, median_of_27;
    RankRow select; /* Any neighbours, as many as its list holds. */
    RankRow bisect; /* NULL for wide keys. */
    Sorted (*sort)(Sorted sorted, KeyKind kind);
    void (*slide)(void *out, const Sorted *sorted, Index first, const Neighbours *neighbours,
                  const Move *moves, int axes);
} RankKernels;

#define VECTORS_OF_KEYS(KEY, UNSIGNED)                                  \
    typedef KEY Vec_##KEY __attribute__((vector_size(VECTOR_BYTES)));   \
    typedef KEY Loose_##KEY                                             \
        __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(KEY)), may_alias)); \
    typedef UNSIGNED Unsigned_##KEY;
VECTORS_OF_KEYS(uint8_t, uint8_t)
VECTORS_OF_KEYS(int16_t, uint16_t)
VECTORS_OF_KEYS(int32_t, uint32_t)
VECTORS_OF_KEYS(int64_t, uint64_t)
#undef VECTORS_OF_KEYS

/* The smaller and the larger lanes of two vectors. GCC 12 does not find these instructions by itself in
 * comparisons of its vectors. */
#define BY_COMPARISON(a, b, kept) (((a) & (kept)) | ((b) & ~(kept)))
#if defined(__AVX512F__)
#define EACH(name, a, b) _mm512_##name((__m512i)(a), (__m512i)(b))
#define LOWER_int64_t(a, b) EACH(min_epi64, a, b)
#define UPPER_int64_t(a, b) EACH(max_epi64, a, b)
#elif defined(__AVX2__)
#define EACH(name, a, b) _mm256_##name((__m256i)(a), (__m256i)(b))
#elif defined(__SSE2__)
#define EACH(name, a, b) _mm_##name((__m128i)(a), (__m128i)(b))
#endif
#if defined(__SSE2__)
#define LOWER_uint8_t(a, b) EACH(min_epu8, a, b)
#define UPPER_uint8_t(a, b) EACH(max_epu8, a, b)
#define LOWER_int16_t(a, b) EACH(min_epi16, a, b)
#define UPPER_int16_t(a, b) EACH(max_epi16, a, b)
#else
#define LOWER_uint8_t(a, b) BY_COMPARISON(a, b, (Vec_uint8_t)((a) < (b)))
#define UPPER_uint8_t(a, b) BY_COMPARISON(b, a, (Vec_uint8_t)((a) < (b)))
#define LOWER_int16_t(a, b) BY_COMPARISON(a, b, (a) < (b))
#define UPPER_int16_t(a, b) BY_COMPARISON(b, a, (a) < (b))
#endif
#if defined(__AVX2__)
#define LOWER_int32_t(a, b) EACH(min_epi32, a, b)
#define UPPER_int32_t(a, b) EACH(max_epi32, a, b)
#else
#define LOWER_int32_t(a, b) BY_COMPARISON(a, b, (a) < (b))
#define UPPER_int32_t(a, b) BY_COMPARISON(b, a, (a) < (b))
#endif
#if !defined(__AVX512F__)
#define LOWER_int64_t(a, b) BY_COMPARISON(a, b, (a) < (b))
#define UPPER_int64_t(a, b) BY_COMPARISON(b, a, (a) < (b))
#endif

/* The lanes that are a number of lanes behind those of a first vector, which the next one continues. */
#if defined(__AVX512F__)
#define BEHIND_BYTES(first, next, bytes)                                                    \
    _mm512_alignr_epi8(_mm512_alignr_epi64((__m512i)(next), (__m512i)(first), 2),           \
                       (__m512i)(first), bytes)
#define BEHIND_uint8_t(first, next, lanes) BEHIND_BYTES(first, next, lanes)
#define BEHIND_int16_t(first, next, lanes) BEHIND_BYTES(first, next, 2 * (lanes))
#define BEHIND_int32_t(first, next, lanes) \
    _mm512_alignr_epi32((__m512i)(next), (__m512i)(first), lanes)
#define BEHIND_int64_t(first, next, lanes) \
    _mm512_alignr_epi64((__m512i)(next), (__m512i)(first), lanes)
#endif

/* Add 1 to the lanes of a vector of counts where keys are lower than a trial. */
#if defined(__AVX512F__)
#define COUNT_LOWER(BITS, SIGN, counts, keys, trial)                                        \
    _mm512_mask_sub_epi##BITS(                                                              \
        (__m512i)(counts),                                                                  \
        _mm512_cmplt_ep##SIGN##BITS##_mask((__m512i)(keys), (__m512i)(trial)),              \
        (__m512i)(counts), _mm512_set1_epi##BITS(-1))
#define COUNT_LOWER_uint8_t(counts, keys, trial) COUNT_LOWER(8, u, counts, keys, trial)
#define COUNT_LOWER_int16_t(counts, keys, trial) COUNT_LOWER(16, i, counts, keys, trial)
#else
#define COUNT_LOWER_uint8_t(counts, keys, trial) ((counts) - (Vec_uint8_t)((keys) < (trial)))
#define COUNT_LOWER_int16_t(counts, keys, trial) ((counts) - ((keys) < (trial)))
#endif

/* The window of `slide`: the neighbours of one pixel among all keys of a block in order. */
typedef struct {
    uint64_t *present;       /* A bit for each key of the block in order, set for neighbours. */
    const int32_t *ordinals; /* The places of the block's keys in that order. */
    Index word;              /* The word of `present` where the last wanted key was found. */
    Index below;             /* The number of bits in the words before. */
} Present;

/* Add neighbours of the pixel at a position of the block, or remove them. */
ALWAYS_INLINE void flip_taps(Present *window, Index position, const Index *taps, Index count,
                             const int change) {
    const int32_t *ordinals = window->ordinals + position;
    const Index word = window->word;
    Index below = window->below;
    for (Index t = 0; t < count; t++) {
        const uint32_t ordinal = (uint32_t)ordinals[taps[t]];
        window->present[ordinal / 64] ^= (uint64_t)1 << ordinal % 64;
        below += (Index)(ordinal / 64) < word ? change : 0;
    }
    window->below = below;
}

/* Return the place of the bit of a word that has `rank` set bits before it. */
ALWAYS_INLINE int bit_of_rank(uint64_t word, int rank) {
    int place = 0;
    for (int width = 32; width > 4; width /= 2) {
        const int count = __builtin_popcountll(word & (((uint64_t)1 << width) - 1));
        if (rank >= count) word >>= width, rank -= count, place += width;
    }
    for (; rank > 0; rank--) word &= word - 1;
    return place + __builtin_ctzll(word);
}

/* Return the place of the neighbour of `rank`. It is searched from the last one found. */
ALWAYS_INLINE Index place_of_rank(Present *window, Index rank) {
    const uint64_t *present = window->present;
    Index word = window->word, below = window->below;
    while (below > rank) below -= __builtin_popcountll(present[--word]);
    for (;; word++) {
        const int count = __builtin_popcountll(present[word]);
        if (below + count > rank) break;
        below += count;
    }
    window->word = word;
    window->below = below;
    return 64 * word + bit_of_rank(present[word], (int)(rank - below));
}

#define NARROW
#define T uint8_t
#include "rank.h"
#undef T
#define T int16_t
#include "rank.h"
#undef T
#undef NARROW
#define T int32_t
#include "rank.h"
#undef T
#define T int64_t
#include "rank.h"
#undef T

#define NARROW_KERNELS(KEY) {WIDE_ENTRIES(KEY), .bisect = bisect_##KEY}
#define WIDE_KERNELS(KEY) {WIDE_ENTRIES(KEY)}
#define WIDE_ENTRIES(KEY)                                                                       \
    .gather = gather_##KEY, .convert = convert_##KEY, .median_of_3 = median_of_3_##KEY, .median_of_5 = median_of_5_##KEY, \
    .median_of_3x3 = median_of_3x3_##KEY, .median_of_5x5 = median_of_5x5_##KEY,                 \
    .median_of_27 = median_of_27_##KEY, .select = select_any_##KEY, .sort = sort_##KEY,         \
    .slide = slide_##KEY

/* Return the kernels of keys of a size in bytes. */
static const RankKernels *rank_kernels(Index bytes) {
    static const RankKernels uint8 = NARROW_KERNELS(uint8_t), int16 = NARROW_KERNELS(int16_t);
    static const RankKernels int32 = WIDE_KERNELS(int32_t), int64 = WIDE_KERNELS(int64_t);
    return bytes == 1 ? &uint8 : bytes == 2 ? &int16 : bytes == 4 ? &int32 : &int64;
}

#endif
#else /* the template */

ALWAYS_INLINE NAMED(Vec) NAMED(load)(const T *from) { return *(const NAMED(Loose) *)from; }

ALWAYS_INLINE void NAMED(store)(T *to, NAMED(Vec) x) { *(NAMED(Loose) *)to = x; }

ALWAYS_INLINE NAMED(Vec) NAMED(lower)(NAMED(Vec) a, NAMED(Vec) b) {
    return (NAMED(Vec))NAMED(LOWER)(a, b);
}

ALWAYS_INLINE NAMED(Vec) NAMED(upper)(NAMED(Vec) a, NAMED(Vec) b) {
    return (NAMED(Vec))NAMED(UPPER)(a, b);
}

/* Put two vectors in order, lane by lane. */
ALWAYS_INLINE void NAMED(order)(NAMED(Vec) *a, NAMED(Vec) *b) {
    const NAMED(Vec) low = NAMED(lower)(*a, *b);
    *b = NAMED(upper)(*a, *b);
    *a = low;
}

/* Copy the elements of some indices; -1 stands for the constant. */
static void NAMED(gather)(void *to, const void *source, const Index *indices, Index count,
                          const void *constant) {
    for (Index i = 0; i < count; i++)
        ((T *)to)[i] = indices[i] < 0 ? *(const T *)constant : ((const T *)source)[indices[i]];
}

/* Turn numbers into keys, or keys into numbers, which may be done in place. The keys of floats are their
 * bits, with the magnitude inverted below zero. A negative NaN becomes a positive one, so that every NaN
 * sorts last. */
static void NAMED(convert)(void *to, const void *from, Index count, KeyKind kind, int to_keys) {
    const int bits = 8 * sizeof(T);
    const T sign = (T)((NAMED(Unsigned))1 << (bits - 1)), last = (T)~sign;
    /* The key of minus infinity; only floats of 4 and 8 bytes come here. */
    const T lowest = (T)(((NAMED(Unsigned))1 << (sizeof(T) == 4 ? 23 : 52 % bits)) - 1 + sign);
    const T *source = from;
    T *result = to;
    if (kind == AS_THEY_ARE) {
        if (to != from) memcpy(to, from, (size_t)count * sizeof(T));
    } else if (kind == SIGN_FLIPPED) {
        for (Index i = 0; i < count; i++) result[i] = source[i] ^ sign;
    } else if (to_keys) {
        for (Index i = 0; i < count; i++) {
            const T key = source[i] ^ (source[i] >> (bits - 1) & last);
            result[i] = key < lowest ? last : key;
        }
    } else {
        for (Index i = 0; i < count; i++) result[i] = source[i] ^ (source[i] >> (bits - 1) & last);
    }
}

ALWAYS_INLINE NAMED(Vec) NAMED(median3)(NAMED(Vec) a, NAMED(Vec) b, NAMED(Vec) c) {
    NAMED(order)(&a, &b);
    return NAMED(upper)(a, NAMED(lower)(b, c));
}

/* Sort five vectors. What the caller does not use of them, the compiler does not compute. */
ALWAYS_INLINE void NAMED(sort5)(NAMED(Vec) *v) {
    NAMED(order)(&v[0], &v[3]);
    NAMED(order)(&v[1], &v[4]);
    NAMED(order)(&v[0], &v[2]);
    NAMED(order)(&v[1], &v[3]);
    NAMED(order)(&v[0], &v[1]);
    NAMED(order)(&v[2], &v[4]);
    NAMED(order)(&v[1], &v[2]);
    NAMED(order)(&v[3], &v[4]);
    NAMED(order)(&v[2], &v[3]);
}

static void NAMED(median_of_3)(void *to, const void *at, const Neighbours *neighbours,
                               Index count) {
    const Index *offsets = neighbours->offsets;
    const T *a = (const T *)at + offsets[0], *b = (const T *)at + offsets[1];
    const T *c = (const T *)at + offsets[2];
    for (Index i = 0; i < count; i += LANES)
        NAMED(store)((T *)to + i,
                     NAMED(median3)(NAMED(load)(a + i), NAMED(load)(b + i), NAMED(load)(c + i)));
}

static void NAMED(median_of_5)(void *to, const void *at, const Neighbours *neighbours,
                               Index count) {
    for (Index i = 0; i < count; i += LANES) {
        NAMED(Vec) v[5];
    UNROLL for (int t = 0; t < 5; t++) v[t] = NAMED(load)((const T *)at + neighbours->offsets[t] + i);
        NAMED(sort5)(v);
        NAMED(store)((T *)to + i, v[2]);
    }
}

/* The first columns of `size` neighbours on a line, one for each lane. */
typedef struct {
    NAMED(Vec) first, next; /* The columns of the lanes, and those of the lanes behind them. */
} NAMED(Run);

ALWAYS_INLINE NAMED(Run) NAMED(run_at)(const T *line) {
    NAMED(Run) run = {NAMED(load)(line), NAMED(load)(line)};
#if defined(__AVX512F__)
    run.next = NAMED(load)(line + LANES);
#endif
    return run;
}

/* Return the column of each lane that is `j` steps behind, where `line` holds that of the first lane.
 * Loads of 64 bytes that are not aligned take twice as long, and a third of the time of a 3x3 median. */
ALWAYS_INLINE NAMED(Vec) NAMED(column)(const T *line, NAMED(Run) run, int j, Index step) {
#if defined(__AVX512F__)
    if (step == 1) switch (j) {
        case 0: return run.first;
        case 1: return (NAMED(Vec))NAMED(BEHIND)(run.first, run.next, 1);
        case 2: return (NAMED(Vec))NAMED(BEHIND)(run.first, run.next, 2);
        case 3: return (NAMED(Vec))NAMED(BEHIND)(run.first, run.next, 3);
        default: return (NAMED(Vec))NAMED(BEHIND)(run.first, run.next, 4);
    }
#endif
    (void)run;
    return NAMED(load)(line + j * step);
}

ALWAYS_INLINE void NAMED(median_of_3_columns)(T *to, const T *lines, Index pitch, Index step,
                                              Index count) {
    for (Index i = 0; i < count; i += LANES) {
        NAMED(Vec) v[3][3];
        UNROLL for (int k = 0; k < 3; k++) {
            const T *line = lines + k * pitch + i;
            const NAMED(Run) run = NAMED(run_at)(line);
            UNROLL for (int j = 0; j < 3; j++) v[k][j] = NAMED(column)(line, run, j, step);
        }
        NAMED(store)(to + i, NAMED(median3)(
            NAMED(upper)(NAMED(upper)(v[0][0], v[0][1]), v[0][2]),
            NAMED(median3)(v[1][0], v[1][1], v[1][2]),
            NAMED(lower)(NAMED(lower)(v[2][0], v[2][1]), v[2][2])));
    }
}

/* The median of 3x3 pixels. Columns of three are sorted once for the three windows that share them. The
 * median of nine is that of the largest low, the median middle and the smallest high. */
static void NAMED(median_of_3x3)(void *to, const void *at, const Neighbours *neighbours, Index count) {
    const Index *offsets = neighbours->offsets, step = offsets[1] - offsets[0];
    const T *top = (const T *)at + offsets[0], *centre = (const T *)at + offsets[3];
    const T *bottom = (const T *)at + offsets[6];
    T *low = neighbours->lines, *middle = low + neighbours->pitch, *high = middle + neighbours->pitch;
    const Index columns = count + neighbours->span;
    for (Index i = 0; i < columns; i += LANES) {
        NAMED(Vec) a = NAMED(load)(top + i), b = NAMED(load)(centre + i), c = NAMED(load)(bottom + i);
        NAMED(order)(&a, &b);
        NAMED(order)(&b, &c);
        NAMED(order)(&a, &b);
        NAMED(store)(low + i, a);
        NAMED(store)(middle + i, b);
        NAMED(store)(high + i, c);
    }
    if (step == 1)
        NAMED(median_of_3_columns)(to, low, neighbours->pitch, 1, count);
    else
        NAMED(median_of_3_columns)(to, low, neighbours->pitch, step, count);
}

/* The median of five sorted columns of five. The rows of the columns are sorted, too. In the matrix a[row][column] that is sorted both ways, an element has
 * at least (row + 1) * (column + 1) - 1 others that are not larger. So only 13 elements may be the
 * median: those whose sum of row and column is 3, 4 or 5.
 *
 * Let u be the largest of the four with sum 3, m the median of the five with sum 4, and l the smallest of
 * the four with sum 5. Each element with sum 3 is at most two of those with sum 4, and k of them are at
 * most k + 1. So the k-th largest with sum 3 is at most the (k + 1)-th largest with sum 4, and the
 * mirrored statement holds for sum 5. Therefore at least five elements are known on either side of m,
 * apart from u and l, and the median is that of u, m and l. */
ALWAYS_INLINE void NAMED(median_of_5_columns)(T *to, const T *lines, Index pitch, Index step,
                                              Index count) {
    for (Index i = 0; i < count; i += LANES) {
        NAMED(Vec) upper, lower, diagonal[5];
        UNROLL for (int row = 0; row < 5; row++) {
            NAMED(Vec) v[5];
            const T *line = lines + row * pitch + i;
            const NAMED(Run) run = NAMED(run_at)(line);
            UNROLL for (int j = 0; j < 5; j++) v[j] = NAMED(column)(line, run, j, step);
            NAMED(sort5)(v);
            diagonal[row] = v[4 - row];
            if (row == 0) upper = v[3];
            if (row > 0 && row < 4) upper = NAMED(upper)(upper, v[3 - row]);
            if (row == 1) lower = v[4];
            if (row > 1) lower = NAMED(lower)(lower, v[5 - row]);
        }
        NAMED(sort5)(diagonal);
        NAMED(store)(to + i, NAMED(median3)(upper, diagonal[2], lower));
    }
}

/* The median of 5x5 pixels. Columns of five are sorted once for the five windows that share them. */
static void NAMED(median_of_5x5)(void *to, const void *at, const Neighbours *neighbours, Index count) {
    const Index *offsets = neighbours->offsets, step = offsets[1] - offsets[0];
    const Index pitch = neighbours->pitch, columns = count + neighbours->span;
    T *lines = neighbours->lines;
    for (Index i = 0; i < columns; i += LANES) {
        NAMED(Vec) v[5];
        UNROLL for (int j = 0; j < 5; j++) v[j] = NAMED(load)((const T *)at + offsets[5 * j] + i);
        NAMED(sort5)(v);
        UNROLL for (int j = 0; j < 5; j++) NAMED(store)(lines + j * pitch + i, v[j]);
    }
    if (step == 1)
        NAMED(median_of_5_columns)(to, lines, pitch, 1, count);
    else
        NAMED(median_of_5_columns)(to, lines, pitch, step, count);
}

/* Move the smallest of the held vectors to the front and the largest to the end, lane by lane. */
ALWAYS_INLINE void NAMED(split)(NAMED(Vec) *held, int count) {
    const int half = (count + 1) / 2;
    NAMED(Vec) extreme;
    UNROLL for (int i = 0; i < count / 2; i++) NAMED(order)(&held[i], &held[count - 1 - i]);
    extreme = held[0];
    UNROLL for (int i = 1; i < half; i++) NAMED(order)(&extreme, &held[i]);
    held[0] = extreme;
    extreme = held[count - 1];
    UNROLL for (int i = count - 2; i >= count - half; i--) NAMED(order)(&held[i], &extreme);
    held[count - 1] = extreme;
}

/* Return the elements of `rank` by forgetful selection: a list is held of as many taps as are needed to
 * know that its largest or smallest one has too many taps below or above it. These are forgotten, and
 * the next tap is added. */
ALWAYS_INLINE NAMED(Vec) NAMED(select)(const T *at, const Index *offsets, int taps, int rank,
                                       NAMED(Vec) *held) {
    int below = rank, above = taps - 1 - rank; /* The taps that must still be forgotten. */
    int count = (int)smaller(taps, smaller(below, above) + 2), next = count;
    UNROLL for (int t = 0; t < count; t++) held[t] = NAMED(load)(at + offsets[t]);
    UNROLL while (below + above > 0) {
        if (below == above) {
            NAMED(split)(held, count);
            held[0] = held[count - 2];
            count -= 2, below--, above--;
        } else if (below < above) {
            NAMED(Vec) largest = held[0];
            UNROLL for (int i = 1; i < count; i++) NAMED(order)(&held[i], &largest);
            held[0] = held[count - 1];
            count--, above--;
        } else {
            NAMED(Vec) smallest = held[0];
            UNROLL for (int i = 1; i < count; i++) NAMED(order)(&smallest, &held[i]);
            held[0] = held[count - 1];
            count--, below--;
        }
        if (next < taps) held[count++] = NAMED(load)(at + offsets[next++]);
    }
    return held[0];
}

static void NAMED(select_any)(void *to, const void *at, const Neighbours *neighbours, Index count) {
    NAMED(Vec) held[MOST_HELD];
    for (Index i = 0; i < count; i += LANES)
        NAMED(store)((T *)to + i, NAMED(select)((const T *)at + i, neighbours->offsets, (int)neighbours->taps,
                                                (int)neighbours->rank, held));
}

static void NAMED(median_of_27)(void *to, const void *at, const Neighbours *neighbours, Index count) {
    for (Index i = 0; i < count; i += LANES) {
        NAMED(Vec) held[15];
        NAMED(store)((T *)to + i, NAMED(select)((const T *)at + i, neighbours->offsets, 27, 13, held));
    }
}

#ifdef NARROW
/* Find the bits of the wanted keys one after the other: a bit is set if no more than `rank` neighbours are
 * lower than the key with this bit and zeros behind it. Counts are of the width of keys, which limits
 * the number of neighbours. */
static void NAMED(bisect)(void *to, const void *at, const Neighbours *neighbours, Index count) {
    enum { VECTORS = 4 };
    const int bits = 8 * sizeof(T);
    const T is_signed = (T)-1 < 0, lowest = is_signed ? (T)(1u << (bits - 1)) : 0;
    const NAMED(Vec) zeros = {0}, rank = zeros + (T)neighbours->rank;
    for (Index i = 0; i < count; i += VECTORS * LANES) {
        const T *keys = (const T *)at + i;
        NAMED(Vec) found[VECTORS];
        for (int v = 0; v < VECTORS; v++) found[v] = zeros + lowest;
        for (int bit = bits - 1; bit >= 0; bit--) {
            NAMED(Vec) trials[VECTORS], counts[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++) {
                trials[v] = found[v] ^ (T)(1u << bit);
                counts[v] = zeros;
            }
            for (Index t = 0; t < neighbours->taps; t++) {
                const T *tap = keys + neighbours->offsets[t];
                UNROLL for (int v = 0; v < VECTORS; v++)
                    counts[v] = (NAMED(Vec))NAMED(COUNT_LOWER)(
                        counts[v], NAMED(load)(tap + v * LANES), trials[v]);
            }
            UNROLL for (int v = 0; v < VECTORS; v++) {
                const NAMED(Vec) taken = (NAMED(Vec))(counts[v] <= rank);
                found[v] = (trials[v] & taken) | (found[v] & ~taken);
            }
        }
        UNROLL for (int v = 0; v < VECTORS; v++) NAMED(store)((T *)to + i + v * LANES, found[v]);
    }
}
#endif

/* Sort the keys of a block by their digits from the last on; digits that all keys share are left out.
 * Keys become numbers again, and `ordinals` tells the place of each position's key. */
static Sorted NAMED(sort)(Sorted sorted, KeyKind kind) {
    typedef NAMED(Unsigned) Bits;
    enum { BITS = 8 * sizeof(T), DIGIT = BITS < 32 ? 8 : 11, DIGITS = (BITS + DIGIT - 1) / DIGIT };
    enum { VALUES = 1 << DIGIT };
    const Bits sign = (T)-1 < 0 ? (Bits)((Bits)1 << (BITS - 1)) : 0;
    const Index count = sorted.count;
    uint32_t starts[DIGITS][VALUES];
    int32_t *order = sorted.order, *other = sorted.ordinals;
    T *keys = sorted.keys, *spare = sorted.spare;
    memset(starts, 0, sizeof starts);
    for (Index i = 0; i < count; i++) {
        const Bits key = (Bits)((Bits)keys[i] ^ sign);
        UNROLL for (int d = 0; d < DIGITS; d++) starts[d][key >> d * DIGIT & (VALUES - 1)]++;
        order[i] = (int32_t)i;
    }
    for (int d = 0; d < DIGITS; d++) {
        uint32_t sum = 0;
        T *kept_keys = keys;
        int32_t *kept_order = order;
        if (starts[d][(Bits)((Bits)keys[0] ^ sign) >> d * DIGIT & (VALUES - 1)] == count) continue;
        for (int value = 0; value < VALUES; value++) {
            const uint32_t size = starts[d][value];
            starts[d][value] = sum;
            sum += size;
        }
        for (Index i = 0; i < count; i++) {
            const Bits key = (Bits)((Bits)keys[i] ^ sign);
            const uint32_t place = starts[d][key >> d * DIGIT & (VALUES - 1)]++;
            spare[place] = keys[i];
            other[place] = order[i];
        }
        keys = spare, spare = kept_keys;
        order = other, other = kept_order;
    }
    for (Index i = 0; i < count; i++) other[order[i]] = (int32_t)i;
    NAMED(convert)(keys, keys, count, kind, 0);
    sorted.keys = keys, sorted.spare = spare, sorted.order = order, sorted.ordinals = other;
    return sorted;
}

/* Compute the results of all pixels of a block, whose first one is at a position of the block. The window
 * goes back and forth along the axes, so that each step replaces only what leaves and enters it. */
static void NAMED(slide)(void *out, const Sorted *sorted, Index first, const Neighbours *neighbours,
                         const Move *moves, int axes) {
    Present window = {sorted->present, sorted->ordinals, 0, 0};
    Index pixel[MOST_AXES] = {0};
    int backwards[MOST_AXES] = {0};
    const T *numbers = sorted->keys;
    T *to = out;
    memset(window.present, 0, (size_t)(sorted->count / 64 + 1) * 8);
    flip_taps(&window, first, neighbours->offsets, neighbours->taps, 1);
    for (;;) {
        int axis = 0;
        const Move *move;
        *to = numbers[place_of_rank(&window, neighbours->rank)];
        while (axis < axes && pixel[axis] == (backwards[axis] ? 0 : moves[axis].pixels - 1)) {
            backwards[axis] = !backwards[axis];
            axis++;
        }
        if (axis == axes) return;
        move = &moves[axis];
        if (backwards[axis]) {
            flip_taps(&window, first, move->front, move->count, -1);
            first -= move->step, to -= move->out_step, pixel[axis]--;
            flip_taps(&window, first, move->back, move->count, 1);
        } else {
            flip_taps(&window, first, move->back, move->count, -1);
            first += move->step, to += move->out_step, pixel[axis]++;
            flip_taps(&window, first, move->front, move->count, 1);
        }
    }
}

#endif
