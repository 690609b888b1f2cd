/* Recycled memory behind NumPy's allocator hook; memory.pyx says why.
 *
 * a. Mappings consist of huge pages (2 MiB), because small pages take five times as long to touch.
 *    A mapping is cut into ranges, one per array, so that arrays share the pages at their ends. If
 *    each array had whole pages, up to half of the memory of a result would be wasted.
 * b. A range is used, idle or spare. When its array is deleted, a range becomes idle. It keeps its
 *    pages for a later array, which may be smaller by at most 1/SLACK. A range becomes spare when
 *    it has been idle for long, or when idle ranges exceed their limit. It then gives back the
 *    pages that no other range needs, and is merged with spare neighbours. A mapping that is spare
 *    as a whole is unmapped.
 * c. A cache line before the data contains the address of the range's descriptor, which lies
 *    elsewhere, so that a search for a range does not touch cold memory.
 *
 * NumPy holds the GIL when it allocates and frees, so there is no lock.
 */
#ifndef FASTCONV_MEMORY_H
#define FASTCONV_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

#define HUGE_BYTES ((size_t)2 << 20)
/* The size of a mapping that several ranges share. */
#define MAPPING_BYTES ((size_t)64 << 20)
#define LINE_BYTES ((size_t)64)
#define SLACK ((size_t)16)

typedef struct Range {
    struct Range *before, *after; /* The neighbours in the mapping, by address. */
    struct Range *newer, *older;  /* The neighbours in the list of idle or of spare ranges. */
    char *start;
    size_t bytes;
    int is_spare;
    int64_t idle_since; /* In seconds. */
} Range;

typedef struct {
    Range *newest, *oldest;
    size_t bytes;
} List;

static List idle, spare;
static size_t idle_limit;
static int64_t idle_patience; /* The number of seconds that a range stays idle. */

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

static Range *range_of(void *data) { return *(Range **)((char *)data - LINE_BYTES); }

static void push(List *list, Range *range) {
    range->newer = NULL;
    range->older = list->newest;
    *(list->newest ? &list->newest->newer : &list->oldest) = range;
    list->newest = range;
    list->bytes += range->bytes;
}

static void drop(List *list, Range *range) {
    *(range->newer ? &range->newer->older : &list->newest) = range->older;
    *(range->older ? &range->older->newer : &list->oldest) = range->newer;
    list->bytes -= range->bytes;
}

/* Merge a range with the one after it. Both are spare, and neither is in a list. */
static void unite(Range *range) {
    Range *next = range->after;
    range->bytes += next->bytes;
    range->after = next->after;
    if (next->after) next->after->before = range;
    free(next);
}

/* Make a range spare that belongs to no array and to no list. */
static void make_spare(Range *range) {
    char *first, *end;
    range->is_spare = 1;
    if (range->after && range->after->is_spare) {
        drop(&spare, range->after);
        unite(range);
    }
    if (range->before && range->before->is_spare) {
        range = range->before;
        drop(&spare, range);
        unite(range);
    }
    if (!range->before && !range->after) {
        unmap_memory(range->start, range->bytes);
        free(range);
        return;
    }
    first = (char *)round_up((uintptr_t)range->start, HUGE_BYTES);
    end = range->start + range->bytes;
    end -= (uintptr_t)end % HUGE_BYTES;
    if (first < end) discard_memory(first, (size_t)(end - first));
    push(&spare, range);
}

static void give_back_oldest(void) {
    Range *range = idle.oldest;
    drop(&idle, range);
    make_spare(range);
}

/* Give back the ranges that have been idle longest, until at most `limit` bytes are idle. */
static void shrink_idle(size_t limit) {
    while (idle.bytes > limit) give_back_oldest();
}

/* Give back the ranges that have been idle for too long. */
static void expire_idle(void) {
    int64_t now = coarse_seconds();
    while (idle.oldest && now - idle.oldest->idle_since > idle_patience) give_back_oldest();
}

