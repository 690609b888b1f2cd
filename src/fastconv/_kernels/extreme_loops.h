/* The functions of extremes.h for one type T and one operation, BEST. Their names begin with
 * EXTREME. */
#define OF(name) NUMBER_JOIN(EXTREME, NAMED(name))

static inline T OF(best)(T a, T b) { return BEST(a, b); }

/* Compute `vectors` vectors of OF(compare) from x on. The addresses stay in registers. */
ALWAYS_INLINE void OF(compare_vectors)(T *to, const T *a, const T *b, const T *c, const T *d,
                                       const int n, const int more, Index x, const int vectors) {
    UNROLL for (int v = 0; v < vectors; v++, x += LANES) {
        V best = LOAD(a + x);
        if (more) best = BEST_LANES(LOAD(to + x), best);
        if (n > 1) best = BEST_LANES(best, LOAD(b + x));
        if (n > 2) best = BEST_LANES(best, LOAD(c + x));
        if (n > 3) best = BEST_LANES(best, LOAD(d + x));
        STORE(to + x, best);
    }
}

/* Set to[x] to the best of from[0][x] to from[n - 1][x], and before that of to[x] if `more`; n is at
 * most 4. The last vector of a row ends where the row ends: what is compared twice is the same. */
ALWAYS_INLINE void OF(compare)(T *to, const T *const *from, const int n, const int more,
                               Index count) {
    const T *a = from[0], *b = n > 1 ? from[1] : a, *c = n > 2 ? from[2] : a;
    const T *d = n > 3 ? from[3] : a;
    Index x = 0;
    for (; x < count && count < LANES; x++) {
        T best = more ? OF(best)(to[x], a[x]) : a[x];
        for (int t = 1; t < n; t++) best = OF(best)(best, from[t][x]);
        to[x] = best;
    }
    for (; x + VECTORS_TOGETHER * LANES <= count; x += VECTORS_TOGETHER * LANES)
        OF(compare_vectors)(to, a, b, c, d, n, more, x, VECTORS_TOGETHER);
    for (; x < count; x += LANES)
        OF(compare_vectors)(to, a, b, c, d, n, more, smaller(x, count - LANES), 1);
}

/* Compare the elements of n rows. */
static void OF(taps)(char *to, const char *const *taps, Index n, Index count) {
    const T *const *from = (const T *const *)taps;
    Index i = smaller(n, 4);
    if (n == 1)
        memcpy(to, from[0], (size_t)count * sizeof(T));
    else if (n == 2)
        OF(compare)((T *)to, from, 2, 0, count);
    else if (n == 3)
        OF(compare)((T *)to, from, 3, 0, count);
    else
        OF(compare)((T *)to, from, 4, 0, count);
    for (; i + 4 <= n; i += 4) OF(compare)((T *)to, from + i, 4, 1, count);
    for (; i < n; i++) OF(compare)((T *)to, from + i, 1, 1, count);
}

static void OF(pairs)(char *to, const char *line, Index distance, Index count) {
    const T *const from[2] = {(const T *)line, (const T *)line + distance};
    OF(compare)((T *)to, from, 2, 0, count);
}

static void OF(line)(const void *filter, char *to, const char *line, Index count, char *stage) {
    const Index size = ((const Neighbours *)filter)->size;
    const Index step = ((const Neighbours *)filter)->step;
    T *const buffers[2] = {(T *)stage, (T *)stage + count + size * step};
    const T *best = (const T *)line;
    Index width = 1;
    for (int pass = 0; 4 * width < size; width *= 4, pass++) {
        const Index apart = width * step;
        const T *const from[4] = {best, best + apart, best + 2 * apart, best + 3 * apart};
        OF(compare)(buffers[pass % 2], from, 4, 0, count + (size - 4 * width) * step);
        best = buffers[pass % 2];
    }
    /* The last pass compares one to four elements, and the last two of them may overlap. */
    const Index left = (size + width - 1) / width;
    const char *taps[4];
    for (Index t = 0; t < left; t++)
        taps[t] = (const char *)(best + smaller(t * width, size - width) * step);
    OF(taps)(to, taps, left, count);
}

