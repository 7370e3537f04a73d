// SPDX-License-Identifier: Apache-2.0
/*
 * IS, integer sort (RNR-94-007, 2.3.5): rank N keys ten times, two of them
 * being changed before each time.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "npb.h"

#define ITERATIONS	10
#define CHECKS		5

/* A key whose rank is known: base + step * iteration. */
struct check {
	uint32_t index;
	int32_t base;
	int step;
};

static const struct class {
	char name;
	int log_keys, log_max;
	struct check check[CHECKS];
} classes[] = {
	{ 'S', 16, 11, { { 48427, 0, 1 }, { 17148, 18, 1 }, { 23627, 346, 1 },
			 { 62548, 64917, -1 }, { 4431, 65463, -1 } } },
	{ 'W', 20, 16, { { 357773, 1249 - 2, 1 }, { 934767, 11698 - 2, 1 },
			 { 875723, 1039987, -1 }, { 898999, 1043896, -1 },
			 { 404505, 1048018, -1 } } },
	{ 'A', 23, 19, { { 2112377, 104 - 1, 1 }, { 662041, 17523 - 1, 1 },
			 { 5336171, 123928 - 1, 1 },
			 { 3642833, 8288932 + 1, -1 },
			 { 4250760, 8388264 + 1, -1 } } },
	{ 'B', 25, 21, { { 41869, 33422937, -1 }, { 812306, 10244, 1 },
			 { 5102857, 59149, 1 }, { 18232239, 33135281, -1 },
			 { 26860214, 99, 1 } } },
};

struct sort {
	uint32_t nr_keys, max_key;
	int nr_threads;
	uint32_t *key;
	uint32_t *count;	/* [thread][key value] */
	uint32_t *rank;		/* [key value]: how many keys are smaller */
	uint32_t *subtotal;	/* [thread + 1] */
};

/* Each key is the mean of four random numbers. */
static void make_keys(struct sort *s)
{
#pragma omp parallel
	{
		uint32_t first = (uint64_t)s->nr_keys * omp_get_thread_num() / omp_get_num_threads();
		uint32_t end = (uint64_t)s->nr_keys * (omp_get_thread_num() + 1) / omp_get_num_threads();
		uint64_t x = nas_skip(NAS_SEED, 4ULL * first);
		double scale = s->max_key / 4;

		for (uint32_t i = first; i < end; i++) {
			double sum = nas_random(&x);

			sum += nas_random(&x);
			sum += nas_random(&x);
			sum += nas_random(&x);
			s->key[i] = scale * sum;
		}
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
	s->key[iteration + ITERATIONS] = s->max_key - iteration;
	rank_keys(s);
}

static bool ranks_are_right(const struct sort *s, const struct class *class,
			    int iteration)
{
	for (int i = 0; i < CHECKS; i++) {
		const struct check *check = &class->check[i];
		int64_t expected = check->base + (int64_t)check->step * iteration;

		if (s->rank[s->key[check->index]] != expected)
			return false;
	}
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
	const struct class *class = NULL;
	struct sort s;
	double began;

	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			class = &classes[i];
	if (!class)
		return false;
	s.nr_keys = 1u << class->log_keys;
	s.max_key = 1u << class->log_max;
	s.nr_threads = omp_get_max_threads();
	s.key = need_memory((uint64_t)s.nr_keys * sizeof(*s.key));
	s.rank = need_memory((uint64_t)s.max_key * sizeof(*s.rank));
	s.count = need_memory((uint64_t)s.max_key * s.nr_threads * sizeof(*s.count));
	s.subtotal = need_memory(s.nr_threads * sizeof(*s.subtotal));
	make_keys(&s);

	/* Once untimed, so that all memory was touched. */
	iterate(&s, 1);
	result->verified = true;
	began = omp_get_wtime();
	for (int i = 1; i <= ITERATIONS; i++) {
		iterate(&s, i);
		result->verified &= ranks_are_right(&s, class, i);
	}
	result->time_s = omp_get_wtime() - began;
	result->operations = (double)ITERATIONS * s.nr_keys;
	result->verified &= sorts(&s);
	free(s.key);
	free(s.rank);
	free(s.count);
	free(s.subtotal);
	return true;
}
