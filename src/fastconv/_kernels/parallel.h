/* A team of threads: how its members share items, and how they avoid each other's processors.
 *
 * libgomp's threads wait busily at the end of a region, and for the next region, for 300,000
 * pauses, which take 5 to 50 ms. If two threads are on one processor, the one that waits keeps the
 * other from its work for that time. This happens often: the scheduler of a virtual machine tends
 * to wake a thread on the processor of its caller, although another is idle, and other programs may
 * occupy the processors. Therefore:
 *
 * a. A member that begins on the processor of another member moves to a free one. The calling
 *    thread is never moved, because the operating system remembers the processors that a thread was
 *    bound to. If its container were given more processors later, that thread could not use them.
 * b. Members wait for each other before the end of the region, and soon sleep instead of waiting
 *    busily.
 * c. The time that a team takes longer than one thread would have taken is measured. threads.h uses
 *    it to make such teams rarer.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef FASTCONV_PARALLEL_H
#define FASTCONV_PARALLEL_H

#include <stddef.h>
#include <stdint.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "platform.h"

#if defined(_OPENMP)
#include <omp.h>
#else
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
#endif

typedef void (*Task)(const void *job, ptrdiff_t item, char *scratch);

enum { PROCESSORS = 1024, WORD = 64 };

typedef struct {
    ptrdiff_t items, shares; /* A thread takes 1/shares of the remaining items, at least one. */
    ptrdiff_t next;          /* The first item that no member has taken. */
    int arrived;             /* The number of members that found no more items. */
    double started, worked;  /* When the calling thread began, and how many seconds it worked. */
    int64_t lost;            /* The largest loss of another member, in nanoseconds; at least 0. */
    uint64_t processors[PROCESSORS / WORD]; /* A bit for each processor that members noted. */
} Team;

/* A member waits busily for at least and at most this many seconds, and then sleeps. A nap takes
 * some 130 microseconds until the thread runs again: whoever waits for less would be late. */
static const double LEAST_SPIN = 100e-6, MOST_SPIN = 200e-6;

/* Take the next `*count` items, and return the first of them. */
static inline ptrdiff_t take_items(Team *team, ptrdiff_t *count) {
    ptrdiff_t first = __atomic_load_n(&team->next, __ATOMIC_RELAXED);
    do {
        *count = (team->items - first) / team->shares;
        if (*count < 1) *count = first < team->items;
    } while (!__atomic_compare_exchange_n(&team->next, &first, first + *count, 1, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return first;
}

/* Run items until none is left. */
static inline void run_items(Task task, const void *job, Team *team, char *scratch) {
    ptrdiff_t count, item = take_items(team, &count);
    while (count) {
        for (; count > 0; count--) task(job, item++, scratch);
        item = take_items(team, &count);
    }
}

static inline int all_arrived(const Team *team) {
    return __atomic_load_n(&team->arrived, __ATOMIC_ACQUIRE) >= omp_get_num_threads();
}

/* Return how many seconds longer a member took than it would have taken alone: the time that it
 * waited, minus the work that the others did in its place. The result is negative if the team
 * was faster. */
static inline double lost_time(double waited, double worked, int threads) {
    return waited - (threads - 1) * worked;
}

/* Note the processor of the calling thread. Return 0 if another member has noted it before. */
static inline int note_processor(Team *team) {
#if defined(__linux__)
    int here = sched_getcpu();
    uint64_t bit;
    if (here < 0 || here >= PROCESSORS) return 1;
    bit = (uint64_t)1 << here % WORD;
    return !(__atomic_fetch_or(&team->processors[here / WORD], bit, __ATOMIC_RELAXED) & bit);
#else
    (void)team;
    return 1;
#endif
}

/* Move the calling thread to a processor that no member has noted, if there is one. */
static inline void leave_processor(Team *team) {
#if defined(__linux__)
    int others = 0;
    cpu_set_t allowed, free;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    free = allowed;
    for (int i = 0; i < PROCESSORS; i++)
        if (team->processors[i / WORD] >> i % WORD & 1)
            CPU_CLR(i, &free);
        else
            others |= CPU_ISSET(i, &free);
    if (!others || sched_setaffinity(0, sizeof free, &free)) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
    note_processor(team);
#else
    (void)team;
#endif
}

/* Wait for the other members. The calling member began at `started`. */
static inline void arrive(Team *team, double started) {
    double now = seconds_now(), worked = now - started, spin = worked / 4;
    if (omp_get_thread_num() == 0) {
        team->started = started;
        team->worked = worked;
    }
    __atomic_add_fetch(&team->arrived, 1, __ATOMIC_RELEASE);
    if (all_arrived(team)) return;
    spin = now + (spin < LEAST_SPIN ? LEAST_SPIN : spin > MOST_SPIN ? MOST_SPIN : spin);
    while (!all_arrived(team) && seconds_now() < spin) continue;
    while (!all_arrived(team)) nap();
    if (omp_get_thread_num() != 0) {
        double seconds = lost_time(seconds_now() - now, worked, omp_get_num_threads());
        int64_t lost = (int64_t)(1e9 * seconds),
                most = __atomic_load_n(&team->lost, __ATOMIC_RELAXED);
        while (lost > most && !__atomic_compare_exchange_n(&team->lost, &most, lost, 1,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
    }
}

/* Run all items on at most `threads` threads. Return the largest number of seconds that a member
 * lost by waiting, here or in OpenMP. The end of the region is the only barrier; a loop that
 * OpenMP divides has more. */
static inline double run_team(Task task, const void *job, Team *team, char *scratch,
                              size_t scratch_bytes, int threads) {
    double lost, others;
    note_processor(team);
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
#endif
    {
        double started = seconds_now();
        if (omp_get_thread_num() != 0 && !note_processor(team)) leave_processor(team);
        run_items(task, job, team, scratch + (size_t)omp_get_thread_num() * scratch_bytes);
        arrive(team, started);
    }
    lost = lost_time(seconds_now() - team->started - team->worked, team->worked, threads);
    others = 1e-9 * (double)team->lost;
    return others > 0 && others > lost ? others : lost;
}

#endif
