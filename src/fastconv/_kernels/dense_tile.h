/* The register tiles of dense.h, which explains them. This file is included once for each
 * arithmetic, with T, VECTOR, LOOSE and ADD_PRODUCT defined; NAMED_TILE makes the names. */

/* Add the products of the entries of a run to the sums of the tile's rows a to b - 1. */
#define ADD_ROWS(a, b)                                                         \
    case RANGE(a, b):                                                          \
        for (; count > 0; count--, x += step, w += (b) - (a)) {                \
            VECTOR in[TILE_WIDTH];                                              \
            UNROLL for (int v = 0; v < vectors; v++) {                         \
                in[v] = *(const LOOSE *)(x + v * lanes);                       \
                HIDE(in[v]);                                                   \
            }                                                                  \
            UNROLL for (int r = (a); r < (b); r++) {                           \
                VECTOR weight = w[r - (a)] - (VECTOR){0};                      \
                UNROLL for (int v = 0; v < vectors; v++)                       \
                    ADD_PRODUCT(sums[r][v], in[v], weight);                    \
            }                                                                  \
        }                                                                      \
        break;

ALWAYS_INLINE void NAMED_TILE(any)(const Schedule *schedule, Index first, Index last,
                                   const void *const *rows, Index column, void *result,
                                   Index pitch, int height, int adds, const int vectors) {
    const Index lanes = VECTOR_BYTES / (Index)sizeof(T), step = schedule->step;
    T *to = result;
    VECTOR sums[TILE_HEIGHT][TILE_WIDTH];
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++)
        UNROLL for (int v = 0; v < vectors; v++) sums[r][v] = (VECTOR){0};
    for (Index i = first; i < last; i++) {
        const Run *run = schedule->runs + i;
        const T *x = (const T *)rows[run->row] + column + run->column;
        const T *w = (const T *)schedule->weights + run->weights;
        int count = run->count;
        switch (run->range) {
            ADD_ROWS(0, 4)
            ADD_ROWS(0, 3)
            ADD_ROWS(0, 2)
            ADD_ROWS(0, 1)
            ADD_ROWS(1, 4)
            ADD_ROWS(1, 3)
            ADD_ROWS(1, 2)
            ADD_ROWS(2, 4)
            ADD_ROWS(2, 3)
            ADD_ROWS(3, 4)
        }
    }
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++) {
        if (r >= height) break;
        UNROLL for (int v = 0; v < vectors; v++) {
            LOOSE *sum = (LOOSE *)(to + r * pitch + v * lanes);
            *sum = adds ? (VECTOR)*sum + sums[r][v] : sums[r][v];
        }
    }
}

static void NAMED_TILE(wide)(const Schedule *schedule, Index first, Index last,
                             const void *const *rows, Index column, void *result, Index pitch,
                             int height, int adds) {
    NAMED_TILE(any)(schedule, first, last, rows, column, result, pitch, height, adds,
                    TILE_WIDTH);
}

static void NAMED_TILE(narrow)(const Schedule *schedule, Index first, Index last,
                               const void *const *rows, Index column, void *result, Index pitch,
                               int height, int adds) {
    NAMED_TILE(any)(schedule, first, last, rows, column, result, pitch, height, adds, 1);
}

#undef ADD_ROWS
#undef T
#undef VECTOR
#undef LOOSE
#undef ADD_PRODUCT
#undef NAMED_TILE
