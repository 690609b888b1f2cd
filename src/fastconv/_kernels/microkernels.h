/* The microkernels that several kernels of a CPU level share, as tables of functions per type. */
#ifndef FASTCONV_MICROKERNELS_H
#define FASTCONV_MICROKERNELS_H

#include "derivatives.h"
#include "epilogue.h"
#include "flat.h"
#include "number.h"
#include "rowwise.h"
#include "softmax.h"
#include "strip.h"
#include "sums.h"
#include "tile.h"
#include "transforms.h"

/* An entry is NULL if there are no functions for its type. */
typedef struct {
    const Tiles *tiles[NUMBERS];
    Finish finish[NUMBERS];
    Differentiate differentiate[NUMBERS];
    Softmax softmax[NUMBERS];
    const Sums *sums[NUMBERS];
    const Transforms *transforms[NUMBERS][2]; /* For tiles of 2 x 2 and of 4 x 4 outputs. */
    const Flats *flats[NUMBERS];              /* Some levels have none. */
    MultiplyStrip multiply_strip[NUMBERS];
    Rowwise rowwise[NUMBERS];
} Microkernels;

/* Each module sets its own pointer when it is imported, to the tables of its level. */
static const Microkernels *microkernels;

static inline void use_microkernels(const void *tables) {
    microkernels = (const Microkernels *)tables;
}
static inline const Tiles *tiles_of(Number number) { return microkernels->tiles[number]; }
static inline const Flats *flats_of(Number number) { return microkernels->flats[number]; }
static inline MultiplyStrip multiply_strip_of(Number number) {
    return microkernels->multiply_strip[number];
}
static inline Rowwise rowwise_of(Number number) { return microkernels->rowwise[number]; }
static inline Finish finish_of(Number number) { return microkernels->finish[number]; }
static inline Differentiate differentiate_of(Number number) {
    return microkernels->differentiate[number];
}
static inline Softmax softmax_of(Number number) { return microkernels->softmax[number]; }
static inline const Sums *sums_of(Number number) { return microkernels->sums[number]; }
static inline const Transforms *transforms_of(Number number, Index tile) {
    return microkernels->transforms[number][tile == 4];
}

#endif
