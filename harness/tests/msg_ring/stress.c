// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads in place of kernels use the rings of an inbox, through the kernel's
 * own header.
 *
 *	stress honest SEED		writers die at random; nothing is lost or torn
 *	stress corrupt SEED		a thread overwrites the rings; some time after
 *					it stopped all is well again
 *	stress skip-live SEED		two mistakes on purpose, of the reader and
 *	stress publish-first SEED	of the writers, which must be found
 *
 * Exit status 0 with what happened on stdout, or 1 with what is wrong on stderr.
 */
#include <signal.h>
#include <stdlib.h>
#include "stress.h"

#define CORRUPTIONS	50000
#define FAR_LIFE	0x3000		/* no bit flipped in a former one gives it */
#define DEADLINE_S	120		/* for a loop that does not end */

bool may_corrupt, skip_live, publish_first;
u64 first_seed;
struct popcorn_inbox inbox __attribute__((aligned(4096)));
u32 generation[WRITERS + 1];
u32 published[WRITERS + 1][RINGS], received[WRITERS + 1][RINGS];
u32 heads[RINGS];
u32 skipped, corrupt;

void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	if (pthread_create(thread, NULL, run, arg))
		fail("no thread");
}

/* What a kernel that went wrong may write: anything, or nearly the right thing. */
static void *corrupt_all(void *arg)
{
	u64 seed = (first_seed + 1) * 1000 + 999;
	u32 i;

	(void)arg;
	for (i = 0; i < CORRUPTIONS; i++) {
		struct popcorn_msg_ring *ring = &inbox.ring[one_in(&seed, 2)];
		struct popcorn_msg_slot *slot = &ring->slot[next_random(&seed) % POPCORN_MSG_SLOTS];

		switch (next_random(&seed) % 6) {
		case 0:
			WRITE_ONCE(ring->tail, next_random(&seed));
			break;
		case 1:
			WRITE_ONCE(ring->tail, READ_ONCE(ring->tail) + next_random(&seed) % 512 - 256);
			break;
		case 2:
			WRITE_ONCE(slot->word, (u64)next_random(&seed) << 32 | next_random(&seed));
			break;
		case 3:
			WRITE_ONCE(slot->word, READ_ONCE(slot->word) ^ 1ULL << next_random(&seed) % 64);
			break;
		case 4:
			WRITE_ONCE(slot->word, READ_ONCE(slot->word) +
				   ((u64)(next_random(&seed) % 512 - 256) << 32));
			break;
		case 5:
			WRITE_ONCE(slot->len, next_random(&seed));
			WRITE_ONCE(slot->bulk, next_random(&seed) % 32);
			WRITE_ONCE(slot->flags, next_random(&seed));
			break;
		}
		if (one_in(&seed, 8))
			sched_yield();
	}
	return NULL;
}

static void corrupt_and_recover(void)
{
	u32 before[RINGS], id, r;
	pthread_t thread;

	may_corrupt = true;
	start_reader();
	start(&thread, corrupt_all, NULL);
	write_in_threads(true);
	pthread_join(thread, NULL);

	/* A forged claim holds its ring until the owner that it names is gone. */
	for (id = 1; id <= WRITERS; id++)
		__atomic_add_fetch(&generation[id], FAR_LIFE, __ATOMIC_RELEASE);
	/* Twice around, and each slot has been in the hands of the reader. */
	for (r = 0; r < RINGS; r++)
		before[r] = READ_ONCE(heads[r]);
	for (r = 0; r < RINGS; r++)
		while (READ_ONCE(heads[r]) - before[r] < 2 * POPCORN_MSG_SLOTS)
			write_in_threads(false);
	stop_reader();
	may_corrupt = false;
	memcpy(received, published, sizeof(received));
}

static void check_all_is_well(void)
{
	u32 id, r, i;

	sweep();
	for (r = 0; r < RINGS; r++) {
		for (id = 1; id <= WRITERS; id++)
			if (received[id][r] != published[id][r])
				fail("ring %u, writer %u: %u published, %u received", r, id,
				     published[id][r], received[id][r]);
		for (i = heads[r]; i != heads[r] + POPCORN_MSG_SLOTS; i++)
			if (popcorn_ring_slot(&inbox.ring[r], i)->word !=
			    popcorn_word(POPCORN_WORD_FREE, 0, 0, i))
				fail("ring %u: the slot of ticket %u is lost", r, i);
		if ((s32)(inbox.ring[r].tail - heads[r]) > 0)
			fail("ring %u: the hint is past ticket %u", r, heads[r]);
	}
	for (i = 0; i < POPCORN_MSG_BULKS; i++)
		if (inbox.bulk_word[i] != popcorn_word(POPCORN_WORD_FREE, 0, 0, 0))
			fail("cell %u is lost", i);
}

/* Tickets that wrap soon. */
static void init_rings(void)
{
	const u32 ticket = -4 * POPCORN_MSG_SLOTS;
	u32 r, i;

	for (r = 0; r < RINGS; r++) {
		popcorn_ring_init(&inbox.ring[r]);
		for (i = 0; i < POPCORN_MSG_SLOTS; i++)
			inbox.ring[r].slot[i].word += (u64)ticket << 32;
		inbox.ring[r].tail = ticket;
		heads[r] = ticket;
	}
}

static void too_long(int signal)
{
	static const char text[] = "stress: something waits or loops for ever\n";

	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

int main(int argc, char **argv)
{
	const char *mode = argc == 3 ? argv[1] : "";

	first_seed = argc == 3 ? strtoul(argv[2], NULL, 0) : 0;
	skip_live = !strcmp(mode, "skip-live");
	publish_first = !strcmp(mode, "publish-first");
	if (!skip_live && !publish_first && strcmp(mode, "honest") && strcmp(mode, "corrupt"))
		fail("expected honest, corrupt, skip-live or publish-first, and a seed");
	signal(SIGALRM, too_long);
	alarm(DEADLINE_S);
	init_rings();

	if (!strcmp(mode, "corrupt"))
		corrupt_and_recover();
	start_reader();
	write_in_threads(true);
	stop_reader();
	check_all_is_well();
	printf("{\"received\": %u, \"skipped\": %u, \"corrupt\": %u}\n",
	       heads[0] + heads[1] + 8 * POPCORN_MSG_SLOTS - skipped - corrupt, skipped, corrupt);
	return 0;
}
