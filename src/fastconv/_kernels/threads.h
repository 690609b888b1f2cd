/* The settings of OpenMP, and the size of a team that can be started and is worth it. */
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

#include "platform.h"

/* libgomp keeps a team for each thread that calls it, so each thread has its own copy of these. */
static __thread struct {
    int team;           /* The size of the team that libgomp keeps for this thread. */
    int refused;        /* The smallest size that the last attempt could not start, or 0. */
    int patience;       /* The number of calls until the next attempt. */
    unsigned pause;     /* The value of `pauses` for which `team` is valid. */
    double lost;        /* The number of seconds that the last teams lost; at least 0. */
    double alone;       /* How many seconds to compute alone when teams next lose time. */
    double alone_until; /* When the present time of computing alone ends, in seconds. */
} own = {.team = 1, .alone = 1e-3};

/* The number of times that all teams were ended. */
static unsigned pauses;
static int adaptive_teams = 1;
static size_t stack_bytes; /* The stack size of libgomp's threads; 0 is the C library's default. */

enum {
    PATIENCE = 256,    /* This many calls do not try again after a size was refused. */
    TEAM_BYTES = 4096, /* libgomp allocates less than this for a member of a team. */
    GAINS = 4,         /* Losses count this many times as much as gains: they come in bursts. */
};
/* A thread that has lost MOST_LOST seconds computes alone, for LEAST_ALONE to MOST_ALONE
 * seconds. */
static const double MOST_LOST = 200e-6, LEAST_ALONE = 1e-3, MOST_ALONE = 0.25;

static void *pass_gate(void *gate) {
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

/* Start threads that all exist at the same time, end them, and return the possible size of a
 * team. */
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
    /* At the limit, leave half of the threads to the rest of the process. */
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