/* Compare the rows of n <= size windows, which have the rows n - 1 to size - 1 in common, in the
 * columns of some vectors from x on. */
ALWAYS_INLINE void OF(block)(const T *const *rows, Index size, T *to, Index pitch, Index n, Index x,
                             const int vectors) {
    V best[VECTORS_TOGETHER];
    UNROLL for (int v = 0; v < vectors; v++) best[v] = LOAD(rows[n - 1] + x + v * LANES);
    for (Index r = n; r < size; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            best[v] = BEST_LANES(best[v], LOAD(rows[r] + x + v * LANES));
    UNROLL for (int v = 0; v < vectors; v++) STORE(to + (n - 1) * pitch + x + v * LANES, best[v]);
    for (Index r = n - 2; r >= 0; r--)
        UNROLL for (int v = 0; v < vectors; v++) {
            best[v] = BEST_LANES(LOAD(rows[r] + x + v * LANES), best[v]);
            STORE(to + r * pitch + x + v * LANES, best[v]);
        }
    /* So far, these are the best ones of all rows in front of row `size`. */
    for (Index r = 1; r < n; r++)
        UNROLL for (int v = 0; v < vectors; v++) {
            T *out = to + r * pitch + x + v * LANES;
            const V next = LOAD(rows[size + r - 1] + x + v * LANES);
            best[v] = r == 1 ? next : BEST_LANES(best[v], next);
            STORE(out, BEST_LANES(LOAD(out), best[v]));
        }
}

/* Compare three rows for each of four windows; neighbouring windows have two rows in common. */
static void OF(rows_of_three)(char *to, Index pitch, const T *const *rows, Index count) {
    const T *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4], *f = rows[5];
    T *out0 = (T *)to, *out1 = (T *)(to + pitch), *out2 = (T *)(to + 2 * pitch);
    T *out3 = (T *)(to + 3 * pitch);
    for (Index i = 0; i < count; i += LANES) {
        const Index x = smaller(i, count - LANES);
        const V third = LOAD(c + x), fourth = LOAD(d + x);
        const V early = BEST_LANES(LOAD(b + x), third), late = BEST_LANES(fourth, LOAD(e + x));
        STORE(out0 + x, BEST_LANES(LOAD(a + x), early));
        STORE(out1 + x, BEST_LANES(early, fourth));
        STORE(out2 + x, BEST_LANES(third, late));
        STORE(out3 + x, BEST_LANES(late, LOAD(f + x)));
    }
}

static void OF(rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                     Index count, char *stage) {
    const Index size = ((const Neighbours *)filter)->size, apart = pitch / (Index)sizeof(T);
    /* With few rows it is faster to compare all of a window. */
    const Index together = size <= 4 ? 1 : smaller(size, outs);
    (void)stage;
    if (size == 3 && outs >= 4 && count >= LANES) {
        for (Index i = 0, y; i < outs; i += 4) {
            y = smaller(i, outs - 4);
            OF(rows_of_three)(to + y * pitch, pitch, (const T *const *)rows + y, count);
        }
        return;
    }
    for (Index i = 0, n; i < outs; i += n) {
        const T *const *from = (const T *const *)rows + i;
        T *out = (T *)(to + i * pitch);
        Index x = 0;
        n = smaller(together, outs - i);
        if (count < LANES) {
            for (Index r = 0; r < n; r++)
                OF(taps)((char *)(out + r * apart), (const char *const *)from + r, size, count);
            continue;
        }
        for (; x + VECTORS_TOGETHER * LANES <= count; x += VECTORS_TOGETHER * LANES)
            OF(block)(from, size, out, apart, n, x, VECTORS_TOGETHER);
        for (; x < count; x += LANES)
            OF(block)(from, size, out, apart, n, smaller(x, count - LANES), 1);
    }
}

static const Extreme NAMED(EXTREME) = {OF(rows), OF(line), OF(pairs), OF(taps)};
#undef OF
