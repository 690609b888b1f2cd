/* The random numbers of NumPy's PCG64, of any number of threads.
 *
 * PCG64 (M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for
 * Random Number Generation", 2014; variant XSL-RR 128/64) multiplies a state of 128 bits by a
 * constant and adds another. After n steps that is a product and a sum again, whose two constants
 * take log2(n) operations to compute. So each run of numbers begins on its own. Its numbers come from
 * two states in turn, because one state would wait for its last product: 1.5 ns a number instead of
 * 0.9 (AMD Zen 5). Four states take as long as two. Products of vectors from pieces of 32 bits take
 * 0.6 ns with AVX-512, but 1.2 with AVX2.
 */
#ifndef FASTCONV_PCG64_H
#define FASTCONV_PCG64_H

#include <stdint.h>

#include "window.h"

#if defined(__SIZEOF_INT128__)
#define HAS_PCG64 1
typedef unsigned __int128 Wide;
#else /* Processors of 32 bits. */
#define HAS_PCG64 0
typedef uint64_t Wide;
#endif

/* The map of a state to factor * state + term. */
typedef struct {
    Wide factor, term;
} Step;

static inline Wide wide(uint64_t high, uint64_t low) {
#if HAS_PCG64
    return (Wide)high << 64 | low;
#else
    return (void)high, low;
#endif
}

static inline uint64_t low_half(Wide x) { return (uint64_t)x; }
static inline uint64_t high_half(Wide x) {
#if HAS_PCG64
    return (uint64_t)(x >> 64);
#else
    return 0;
#endif
}

static inline Step pcg64_step(Wide increment) {
    Step step = {wide(2549297995355413924u, 4865540595714422341u), increment};
    return step;
}

/* Return what `count` steps do. */
static inline Step steps(Step step, uint64_t count) {
    Step all = {1, 0};
    for (; count; count /= 2) {
        if (count % 2) {
            all.factor *= step.factor;
            all.term = all.term * step.factor + step.term;
        }
        step.term *= step.factor + 1;
        step.factor *= step.factor;
    }
    return all;
}

static inline Wide stepped(Wide state, Step step) { return state * step.factor + step.term; }

/* Return the 53 bits of which NumPy makes a float from 0 to 1. */
static inline uint64_t pcg64_bits(Wide state) {
    uint64_t mixed = high_half(state) ^ low_half(state);
    int turn = (int)(high_half(state) >> 58);
    return (mixed >> turn | mixed << (-turn & 63)) >> 11;
}

/* Set mask[i] to whether the next numbers are larger than limit / 2^53. `state` is the state of the
 * generator before the first of them. */
static void pcg64_larger(uint8_t *mask, Index count, Wide state, Step step, uint64_t limit) {
    const Step two = steps(step, 2);
    Wide even = stepped(state, step), odd = stepped(even, step);
    Index i = 0;
    for (; i + 1 < count; i += 2) {
        mask[i] = pcg64_bits(even) > limit;
        mask[i + 1] = pcg64_bits(odd) > limit;
        even = stepped(even, two);
        odd = stepped(odd, two);
    }
    if (i < count) mask[i] = pcg64_bits(even) > limit;
}

#endif
