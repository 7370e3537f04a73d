// SPDX-License-Identifier: Apache-2.0
/*
 * IS among processes: each has a part of the keys. In each iteration they
 * count how many keys of all lie in each range of values (a bucket), divide
 * the buckets among themselves, send each other the keys, and rank their own.
 */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "is.h"
#include "parts.h"

#define LOG_BUCKETS	10
#define BUCKETS		(1 << LOG_BUCKETS)

struct sort {
	const struct is_class *class;
	int nr_keys, max_key;		/* of all processes */
	int shift;			/* from a key to its bucket */
	int first, nr_mine;		/* of the keys before they are sent */
	int *key, *in_buckets;
	int *received, room, nr_received;
	int *sent_count, *sent_at;	/* [rank] */
	int *received_count, *received_at;
	int *bucket_begin;		/* [rank + 1]: whose buckets begin where */
	int *count;			/* [value]: how many smaller ones this process has */
	int value_begin, value_end;	/* this process's */
	int nr_lower;			/* keys that lower processes have */
	int total[BUCKETS + IS_CHECKS];	/* keys of all in each bucket, and the checks' keys */
};

static int *need_ints(int count)
{
	return need_memory((uint64_t)(count ? count : 1) * sizeof(int));
}

/* How many keys all have in each bucket; and the keys whose ranks are known, from those who have them. */
static void count_buckets(struct sort *s, int *mine)
{
	MPI_Request request;

	memset(mine, 0, (BUCKETS + IS_CHECKS) * sizeof(*mine));
	for (int i = 0; i < s->nr_mine; i++)
		mine[s->key[i] >> s->shift]++;
	for (int i = 0; i < IS_CHECKS; i++) {
		int at = (int)s->class->check[i].index - s->first;

		if (at >= 0 && at < s->nr_mine)
			mine[BUCKETS + i] = s->key[at];
	}
	MPI_Iallreduce(mine, s->total, BUCKETS + IS_CHECKS, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
	await(&request);
}

/* Give each process buckets in order, with about as many keys as the others have. */
static void divide_buckets(struct sort *s)
{
	int rank = 0, sum = 0;

	s->bucket_begin[0] = 0;
	s->nr_lower = 0;
	for (int bucket = 0; bucket < BUCKETS; bucket++) {
		while (rank < nr_ranks - 1 && sum >= part_begin(s->nr_keys, rank + 1)) {
			s->bucket_begin[++rank] = bucket;
			if (rank == my_rank)
				s->nr_lower = sum;
		}
		sum += s->total[bucket];
	}
	while (rank < nr_ranks) {
		s->bucket_begin[++rank] = BUCKETS;
		if (rank == my_rank)
			s->nr_lower = sum;
	}
	s->value_begin = s->bucket_begin[my_rank] << s->shift;
	s->value_end = s->bucket_begin[my_rank + 1] << s->shift;
}

/* Send each key to the process that has its bucket. */
static void send_keys(struct sort *s, const int *mine)
{
	int at[BUCKETS], place = 0;
	MPI_Request request;

	for (int rank = 0; rank < nr_ranks; rank++) {
		s->sent_at[rank] = place;
		for (int bucket = s->bucket_begin[rank]; bucket < s->bucket_begin[rank + 1]; bucket++) {
			at[bucket] = place;
			place += mine[bucket];
		}
		s->sent_count[rank] = place - s->sent_at[rank];
	}
	for (int i = 0; i < s->nr_mine; i++)
		s->in_buckets[at[s->key[i] >> s->shift]++] = s->key[i];
	MPI_Ialltoall(s->sent_count, 1, MPI_INT, s->received_count, 1, MPI_INT, MPI_COMM_WORLD, &request);
	await(&request);
	s->nr_received = 0;
	for (int rank = 0; rank < nr_ranks; rank++) {
		s->received_at[rank] = s->nr_received;
		s->nr_received += s->received_count[rank];
	}
	if (s->nr_received > s->room) {
		free(s->received);
		/* Later iterations differ by a few keys. */
		s->room = s->nr_received + s->nr_received / 8 + 2 * IS_ITERATIONS;
		s->received = need_ints(s->room);
	}
	MPI_Ialltoallv(s->in_buckets, s->sent_count, s->sent_at, MPI_INT,
		       s->received, s->received_count, s->received_at, MPI_INT,
		       MPI_COMM_WORLD, &request);
	await(&request);
}

/* Key values to how many of this process's keys are smaller. */
static void rank_keys(struct sort *s)
{
	int sum = 0;

	memset(s->count + s->value_begin, 0, (s->value_end - s->value_begin) * sizeof(*s->count));
	for (int i = 0; i < s->nr_received; i++)
		s->count[s->received[i]]++;
	for (int value = s->value_begin; value < s->value_end; value++) {
		int here = s->count[value];

		s->count[value] = sum;
		sum += here;
	}
}

static void set_key(struct sort *s, int index, int key)
{
	if (index >= s->first && index < s->first + s->nr_mine)
		s->key[index - s->first] = key;
}

static void iterate(struct sort *s, int iteration)
{
	int mine[BUCKETS + IS_CHECKS];

	set_key(s, iteration, iteration);
	set_key(s, iteration + IS_ITERATIONS, s->max_key - iteration);
	count_buckets(s, mine);
	divide_buckets(s);
	send_keys(s, mine);
	rank_keys(s);
}

/* Of those keys whose ranks are known, each is looked at by the process that ranked it. */
static bool ranks_are_right(const struct sort *s, int iteration)
{
	for (int i = 0; i < IS_CHECKS; i++) {
		int key = s->total[BUCKETS + i];

		if (key >= s->value_begin && key < s->value_end &&
		    !is_rank_expected(s->class, i, iteration, s->nr_lower + s->count[key]))
			return false;
	}
	return true;
}

/* Put each key where its rank says; then they must be in order, here and from process to process. */
static bool sorts(struct sort *s)
{
	int *sorted = need_ints(s->nr_received);
	int last = -1, before = -1, all = 0;
	bool ordered = true;
	MPI_Request requests[2];

	for (int i = 0; i < s->nr_received; i++) {
		int place = s->count[s->received[i]]++;

		if (place < s->nr_received)
			sorted[place] = s->received[i];
		else
			ordered = false;
	}
	for (int i = 1; i < s->nr_received; i++)
		ordered &= sorted[i - 1] <= sorted[i];
	if (s->nr_received)
		last = sorted[s->nr_received - 1];
	MPI_Iexscan(&last, &before, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD, &requests[0]);
	MPI_Iallreduce(&s->nr_received, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &requests[1]);
	await(&requests[0]);
	await(&requests[1]);
	if (my_rank && s->nr_received)
		ordered &= before <= sorted[0];
	free(sorted);
	return ordered && all == s->nr_keys;
}

bool run_is(char name, struct result *result)
{
	const struct is_class *class = find_is_class(name);
	struct sort s = { .class = class };
	double began;

	if (!class)
		return false;
	s.nr_keys = 1 << class->log_keys;
	s.max_key = 1 << class->log_max;
	s.shift = class->log_max - LOG_BUCKETS;
	s.first = part_begin(s.nr_keys, my_rank);
	s.nr_mine = part_size(s.nr_keys, my_rank);
	s.key = need_ints(s.nr_mine);
	s.in_buckets = need_ints(s.nr_mine);
	s.count = need_ints(s.max_key);
	s.sent_count = need_ints(nr_ranks);
	s.sent_at = need_ints(nr_ranks);
	s.received_count = need_ints(nr_ranks);
	s.received_at = need_ints(nr_ranks);
	s.bucket_begin = need_ints(nr_ranks + 1);
	make_is_keys(class, (uint32_t *)s.key, s.first, s.first + s.nr_mine);

	/* Once untimed, so that all memory was touched and all connections were made. */
	iterate(&s, 1);
	result->verified = true;
	began = begin_time();
	for (int i = 1; i <= IS_ITERATIONS; i++) {
		iterate(&s, i);
		result->verified &= ranks_are_right(&s, i);
	}
	result->time_s = end_time(began);
	result->operations = (double)IS_ITERATIONS * s.nr_keys;
	result->verified &= sorts(&s);
	free(s.key);
	free(s.in_buckets);
	free(s.received);
	free(s.count);
	free(s.sent_count);
	free(s.sent_at);
	free(s.received_count);
	free(s.received_at);
	free(s.bucket_begin);
	return true;
}
