/* Conversions of rows of T. This file is a template (see number.h) of dense.h. */

static void NAMED(load_float)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((float *)to)[i] = (float)((const T *)from)[i];
}

static void NAMED(load_double)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((double *)to)[i] = (double)((const T *)from)[i];
}

static void NAMED(load_integer)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((uint64_t *)to)[i] = (uint64_t)((const T *)from)[i];
}

static void NAMED(store_float)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = NAMED(SHORT)(((const float *)from)[i]);
}

static void NAMED(store_double)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = NAMED(CAST)(((const double *)from)[i]);
}

static void NAMED(store_wrapped)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = (T)to_int64(((const double *)from)[i]);
}

static void NAMED(store_integer)(void *to, const void *from, Index count) {
    for (Index i = 0; i < count; i++) ((T *)to)[i] = (T)((const uint64_t *)from)[i];
}
