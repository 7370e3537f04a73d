// SPDX-License-Identifier: GPL-2.0-only
/*
 * The writers of the stress test: they send numbered messages with contents that
 * tell whose they are, and die at random.
 */
#include "stress.h"

struct writer {
	pthread_t thread;
	u32 id;
	u64 seed;
	u32 rounds;
	bool dies;
};

static void fill(struct popcorn_msg_slot *slot, u32 id, u32 number, u32 len, int bulk)
{
	u32 i;

	slot->type = POPCORN_MSG_SINK;
	slot->flags = bulk >= 0 ? POPCORN_MSG_F_LONG : 0;
	slot->cookie = number;
	slot->len = len;
	slot->bulk = bulk;
	for (i = 0; bulk < 0 && i < len; i++)
		slot->data[i] = pattern(id, number, i);
}

/* Returns false if the writer died on the way, and left what it had. */
static bool send_one(struct writer *w, u32 gen)
{
	u32 r = one_in(&w->seed, 3), number, len, ticket, i;
	struct popcorn_msg_ring *ring = &inbox.ring[r];
	struct popcorn_msg_slot *slot;
	int bulk = -1, ret;

	number = published[w->id][r];
	len = next_random(&w->seed) % (POPCORN_MSG_INLINE + 1);
	if (one_in(&w->seed, 4)) {
		len += POPCORN_MSG_INLINE + 1;
		bulk = popcorn_cell_claim(inbox.bulk_word, POPCORN_MSG_BULKS, w->id, gen);
		if (bulk < 0) {
			sched_yield();
			return true;
		}
		for (i = 0; i < len; i++)
			inbox.bulk[bulk][i] = pattern(w->id, number, i);
	}
	if (w->dies && one_in(&w->seed, 50))
		return false;

	ret = popcorn_ring_claim(ring, w->id, gen, &ticket);
	if (ret == -EIO && !may_corrupt)
		fail("writer %u finds the ring corrupt", w->id);
	if (ret) {
		if (bulk >= 0)
			popcorn_cell_free(inbox.bulk_word, bulk, w->id, gen);
		sched_yield();
		return true;
	}
	pause_sometimes(&w->seed);
	if (w->dies && one_in(&w->seed, 50))
		return false;
	slot = popcorn_ring_slot(ring, ticket);
	if (!publish_first)
		fill(slot, w->id, number, len, bulk);
	pause_sometimes(&w->seed);
	if (w->dies && one_in(&w->seed, 50))
		return false;

	if (popcorn_ring_publish(ring, w->id, gen, ticket)) {
		published[w->id][r]++;
	} else {
		if (!may_corrupt)
			fail("ticket %u of writer %u, which lives, was taken away", ticket, w->id);
		if (bulk >= 0)
			popcorn_cell_free(inbox.bulk_word, bulk, w->id, gen);
	}
	pause_sometimes(&w->seed);
	if (publish_first)
		fill(slot, w->id, number, len, bulk);
	return true;
}

static void *write_all(void *arg)
{
	struct writer *w = arg;
	u32 gen = READ_ONCE(generation[w->id]);
	u32 i;

	for (i = 0; i < w->rounds; i++)
		if (!send_one(w, gen))
			/* Everything it did is over before others know. */
			__atomic_store_n(&generation[w->id], ++gen, __ATOMIC_RELEASE);
	return NULL;
}

/* All writers at once, until all have done their rounds. */
void write_in_threads(bool dies)
{
	struct writer writers[WRITERS];
	u32 i;

	for (i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) {
			.id = i + 1,
			.seed = (first_seed + 1) * 1000 + i,
			.rounds = dies ? ROUNDS : POPCORN_MSG_SLOTS,
			.dies = dies,
		};
		start(&writers[i].thread, write_all, &writers[i]);
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
}
