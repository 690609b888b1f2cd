/* All microkernels of a CPU level, and their tables. microkernels.pyx includes this file.
 *
 * These files take as long to compile as a kernel's own code, and are as large. Therefore they are
 * compiled once per level, and kernels call them by pointers.
 */
#include "microkernels.h"

#include "derivatives.c"
#include "epilogue.c"
#include "flat.c"
#include "rowwise.c"
#include "softmax.c"
#include "strip.c"
#include "sums.c"
#include "tile.c"
#include "transforms.c"

static const Microkernels tables_of_level = {
    .tiles = {[FLOAT32] = &tiles_float, [FLOAT64] = &tiles_double},
    .flats = {[FLOAT32] = FLATS_float, [FLOAT64] = FLATS_double},
    .multiply_strip = {[FLOAT32] = multiply_strip_float, [FLOAT64] = multiply_strip_double},
    .rowwise = {[FLOAT32] = rowwise_float, [FLOAT64] = rowwise_double},
    .finish = {[FLOAT32] = finish_float, [FLOAT64] = finish_double},
    .differentiate = {[FLOAT32] = differentiate_float, [FLOAT64] = differentiate_double},
    .softmax = {[FLOAT32] = softmax_float, [FLOAT64] = softmax_double},
    .sums =
        {
            [FLOAT32] = &sums_float,
            [FLOAT64] = &sums_double,
            [INT8] = &sums_uint8_t,
            [INT16] = &sums_uint16_t,
            [INT32] = &sums_uint32_t,
            [INT64] = &sums_uint64_t,
            [UINT8] = &sums_uint8_t,
            [UINT16] = &sums_uint16_t,
            [UINT32] = &sums_uint32_t,
            [UINT64] = &sums_uint64_t,
        },
    .transforms =
        {
            [FLOAT32] = {&transforms_2_float, &transforms_4_float},
            [FLOAT64] = {&transforms_2_double, &transforms_4_double},
        },
};
