// SPDX-License-Identifier: Apache-2.0
/*
 * As much of an OpenMP runtime as the benchmarks need: what gcc calls for
 * parallel regions, barriers, single and reductions.  Every kernel's image
 * holds a copy of this program; gcc's own runtime, with the C library
 * that it wants, has twelve times its size.
 *
 * Threads that wait sleep: an emulated CPU that spins takes its time from one
 * that works.
 */
#define _GNU_SOURCE
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Of <linux/futex.h>, which does not come with the C library. */
#define FUTEX_WAIT_PRIVATE	128
#define FUTEX_WAKE_PRIVATE	129

#define MAX_THREADS	1024
#define SIZE_BITS	16	/* of an order: the team's size, below a count of its orders */

typedef void region_fn(void *);

/* What gcc calls; no header declares it. */
void GOMP_parallel(region_fn *fn, void *data, unsigned int nr_threads, unsigned int flags);
void GOMP_barrier(void);
bool GOMP_single_start(void);
void GOMP_atomic_start(void);
void GOMP_atomic_end(void);

/* There is one team; it grows and stays. */
static region_fn *region;
static void *region_data;
static _Atomic unsigned int arrived;	/* at the barrier */
static _Atomic unsigned int singles;	/* taken in this region */
static unsigned int nr_started = 1;
static pthread_mutex_t atomic_lock = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local unsigned int me, team_size = 1, singles_met;

/*
 * What each thread waits for, a word of its own: the kernel queues those who
 * wait for one word under one spinlock, and an emulated CPU that waits for a
 * spinlock keeps the one that holds it from running.
 */
static struct seat {
	_Alignas(64) _Atomic unsigned int order;	/* changes with each region */
	_Atomic unsigned int phase;			/* changes when all are at the barrier */
} seats[MAX_THREADS];

static void sleep_while(_Atomic unsigned int *word, unsigned int value)
{
	while (atomic_load_explicit(word, memory_order_acquire) == value)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void change(_Atomic unsigned int *word, unsigned int value)
{
	atomic_store_explicit(word, value, memory_order_release);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void GOMP_barrier(void)
{
	unsigned int now = atomic_load_explicit(&seats[me].phase, memory_order_relaxed);

	if (team_size == 1)
		return;
	/* Nobody changes a phase before its thread has arrived. */
	if (atomic_fetch_add_explicit(&arrived, 1, memory_order_acq_rel) + 1 < team_size) {
		sleep_while(&seats[me].phase, now);
		return;
	}
	atomic_store_explicit(&arrived, 0, memory_order_relaxed);
	/* Who sees its new phase may arrive again. */
	for (unsigned int i = 0, size = team_size; i < size; i++)
		if (i != me)
			change(&seats[i].phase, atomic_load_explicit(&seats[i].phase, memory_order_relaxed) + 1);
}

/* True for the first thread that comes to a single; all meet the same ones. */
bool GOMP_single_start(void)
{
	unsigned int expected = singles_met++;

	return team_size == 1 || atomic_compare_exchange_strong(&singles, &expected, expected + 1);
}

void GOMP_atomic_start(void)
{
	pthread_mutex_lock(&atomic_lock);
}

void GOMP_atomic_end(void)
{
	pthread_mutex_unlock(&atomic_lock);
}

static void take_part(unsigned int size)
{
	team_size = size;
	singles_met = 0;
	region(region_data);
	GOMP_barrier();
}

static void *follow(void *number)
{
	unsigned int seen = 0;

	me = (unsigned int)(unsigned long)number;
	for (;;) {
		sleep_while(&seats[me].order, seen);
		/* One word: the size is that of the region it stands beside. */
		seen = atomic_load_explicit(&seats[me].order, memory_order_acquire);
		take_part(seen & ((1U << SIZE_BITS) - 1));
	}
	return NULL;
}

static void grow(unsigned int size)
{
	for (; nr_started < size; nr_started++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, follow, (void *)(unsigned long)nr_started)) {
			fprintf(stderr, "npb: cannot start thread %u of %u\n", nr_started, size);
			exit(3);
		}
	}
}

void GOMP_parallel(region_fn *fn, void *data, unsigned int nr_threads, unsigned int flags)
{
	unsigned int size = nr_threads ? nr_threads : (unsigned int)omp_get_max_threads();

	(void)flags;
	if (size > MAX_THREADS)
		size = MAX_THREADS;
	/* Nobody of an earlier region looks at these any more: all met at its end. */
	region = fn;
	region_data = data;
	atomic_store_explicit(&singles, 0, memory_order_relaxed);
	if (size > 1) {
		grow(size);
		for (unsigned int i = 1; i < size; i++) {
			unsigned int last = atomic_load_explicit(&seats[i].order, memory_order_relaxed);

			change(&seats[i].order, ((last >> SIZE_BITS) + 1) << SIZE_BITS | size);
		}
	}
	take_part(size);
	team_size = 1;
}

int omp_get_thread_num(void)
{
	return (int)me;
}

int omp_get_num_threads(void)
{
	return (int)team_size;
}

int omp_get_max_threads(void)
{
	const char *wanted = getenv("OMP_NUM_THREADS");
	int count = wanted ? atoi(wanted) : 0;
	cpu_set_t cpus;

	if (count < 1)
		count = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
	return count < MAX_THREADS ? count : MAX_THREADS;
}

double omp_get_wtime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}