/* Return the range of a new mapping of this size, or NULL. */
static Range *new_mapping(size_t bytes) {
    Range *range = (Range *)calloc(1, sizeof *range);
    if (!range) return NULL;
    range->start = map_memory(bytes, HUGE_BYTES);
    range->bytes = bytes;
    if (range->start) return range;
    free(range);
    return NULL;
}

/* Take a spare range of at least this size from the list, or return NULL. */
static Range *spare_range(size_t bytes) {
    Range *range = spare.newest;
    while (range && range->bytes < bytes) range = range->older;
    if (range) drop(&spare, range);
    return range;
}

/* Return the size of a mapping that several ranges share. Where the address space is limited
 * (`ulimit -v`), it is at most 1/64 of the limit, because the stacks of threads and NumPy's own
 * arrays need the rest. */
static size_t shared_bytes(void) {
    size_t part = address_space() / 64;
    return part >= MAPPING_BYTES ? MAPPING_BYTES : part / HUGE_BYTES * HUGE_BYTES;
}

/* Return a range of at least this size that is in no list, or NULL. A small range comes from a
 * mapping that has room for others. */
static Range *find_range(size_t bytes) {
    size_t least = round_up(bytes, HUGE_BYTES);
    size_t shared = shared_bytes();
    Range *range = spare_range(bytes);
    if (!range) range = new_mapping(least > shared / 2 ? least : shared);
    if (range) return range;
    /* The address space may be limited. Idle ranges may leave room in it, or merge to a large
     * one. */
    shrink_idle(0);
    range = spare_range(bytes);
    return range ? range : new_mapping(least);
}

/* Make the surplus of a range a spare range. */
static void cut(Range *range, size_t bytes) {
    Range *rest;
    if (range->bytes == bytes) return;
    rest = (Range *)calloc(1, sizeof *rest);
    if (!rest) return; /* Without memory for a descriptor, the range stays larger than needed. */
    rest->start = range->start + bytes;
    rest->bytes = range->bytes - bytes;
    rest->before = range;
    rest->after = range->after;
    if (rest->after) rest->after->before = rest;
    range->after = rest;
    range->bytes = bytes;
    make_spare(rest);
}

static void *take(void *context, size_t size) {
    size_t bytes = round_up(size, LINE_BYTES) + LINE_BYTES;
    Range *range = idle.newest;
    (void)context;
    if (size > PTRDIFF_MAX / 2) return NULL;
    while (range && (range->bytes < bytes || range->bytes - size > size / SLACK))
        range = range->older;
    if (range) {
        drop(&idle, range);
    } else {
        range = find_range(bytes);
        if (!range) return NULL;
        range->is_spare = 0;
        cut(range, bytes);
        *(Range **)range->start = range;
    }
    expire_idle();
    return range->start + LINE_BYTES;
}

static void give(void *context, void *data, size_t size) {
    Range *range;
    (void)context, (void)size;
    if (!data) return;
    range = range_of(data);
    if (range->bytes > idle_limit) {
        make_spare(range);
        return;
    }
    range->idle_since = coarse_seconds();
    push(&idle, range);
    shrink_idle(idle_limit);
    expire_idle();
}

static void *take_zeroed(void *context, size_t count, size_t size) {
    void *data = size && count > (size_t)-1 / size ? NULL : take(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

/* `ndarray.resize` calls this function. */
static void *resize(void *context, void *data, size_t size) {
    size_t held = data ? range_of(data)->bytes - LINE_BYTES : 0;
    void *moved;
    if (data && size <= held) {
        cut(range_of(data), round_up(size, LINE_BYTES) + LINE_BYTES);
        return data;
    }
    moved = take(context, size);
    if (moved && data) {
        memcpy(moved, data, held);
        give(context, data, held);
    }
    return moved;
}

static PyDataMem_Handler recycling_handler = {
    "fastconv_recycling", 1, {NULL, take, take_zeroed, resize, give}};

static PyObject *new_handler_capsule(void) {
    return PyCapsule_New(&recycling_handler, "mem_handler", NULL);
}

#endif
