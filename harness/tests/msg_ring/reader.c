// SPDX-License-Identifier: GPL-2.0-only
/* The reader of the stress test: it judges each message. */
#include "stress.h"

static pthread_t reader;
static bool reading;

static bool is_gone(u32 id, u32 gen)
{
	if (!id || id > WRITERS || skip_live)
		return true;
	return (__atomic_load_n(&generation[id], __ATOMIC_ACQUIRE) ^ gen) & 0xffff;
}

/* What is wrong with a message; NULL if nothing. */
static const char *judge(const struct popcorn_msg_slot *slot, u32 r)
{
	u32 from = popcorn_word_owner(slot->word), gen = popcorn_word_generation(slot->word);
	const u8 *data = slot->data;
	u32 i;

	if (!from || from > WRITERS || slot->type != POPCORN_MSG_SINK)
		return "nobody's message";
	if (slot->flags & POPCORN_MSG_F_LONG) {
		if (slot->len > POPCORN_MSG_MAX || slot->bulk >= POPCORN_MSG_BULKS ||
		    !popcorn_cell_owned(inbox.bulk_word, slot->bulk, from, gen))
			return "a cell of somebody else";
		data = inbox.bulk[slot->bulk];
	} else if (slot->len > POPCORN_MSG_INLINE) {
		return "an impossible length";
	}
	if (slot->cookie != received[from][r] && !may_corrupt)
		return "a message out of order";
	for (i = 0; i < slot->len; i++)
		if (data[i] != pattern(from, slot->cookie, i))
			return "a torn message";
	return NULL;
}

static void take(u32 r, u64 word)
{
	u32 from = popcorn_word_owner(word), gen = popcorn_word_generation(word);
	struct popcorn_msg_slot slot;
	const char *wrong;

	memcpy(&slot.type, &popcorn_ring_slot(&inbox.ring[r], heads[r])->type,
	       sizeof(slot) - offsetof(struct popcorn_msg_slot, type));
	slot.word = word;
	wrong = judge(&slot, r);
	if (wrong && !may_corrupt)
		fail("ring %u, ticket %u, from %u: %s", r, heads[r], from, wrong);
	if (!wrong)
		received[from][r] = slot.cookie + 1;
	else
		corrupt++;
	if (slot.flags & POPCORN_MSG_F_LONG && slot.bulk < POPCORN_MSG_BULKS)
		popcorn_cell_free(inbox.bulk_word, slot.bulk, from, gen);
	if (!popcorn_ring_free(&inbox.ring[r], heads[r], word) && !may_corrupt)
		fail("ring %u, ticket %u changed while it was read", r, heads[r]);
	WRITE_ONCE(heads[r], heads[r] + 1);
}

/* Returns false if there was nothing to do. */
static bool read_one(u32 r)
{
	u64 word;

	switch (popcorn_ring_peek(&inbox.ring[r], heads[r], &word)) {
	case POPCORN_PEEK_READY:
		take(r, word);
		return true;
	case POPCORN_PEEK_CLAIMED:
		if (!is_gone(popcorn_word_owner(word), popcorn_word_generation(word)))
			return false;
		if (popcorn_ring_free(&inbox.ring[r], heads[r], word)) {
			WRITE_ONCE(heads[r], heads[r] + 1);
			skipped++;
		}
		return true;
	case POPCORN_PEEK_CORRUPT:
		if (!may_corrupt)
			fail("ring %u, ticket %u: word %llx", r, heads[r], (unsigned long long)word);
		corrupt++;
		if (popcorn_ring_free(&inbox.ring[r], heads[r], word))
			WRITE_ONCE(heads[r], heads[r] + 1);
		return true;
	case POPCORN_PEEK_EMPTY:
		break;
	}
	if (popcorn_ring_mend_tail(&inbox.ring[r], heads[r]) && !may_corrupt)
		fail("ring %u: the hint was past ticket %u", r, heads[r]);
	if (popcorn_ring_skip_gap(&inbox.ring[r], heads[r])) {
		if (!may_corrupt)
			fail("ring %u: ticket %u was left out", r, heads[r]);
		corrupt++;
		WRITE_ONCE(heads[r], heads[r] + 1);
		return true;
	}
	return false;
}

/* Cells of those that died, unless what lies in them can still be read. */
void sweep(void)
{
	static u64 suspect[POPCORN_MSG_BULKS];
	u32 looks, corrupt = 0;

	for (looks = 0; looks < 2; looks++)
		corrupt += popcorn_cells_sweep(inbox.bulk_word, suspect, POPCORN_MSG_BULKS, inbox.ring, RINGS,
					       is_gone);
	if (corrupt && !may_corrupt)
		fail("%u cells have words that cannot be", corrupt);
}

static void *read_all(void *arg)
{
	u32 r, idle = 0;

	(void)arg;
	for (;;) {
		bool more = __atomic_load_n(&reading, __ATOMIC_ACQUIRE), any = false;

		for (r = 0; r < RINGS; r++)
			any |= read_one(r);
		if (any)
			continue;
		if (!more)
			return NULL;
		if (++idle % 64 == 0)
			sweep();
		sched_yield();
	}
}

void start_reader(void)
{
	reading = true;
	start(&reader, read_all, NULL);
}

/* Until all that was published is taken. */
void stop_reader(void)
{
	__atomic_store_n(&reading, false, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
}
