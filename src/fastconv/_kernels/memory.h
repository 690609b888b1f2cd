/* A list of idle blocks behind NumPy's allocator hook; memory.pyx says why.
 *
 * A block is mapped by itself: a page whose last bytes are the header, then the array's data, which
 * begins at the boundary of a huge page if there is room for one. Data is advised to be huge pages
 * as far as they fit; the block ends behind the last small page that is needed, unless a huge page
 * there wastes little. So a block is at most a SLACK-th larger than its data. A block is reused for
 * data for which it is not larger than that. NumPy allocates and frees with the GIL held: no lock.
 */
#ifndef FASTCONV_MEMORY_H
#define FASTCONV_MEMORY_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)
#define SLACK ((size_t)16)

#if defined(CLOCK_MONOTONIC_COARSE)
#define IDLE_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define IDLE_CLOCK CLOCK_MONOTONIC
#endif

typedef struct Block {
    struct Block *newer, *older; /* neighbours in the list of idle blocks */
    size_t bytes;                /* of the mapping, the header's page included */
    time_t idle_since;
} Block;

static struct {
    Block *newest, *oldest;
    size_t bytes, limit;
    time_t patience; /* The number of seconds that a block stays idle. */
} idle;

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

static size_t page_bytes(void) {
    static size_t bytes;
    if (!bytes) bytes = (size_t)sysconf(_SC_PAGESIZE);
    return bytes;
}

static Block *header_of(void *data) { return (Block *)data - 1; }

static char *mapping_of(Block *block) { return (char *)(block + 1) - page_bytes(); }

static time_t seconds(void) {
    struct timespec now = {0, 0};
    clock_gettime(IDLE_CLOCK, &now);
    return now.tv_sec;
}

static void free_block(Block *block) { munmap(mapping_of(block), block->bytes); }

static void unlink_block(Block *block) {
    *(block->newer ? &block->newer->older : &idle.newest) = block->older;
    *(block->older ? &block->older->newer : &idle.oldest) = block->newer;
    idle.bytes -= block->bytes;
}

static void free_oldest(void) {
    Block *block = idle.oldest;
    unlink_block(block);
    free_block(block);
}

/* Free the blocks that have been idle longest until at most `limit` bytes are. */
static void shrink_idle(size_t limit) {
    while (idle.bytes > limit) free_oldest();
}

/* Free the blocks that nobody has wanted for a while. */
static void expire_idle(void) {
    time_t now = seconds();
    while (idle.oldest && now - idle.oldest->idle_since > idle.patience) free_oldest();
}

static char *map(size_t bytes) {
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? NULL : (char *)start;
}

static Block *new_block(size_t size) {
    size_t page = page_bytes(), bytes = round_up(size, page), align = page, mapped;
    size_t in_huge_pages = round_up(size, HUGE_BYTES);
    char *start, *data;
    Block *block;
    if (in_huge_pages - size + page <= size / SLACK) bytes = in_huge_pages;
    if (bytes >= HUGE_BYTES) align = HUGE_BYTES;
    mapped = bytes + align;
    if (bytes < size || mapped < bytes) return NULL;
    start = map(mapped);
    if (!start && idle.bytes) {
        shrink_idle(0);
        start = map(mapped);
    }
    if (!start) return NULL;
    data = (char *)round_up((uintptr_t)start + page, align);
    if (data - page > start) munmap(start, (size_t)(data - page - start));
    if (data + bytes < start + mapped) munmap(data + bytes, (size_t)(start + mapped - data) - bytes);
#if defined(MADV_HUGEPAGE)
    madvise(data, bytes, MADV_HUGEPAGE);
#endif
    block = header_of(data);
    block->bytes = page + bytes;
    return block;
}

static void *take_block(void *context, size_t size) {
    Block *block = idle.newest;
    (void)context;
    while (block && (block->bytes - page_bytes() < size || block->bytes - size > size / SLACK))
        block = block->older;
    if (block)
        unlink_block(block);
    else
        block = new_block(size);
    expire_idle();
    return block ? block + 1 : NULL;
}

static void give_block(void *context, void *data, size_t size) {
    Block *block;
    (void)context, (void)size;
    if (!data) return;
    block = header_of(data);
    if (block->bytes > idle.limit) {
        free_block(block);
        return;
    }
    block->idle_since = seconds();
    block->newer = NULL;
    block->older = idle.newest;
    *(idle.newest ? &idle.newest->newer : &idle.oldest) = block;
    idle.newest = block;
    idle.bytes += block->bytes;
    shrink_idle(idle.limit);
    expire_idle();
}

static void *take_zeroed_block(void *context, size_t count, size_t size) {
    void *data = size && count > (size_t)-1 / size ? NULL : take_block(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

/* `ndarray.resize` comes here. */
static void *resize_block(void *context, void *data, size_t size) {
    size_t held = data ? header_of(data)->bytes - page_bytes() : 0;
    void *moved;
    if (data && size <= held) return data;
    moved = take_block(context, size);
    if (moved && data) {
        memcpy(moved, data, held);
        give_block(context, data, held);
    }
    return moved;
}

static PyDataMem_Handler recycling_handler = {
    "fastconv_recycling", 1,
    {NULL, take_block, take_zeroed_block, resize_block, give_block}};

static PyObject *new_handler_capsule(void) {
    return PyCapsule_New(&recycling_handler, "mem_handler", NULL);
}

#endif
