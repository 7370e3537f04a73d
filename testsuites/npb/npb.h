/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three of the NAS parallel benchmarks, written from their specification
 * (D. Bailey et al., "The NAS Parallel Benchmarks", RNR-94-007, 1994) in C
 * with OpenMP.  Classes S and W, which that report lacks, have the sizes and
 * the reference results of the published NPB 2 and 3.
 */
#ifndef NPB_H
#define NPB_H

#include <stdbool.h>
#include <stdint.h>

struct result {
	double time_s;		/* of the timed part alone */
	double operations;	/* done in it, as NPB counts them */
	bool verified;
};

/* Each returns false when it has no such class. */
bool run_is(char class, struct result *result);
bool run_cg(char class, struct result *result);
bool run_ft(char class, struct result *result);

/* Get memory or exit with a message. */
void *need_memory(uint64_t bytes);

/*
 * The report's generator (section 2.3): x[k+1] = a x[k] mod 2^46, a = 5^13,
 * its values scaled into (0, 1).
 */
#define NAS_MULTIPLIER	1220703125ULL
#define NAS_SEED	314159265ULL
#define NAS_MASK	((1ULL << 46) - 1)

static inline double nas_random(uint64_t *x)
{
	*x = *x * NAS_MULTIPLIER & NAS_MASK;
	return *x * 0x1p-46;
}

/* The state after @steps more numbers. */
static inline uint64_t nas_skip(uint64_t x, uint64_t steps)
{
	uint64_t power = NAS_MULTIPLIER;

	for (; steps; steps >>= 1) {
		if (steps & 1)
			x = x * power & NAS_MASK;
		power = power * power & NAS_MASK;
	}
	return x;
}

#endif /* NPB_H */
