// SPDX-License-Identifier: Apache-2.0
/*
 * IS, integer sort (RNR-94-007, 2.3.5): rank N keys ten times, two of them
 * being changed before each time.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "is.h"

struct sort {
	uint32_t nr_keys, max_key;
	int nr_threads;
	uint32_t *key;
	uint32_t *count;	/* [thread][key value] */
	uint32_t *rank;		/* [key value]: how many keys are smaller */
	uint32_t *subtotal;	/* [thread + 1] */
};

static void make_keys(const struct is_class *class, struct sort *s)
{
#pragma omp parallel
	{
		uint32_t first = (uint64_t)s->nr_keys * omp_get_thread_num() / omp_get_num_threads();
		uint32_t end = (uint64_t)s->nr_keys * (omp_get_thread_num() + 1) / omp_get_num_threads();

		make_is_keys(class, s->key + first, first, end);
	}
}

static void rank_keys(struct sort *s)
{
#pragma omp parallel num_threads(s->nr_threads)
	{
		int me = omp_get_thread_num(), all = omp_get_num_threads();
		uint32_t *mine = s->count + (size_t)me * s->max_key;
		uint32_t first = (uint64_t)s->max_key * me / all;
		uint32_t end = (uint64_t)s->max_key * (me + 1) / all;
		uint32_t sum = 0;

		memset(mine, 0, s->max_key * sizeof(*mine));
#pragma omp for schedule(static)
		for (uint32_t i = 0; i < s->nr_keys; i++)
			mine[s->key[i]]++;

		/* A range of key values each: prefix sums within it ... */
		for (uint32_t value = first; value < end; value++) {
			s->rank[value] = sum;
			for (int thread = 0; thread < all; thread++)
				sum += s->count[(size_t)thread * s->max_key + value];
		}
		s->subtotal[me] = sum;
#pragma omp barrier
		/* ... and then the keys of all lower ranges. */
		sum = 0;
		for (int thread = 0; thread < me; thread++)
			sum += s->subtotal[thread];
		for (uint32_t value = first; value < end; value++)
			s->rank[value] += sum;
	}
}

static void iterate(struct sort *s, int iteration)
{
	s->key[iteration] = iteration;
	s->key[iteration + IS_ITERATIONS] = s->max_key - iteration;
	rank_keys(s);
}

static bool ranks_are_right(const struct sort *s, const struct is_class *class,
			    int iteration)
{
	for (int i = 0; i < IS_CHECKS; i++)
		if (!is_rank_expected(class, i, iteration, s->rank[s->key[class->check[i].index]]))
			return false;
	return true;
}

/* Put each key where its rank says; then they must be in order. */
static bool sorts(struct sort *s)
{
	uint32_t *sorted = need_memory((uint64_t)s->nr_keys * sizeof(*sorted));
	bool ordered = true;

	for (uint32_t i = 0; i < s->nr_keys; i++) {
		uint32_t place = s->rank[s->key[i]]++;

		if (place >= s->nr_keys) {
			free(sorted);
			return false;
		}
		sorted[place] = s->key[i];
	}
	for (uint32_t i = 1; i < s->nr_keys; i++)
		ordered &= sorted[i - 1] <= sorted[i];
	free(sorted);
	return ordered;
}

bool run_is(char name, struct result *result)
{
	const struct is_class *class = find_is_class(name);
	struct sort s;
	double began;

	if (!class)
		return false;
	s.nr_keys = 1u << class->log_keys;
	s.max_key = 1u << class->log_max;
	s.nr_threads = omp_get_max_threads();
	s.key = need_memory((uint64_t)s.nr_keys * sizeof(*s.key));
	s.rank = need_memory((uint64_t)s.max_key * sizeof(*s.rank));
	s.count = need_memory((uint64_t)s.max_key * s.nr_threads * sizeof(*s.count));
	s.subtotal = need_memory(s.nr_threads * sizeof(*s.subtotal));
	make_keys(class, &s);

	/* Once untimed, so that all memory was touched. */
	iterate(&s, 1);
	result->verified = true;
	began = omp_get_wtime();
	for (int i = 1; i <= IS_ITERATIONS; i++) {
		iterate(&s, i);
		result->verified &= ranks_are_right(&s, class, i);
	}
	result->time_s = omp_get_wtime() - began;
	result->operations = (double)IS_ITERATIONS * s.nr_keys;
	result->verified &= sorts(&s);
	free(s.key);
	free(s.rank);
	free(s.count);
	free(s.subtotal);
	return true;
}
