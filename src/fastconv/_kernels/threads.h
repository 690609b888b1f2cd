/* OpenMP's settings, and whether the threads of a team can be started. */
#ifndef FASTCONV_THREADS_H
#define FASTCONV_THREADS_H

#include <stddef.h>

#if defined(_OPENMP)
#include <omp.h>
#define OPENMP_DATE _OPENMP
static void openmp_pause(void) { omp_pause_resource_all(omp_pause_soft); }
#else
#define OPENMP_DATE 0
static int omp_get_max_threads(void) { return 1; }
static int omp_get_num_procs(void) { return 1; }
static int omp_get_thread_limit(void) { return 1; }
static void openmp_pause(void) {}
#endif

#if defined(_OPENMP) && defined(__unix__)
#include <pthread.h>
#include <stdlib.h>

#include "clock.h"

/* libgomp keeps the team of each thread that calls it, so these facts are a thread's own. */
static __thread struct {
    int team;           /* The size of the team that libgomp keeps for this thread. */
    int refused;        /* The smallest size that could not be had the last time, or 0. */
    int patience;       /* The number of calls until it is asked for again. */
    unsigned pause;     /* The pause since which `team` holds; a pause ends all teams. */
    double lost;        /* How many seconds the last teams have lost; at least 0. */
    double alone;       /* For how many seconds it will compute alone when teams lose time again. */
    double alone_until; /* The end of that time. */
} own = {.team = 1, .alone = 1e-3};

static unsigned pauses;
static int adaptive_teams = 1;
static size_t stack_bytes; /* The size of the stacks of libgomp's threads; 0: the C library's. */

enum {
    PATIENCE = 256,
    TEAM_BYTES = 4096, /* More than libgomp allocates for a member of a team. */
    GAINS = 4,         /* A loss counts so many times as much as a gain, as losses come in bursts. */
};
/* Seconds. What may be lost before a thread computes alone, and for how long it then does. */
static const double MOST_LOST = 200e-6, LEAST_ALONE = 1e-3, MOST_ALONE = 0.25;

static void *pass_gate(void *gate) {
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

/* Start threads that all exist at the same time, end them, and return how many a team may have. */
static int try_team(int wanted) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *members = (pthread_t *)malloc((size_t)wanted * (sizeof *members + TEAM_BYTES));
    pthread_attr_t like_libgomp;
    int started = 0, i;
    if (!members) return 1;
    pthread_attr_init(&like_libgomp);
    if (stack_bytes) pthread_attr_setstacksize(&like_libgomp, stack_bytes);
    pthread_mutex_lock(&gate);
    while (started < wanted - 1 &&
           !pthread_create(&members[started], &like_libgomp, pass_gate, &gate))
        started++;
    pthread_mutex_unlock(&gate);
    pthread_attr_destroy(&like_libgomp);
    for (i = 0; i < started; i++) pthread_join(members[i], NULL);
    free(members);
    /* At the limit, the rest of the process needs some of what is left. */
    return started == wanted - 1 ? wanted : 1 + started / 2;
}

static int startable_team(int wanted) {
    unsigned now = __atomic_load_n(&pauses, __ATOMIC_RELAXED);
    if (own.pause != now) {
        own.pause = now;
        own.team = 1;
        own.refused = 0;
    }
    if (own.refused && wanted >= own.refused && own.patience-- > 0) return own.team;
    if (wanted > own.team) {
        int found = try_team(wanted);
        own.refused = found < wanted ? wanted : 0;
        own.patience = PATIENCE;
        wanted = found;
    }
    return own.team = wanted;
}

static int useful_team(int wanted) {
    if (adaptive_teams && own.lost >= MOST_LOST && seconds_now() < own.alone_until) return 1;
    return startable_team(wanted);
}

static void note_team(double lost) {
    own.lost += lost > 0 ? lost : lost / GAINS;
    if (own.lost >= MOST_LOST) {
        own.lost = MOST_LOST;
        own.alone_until = seconds_now() + own.alone;
        own.alone = 2 * own.alone < MOST_ALONE ? 2 * own.alone : MOST_ALONE;
    } else if (own.lost < 0) {
        own.lost = 0;
        own.alone = own.alone / 2 > LEAST_ALONE ? own.alone / 2 : LEAST_ALONE;
    }
}

static void pause_teams(void) {
    __atomic_add_fetch(&pauses, 1, __ATOMIC_RELAXED);
    openmp_pause();
}
#else
static int adaptive_teams;
static size_t stack_bytes;
static int useful_team(int wanted) { return wanted; }
static void note_team(double lost) { (void)lost; }
static void pause_teams(void) { openmp_pause(); }
#endif

#endif
