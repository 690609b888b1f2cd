/* What operating systems do differently: clocks, naps, and the memory of the process. Everything
 * else in C is the language and the vector extension of GCC and Clang. */
#ifndef FASTCONV_PLATFORM_H
#define FASTCONV_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
/* These are declared here because windows.h defines types and macros by the hundred, of which INT8,
 * OPAQUE and others are names of the kernels. */
#define IMPORTED(T) __declspec(dllimport) T __stdcall
typedef struct {
    uint32_t bytes, load;
    uint64_t physical, others[6];
} MemoryStatus;
IMPORTED(int) QueryPerformanceCounter(int64_t *ticks);
IMPORTED(int) QueryPerformanceFrequency(int64_t *ticks_per_second);
IMPORTED(uint64_t) GetTickCount64(void);
IMPORTED(int) SwitchToThread(void);
IMPORTED(int) GlobalMemoryStatusEx(MemoryStatus *status);
IMPORTED(void *) VirtualAlloc(void *start, size_t bytes, uint32_t type, uint32_t protection);
IMPORTED(int) VirtualFree(void *start, size_t bytes, uint32_t type);
#undef IMPORTED
enum { COMMIT_AND_RESERVE = 0x3000, RESET = 0x80000, RELEASE = 0x8000, READ_AND_WRITE = 0x04 };
#else
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#endif

/* Return the seconds since some event. This clock never goes back. */
static inline double seconds_now(void) {
#if defined(_WIN32)
    int64_t ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return (double)ticks / (double)per_second;
#else
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

/* Return the seconds of a clock that is cheaper to read, and exact to some milliseconds. */
static inline int64_t coarse_seconds(void) {
#if defined(_WIN32)
    return (int64_t)(GetTickCount64() / 1000);
#else
    struct timespec now = {0, 0};
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec;
#endif
}

/* Let other threads have the processor for some 50 microseconds. */
static inline void nap(void) {
#if defined(_WIN32)
    SwitchToThread(); /* The shortest sleep of Windows takes 1 to 16 milliseconds. */
#else
    const struct timespec time = {0, 50000};
    nanosleep(&time, NULL);
#endif
}

/* Return how much address space the process may have, in bytes; SIZE_MAX if there is no limit. */
static inline size_t address_space(void) {
#if !defined(_WIN32)
    struct rlimit space;
    if (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur != RLIM_INFINITY)
        return (size_t)space.rlim_cur;
#endif
    return SIZE_MAX;
}

/* Return the bytes of the machine's memory, or 0 if the system does not tell. */
static inline uint64_t machine_memory(void) {
#if defined(_WIN32)
    MemoryStatus status = {sizeof status, 0, 0, {0}};
    return GlobalMemoryStatusEx(&status) ? status.physical : 0;
#else
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? (uint64_t)pages * (uint64_t)bytes : 0;
#endif
}

/* Map memory that begins at a multiple of `alignment`, a power of two, and ask for huge pages. Return
 * NULL if there is none. (Windows aligns to 64 KiB whatever is asked for, and gives huge pages only to
 * processes with a special right.) */
static inline char *map_memory(size_t bytes, size_t alignment) {
#if defined(_WIN32)
    (void)alignment;
    return (char *)VirtualAlloc(NULL, bytes, COMMIT_AND_RESERVE, READ_AND_WRITE);
#else
    size_t before;
    char *start = (char *)mmap(NULL, bytes + alignment, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == (char *)MAP_FAILED) return NULL;
    before = (size_t)(-(uintptr_t)start) & (alignment - 1);
    if (before) munmap(start, before);
    munmap(start + before + bytes, alignment - before);
#if defined(MADV_HUGEPAGE)
    madvise(start + before, bytes, MADV_HUGEPAGE);
#endif
    return start + before;
#endif
}

/* Unmap all of what one call of `map_memory` returned. */
static inline void unmap_memory(char *start, size_t bytes) {
#if defined(_WIN32)
    (void)bytes;
    VirtualFree(start, 0, RELEASE);
#else
    munmap(start, bytes);
#endif
}

/* Give the pages of a part of a mapping back to the system. The part stays mapped; its content is
 * lost. */
static inline void discard_memory(char *start, size_t bytes) {
#if defined(_WIN32)
    VirtualAlloc(start, bytes, RESET, READ_AND_WRITE);
#elif defined(__APPLE__)
    madvise(start, bytes, MADV_FREE); /* There MADV_DONTNEED keeps the pages. */
#else
    madvise(start, bytes, MADV_DONTNEED);
#endif
}

#endif
