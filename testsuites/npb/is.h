// SPDX-License-Identifier: Apache-2.0
/*
 * IS, integer sort (RNR-94-007, 2.3.5): its sizes, and the ranks that some keys
 * must have; the same for threads and for processes.
 */
#ifndef NPB_IS_H
#define NPB_IS_H

#include "npb.h"

#define IS_ITERATIONS	10
#define IS_CHECKS	5

/* A key whose rank is known: base + step * iteration. */
struct is_check {
	uint32_t index;
	int32_t base;
	int step;
};

struct is_class {
	char name;
	int log_keys, log_max;
	struct is_check check[IS_CHECKS];
};

/* NULL when there is no such class. */
const struct is_class *find_is_class(char name);

/* Make the keys from @first to before @end; each is the mean of four random numbers. */
void make_is_keys(const struct is_class *class, uint32_t *key, uint32_t first, uint32_t end);

/* Whether the rank of the key that check @i is about is right. */
static inline bool is_rank_expected(const struct is_class *class, int i, int iteration, uint32_t rank)
{
	const struct is_check *check = &class->check[i];

	return rank == check->base + (int64_t)check->step * iteration;
}

#endif /* NPB_IS_H */
