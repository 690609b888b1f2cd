/* The functions of extremes.h for one type T and one operation, BETTER. Their names begin with
 * EXTREME. */
#define OF(name) NUMBER_JOIN(EXTREME, NAMED(name))

static inline T OF(best_2)(T a, T b) { return BETTER(a, b); }
static inline T OF(best_3)(T a, T b, T c) { return OF(best_2)(OF(best_2)(a, b), c); }
static inline T OF(best_4)(T a, T b, T c, T d) { return OF(best_2)(OF(best_3)(a, b, c), d); }

/* Compare elements of two, three or four rows. */
static void OF(two)(T *restrict out, const T *a, const T *b, Index count) {
    for (Index x = 0; x < count; x++) out[x] = OF(best_2)(a[x], b[x]);
}
static void OF(three)(T *restrict out, const T *a, const T *b, const T *c, Index count) {
    for (Index x = 0; x < count; x++) out[x] = OF(best_3)(a[x], b[x], c[x]);
}
static void OF(four)(T *restrict out, const T *a, const T *b, const T *c, const T *d, Index count) {
    for (Index x = 0; x < count; x++) out[x] = OF(best_4)(a[x], b[x], c[x], d[x]);
}

/* Compare elements of a row with those of one or three more. */
static void OF(one_more)(T *restrict out, const T *a, Index count) {
    for (Index x = 0; x < count; x++) out[x] = OF(best_2)(out[x], a[x]);
}
static void OF(three_more)(T *restrict out, const T *a, const T *b, const T *c, Index count) {
    for (Index x = 0; x < count; x++) out[x] = OF(best_4)(out[x], a[x], b[x], c[x]);
}

/* Compare the elements of n rows from column `first` on. */
static void OF(columns)(const T *const *rows, Index n, Index first, T *out, Index count) {
    Index i = smaller(n, 4);
    if (n == 1)
        memcpy(out, rows[0] + first, (size_t)count * sizeof(T));
    else if (n == 2)
        OF(two)(out, rows[0] + first, rows[1] + first, count);
    else if (n == 3)
        OF(three)(out, rows[0] + first, rows[1] + first, rows[2] + first, count);
    else
        OF(four)(out, rows[0] + first, rows[1] + first, rows[2] + first, rows[3] + first, count);
    for (; i + 3 <= n; i += 3)
        OF(three_more)(out, rows[i] + first, rows[i + 1] + first, rows[i + 2] + first, count);
    for (; i < n; i++) OF(one_more)(out, rows[i] + first, count);
}

static void OF(taps)(char *to, const char *const *taps, Index n, Index count) {
    OF(columns)((const T *const *)taps, n, 0, (T *)to, count);
}

static void OF(pairs)(char *to, const char *line, Index distance, Index count) {
    OF(two)((T *)to, (const T *)line, (const T *)line + distance, count);
}

/* Compare one to four elements, each the best of `width`. The last two of them may overlap. */
static void OF(last_pass)(T *out, const T *from, Index width, Index size, Index count) {
    const T *last = from + size - width;
    if (size <= width)
        memcpy(out, from, (size_t)count * sizeof(T));
    else if (size <= 2 * width)
        OF(two)(out, from, last, count);
    else if (size <= 3 * width)
        OF(three)(out, from, from + width, last, count);
    else
        OF(four)(out, from, from + width, from + 2 * width, last, count);
}

static void OF(line)(const void *filter, char *to, const char *line, Index count, char *stage) {
    const Index size = ((const Neighbours *)filter)->size;
    const Index step = ((const Neighbours *)filter)->step;
    T *const buffers[2] = {(T *)stage, (T *)stage + count + size * step};
    const T *from = (const T *)line;
    Index width = 1;
    for (int pass = 0; 4 * width < size; width *= 4, pass++) {
        const Index apart = width * step;
        T *buffer = buffers[pass % 2];
        OF(four)(buffer, from, from + apart, from + 2 * apart, from + 3 * apart,
                 count + (size - 4 * width) * step);
        from = buffer;
    }
    OF(last_pass)((T *)to, from, width * step, size * step, count);
}

/* Take one more row into `top`, the best of the rows below a block, and `top` into `out`. */
static void OF(extend)(T *restrict out, T *restrict top, const T *next, Index count) {
    for (Index x = 0; x < count; x++) {
        const T best = OF(best_2)(top[x], next[x]);
        top[x] = best;
        out[x] = OF(best_2)(out[x], best);
    }
}

/* Compare the rows of n <= size windows, which have the rows n - 1 to size - 1 in common. */
static void OF(block)(const T *const *rows, Index size, T *to, Index pitch, Index n, Index first,
                      Index count) {
    T top[LARGEST_STRIP_BYTES / sizeof(T)];
    OF(columns)(rows + n - 1, size - n + 1, first, to + (n - 1) * pitch, count);
    for (Index i = n - 2; i >= 0; i--)
        OF(two)(to + i * pitch, rows[i] + first, to + (i + 1) * pitch, count);
    if (n == 1) return;
    memcpy(top, rows[size] + first, (size_t)count * sizeof(T));
    OF(one_more)(to + pitch, top, count);
    for (Index i = 2; i < n; i++)
        OF(extend)(to + i * pitch, top, rows[size + i - 1] + first, count);
}

static void OF(rows)(const void *filter, char *to, Index pitch, const char *const *rows,
                     Index outs, Index count, char *stage) {
    const Index size = ((const Neighbours *)filter)->size;
    /* With few rows it is faster to compare all of a window. */
    const Index n = size <= 4 ? 1 : smaller(size, outs);
    const Index strip = strip_bytes(n + size) / (Index)sizeof(T);
    const Index apart = pitch / (Index)sizeof(T);
    (void)stage;
    for (Index x = 0; x < count; x += strip)
        for (Index i = 0; i < outs; i += n)
            OF(block)((const T *const *)rows + i, size, (T *)to + i * apart + x, apart,
                      smaller(n, outs - i), x, smaller(strip, count - x));
}

static const Extreme NAMED(EXTREME) = {OF(rows), OF(line), OF(pairs), OF(taps)};
#undef OF
