/* SPDX-License-Identifier: GPL-2.0-only */
/* What the threads of the stress test share. */
#ifndef _STRESS_H
#define _STRESS_H

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>
#include <popcorn/msg_ring.h>

#define WRITERS		3			/* kernel ids 1, 2, 3; 0 reads */
#define RINGS		POPCORN_MSG_PRIORITIES
#define ROUNDS		50000			/* messages that a writer tries to send */

#define fail(...)							\
	do {								\
		fprintf(stderr, "stress: " __VA_ARGS__);		\
		fputc('\n', stderr);					\
		_exit(1);						\
	} while (0)

/* Set while no thread runs. */
extern bool may_corrupt, skip_live, publish_first;
extern u64 first_seed;

extern struct popcorn_inbox inbox;
extern u32 generation[WRITERS + 1];		/* of each kernel; the next one is the next life */
extern u32 published[WRITERS + 1][RINGS], received[WRITERS + 1][RINGS];
extern u32 heads[RINGS];			/* written by the reader */
extern u32 skipped, corrupt;

void start(pthread_t *thread, void *(*run)(void *), void *arg);
void write_in_threads(bool dies);
void start_reader(void);
void stop_reader(void);
void sweep(void);

static inline u32 next_random(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed >> 32;
}

static inline bool one_in(u64 *seed, u32 n)
{
	return next_random(seed) % n == 0;
}

/* Others run in between, on whatever number of CPUs. */
static inline void pause_sometimes(u64 *seed)
{
	if (one_in(seed, 16))
		sched_yield();
}

static inline u8 pattern(u32 writer, u32 number, u32 at)
{
	return writer * 31 + number * 7 + at;
}

#endif /* _STRESS_H */
