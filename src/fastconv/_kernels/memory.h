/* A list of idle blocks behind NumPy's allocator hook; memory.pyx says why.
 *
 * A block is a multiple of 2 MiB, aligned to it and advised to be huge pages: a header of one
 * cache line, then the array's data. Only a block of exactly the right size is reused, so memory
 * is never held by a smaller array. NumPy allocates and frees with the GIL held: no lock.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define BLOCK_BYTES ((size_t)2 << 20)
#define HEADER_BYTES ((size_t)64)

typedef struct Block {
    struct Block *newer, *older; /* neighbours in the list of idle blocks */
    size_t bytes;                /* of the whole block */
} Block;

static struct {
    Block *newest, *oldest;
    size_t bytes, limit;
} idle;

static void unlink_block(Block *block) {
    *(block->newer ? &block->newer->older : &idle.newest) = block->older;
    *(block->older ? &block->older->newer : &idle.oldest) = block->newer;
    idle.bytes -= block->bytes;
}

/* Free the blocks that have been idle longest until at most `limit` bytes are. */
static void shrink_idle(size_t limit) {
    while (idle.bytes > limit) {
        Block *block = idle.oldest;
        unlink_block(block);
        free(block);
    }
}

static void *new_block(size_t bytes) {
    void *block = NULL;
    if (posix_memalign(&block, BLOCK_BYTES, bytes)) {
        shrink_idle(0);
        if (posix_memalign(&block, BLOCK_BYTES, bytes)) return NULL;
    }
#if defined(MADV_HUGEPAGE)
    madvise(block, bytes, MADV_HUGEPAGE);
#endif
    ((Block *)block)->bytes = bytes;
    return block;
}

static void *take_block(void *context, size_t size) {
    size_t bytes = (size + HEADER_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    Block *block = idle.newest;
    (void)context;
    if (bytes < size) return NULL;
    while (block && block->bytes != bytes) block = block->older;
    if (block)
        unlink_block(block);
    else
        block = (Block *)new_block(bytes);
    return block ? (char *)block + HEADER_BYTES : NULL;
}

static void give_block(void *context, void *data, size_t size) {
    Block *block;
    (void)context, (void)size;
    if (!data) return;
    block = (Block *)((char *)data - HEADER_BYTES);
    if (block->bytes > idle.limit) {
        free(block);
        return;
    }
    block->newer = NULL;
    block->older = idle.newest;
    *(idle.newest ? &idle.newest->newer : &idle.oldest) = block;
    idle.newest = block;
    idle.bytes += block->bytes;
    shrink_idle(idle.limit);
}

static void *take_zeroed_block(void *context, size_t count, size_t size) {
    void *data = size && count > (size_t)-1 / size ? NULL : take_block(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

/* `ndarray.resize` comes here. */
static void *resize_block(void *context, void *data, size_t size) {
    size_t held = data ? ((Block *)((char *)data - HEADER_BYTES))->bytes - HEADER_BYTES : 0;
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
