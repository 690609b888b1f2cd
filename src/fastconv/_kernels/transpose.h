/* Transpose a square of numbers in registers. This file is a template (see number.h). */
ALWAYS_INLINE void NAMED(transpose)(NAMED(Vec) *rows) {
    NAMED(Vec) next[LANES];
    UNROLL for (int width = 1; width < LANES; width *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = SHUFFLE(rows[i], rows[i + LANES / 2], ZIP_FIRST);
            next[2 * i + 1] = SHUFFLE(rows[i], rows[i + LANES / 2], ZIP_SECOND);
        }
        UNROLL for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}
