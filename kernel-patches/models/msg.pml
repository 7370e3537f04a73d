/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ring of an inbox, its notification, and the death of writers, as
 * include/popcorn/msg_ring.h and the reader and writer around it do them.
 *
 * Each step has the name it has there:
 *
 *	writer	CLAIM, FILL, PUBLISH, NOTIFY
 *	reader	TAKE, FREE, SKIP, ARM, RECHECK
 *
 * and is cut into its single accesses of shared memory: what stands in one
 * d_step is one access and what the CPU does with it.  Everything can happen
 * between two of them, the end of the writer included.
 *
 * Assumed: the order of stores of x86, so that only a plain store with a load
 * behind it has to be modelled as one that comes late; and that a death is
 * noticed at some time.  Left out: the second ring, the budget of the reader,
 * and hostile contents, for which there are other tests.
 *
 * Negative controls: with one of these macros something is missing, and spin
 * has to find an error: PUBLISH_FIRST, TAIL_FIRST, SKIP_LIVE, NO_RECHECK,
 * NO_MB, NO_RESCUE; with POLLER also TRYLOCK and NO_AWAIT_END; with BULK also
 * NO_SWEEP and SWEEP_ALL.
 */

#ifndef SLOTS
#define SLOTS		2
#endif
#ifndef WRITERS
#define WRITERS		2
#endif
#ifndef MESSAGES
#define MESSAGES	2	/* of each writer, over all its lives */
#endif
#ifndef DEATHS
#define DEATHS		1	/* of all writers together */
#endif

#define WORD_FREE	0	/* POPCORN_WORD_* */
#define WORD_CLAIMED	1
#define WORD_READY	2

/* The ring, in memory that all share. */
byte tail;
byte ticket[SLOTS], state[SLOTS], owner[SLOTS], gen[SLOTS];	/* the word */
byte first[SLOTS], last[SLOTS];			/* the message: torn if they differ */
bit armed = 1;

/* The registry. */
bit joined[WRITERS] = 1, live[WRITERS] = 1;
byte generation[WRITERS] = 1;

/* Private to the reader's kernel. */
byte head;
bit scheduled;		/* the tasklet, from the moment that its IPI is sent */
bit arming;		/* WRITE_ONCE(armed, 1) is still in the store buffer */
#if defined(POLLER) || defined(BULK)
#define LOCKS
bit locked;		/* reader_lock */
#endif
#ifdef POLLER
byte awaiting;
bit disarming;		/* WRITE_ONCE(armed, 0) is in the poller's store buffer */
#endif

#ifdef BULK
/* One cell, so that writers fight for it; each message lies in it. */
bit cell_claimed;
byte cell_owner, cell_gen;
byte cell_first, cell_last;
#endif

/* Known to the model alone. */
byte published[WRITERS], taken[WRITERS];
bit done[WRITERS];
byte deaths;

#define AT(t)		((t) % SLOTS)
#define MESSAGE		(w * 16 + sent + 1)
#define EXPECTED(w)	((w) * 16 + taken[w] + 1)

/* ------------------------------------------------------------- writer -- */

/*
 * Writers differ in their numbers alone, and nothing that is asserted tells one
 * number from another: where only one dies, let it be the first.
 */
#define MORTAL(w)	(DEATHS > 1 || (w) == 0)

/* One access of a writer, unless it dies before. */
#define STEP(...)						\
	if							\
	:: d_step { __VA_ARGS__ }				\
	:: atomic { MORTAL(w) && deaths < DEATHS -> deaths++; goto died }	\
	fi

/* A hint: whoever fails was overtaken. */
#define MOVE_TAIL(from, to)	if :: tail == (from) -> tail = (to) :: else fi

/* In full it waits for what would make it try again, and nobody's help. */
inline CLAIM()
{
	STEP(t = tail);
	do
	:: STEP(seen_ticket = ticket[AT(t)]; free = (state[AT(t)] == WORD_FREE));
	   if
	   :: seen_ticket == t && free ->
#ifdef TAIL_FIRST
		STEP(MOVE_TAIL(t, t + 1));
#endif
		STEP(
			got = (ticket[AT(t)] == t && state[AT(t)] == WORD_FREE);
			if
			:: got ->
				state[AT(t)] = WORD_CLAIMED;
				owner[AT(t)] = w;
				gen[AT(t)] = life
			:: else
			fi
		);
		if
		:: got ->
#ifndef TAIL_FIRST
			STEP(MOVE_TAIL(t, t + 1));
#endif
			break
		:: else
		fi
	   :: seen_ticket < t ->
		STEP(
			got = (tail != t);
			if :: got -> t = tail :: else fi
		);
		if
		:: !got -> STEP(ticket[AT(t)] >= t || tail != t; t = tail)
		:: else
		fi
	   :: seen_ticket == t && !free ->
		STEP(MOVE_TAIL(t, t + 1); t++)
	   :: seen_ticket > t ->
		STEP(MOVE_TAIL(t, seen_ticket - SLOTS + 1); t = seen_ticket - SLOTS + 1)
	   fi
	od
}

#ifdef PUBLISH_FIRST
#define FILL_PUBLISHES	1	/* the message counts when both are done */
#else
#define FILL_PUBLISHES	0
#endif

inline FILL()
{
	STEP(first[AT(t)] = MESSAGE);
	STEP(last[AT(t)] = MESSAGE; sent = sent + FILL_PUBLISHES)
}

inline PUBLISH()
{
	STEP(
		/* Nobody takes a slot from one that lives. */
		assert(ticket[AT(t)] == t && state[AT(t)] == WORD_CLAIMED &&
		       owner[AT(t)] == w && gen[AT(t)] == life);
		state[AT(t)] = WORD_READY;
		sent = sent + 1 - FILL_PUBLISHES
	)
}

inline NOTIFY()
{
	STEP(got = armed);
	if
	:: got ->
		STEP(got = armed; armed = 0);
		if
		:: got -> STEP(scheduled = 1)	/* the IPI */
		:: else
		fi
	:: else
	fi
}

/* Before CLAIM: a cell for the payload, and the payload. */
inline claim_cell()
{
	STEP(!cell_claimed; cell_claimed = 1; cell_owner = w; cell_gen = life);
	STEP(cell_first = MESSAGE);
	STEP(cell_last = MESSAGE)
}

/*
 * popcorn_cells_sweep(), in the reader's kernel: a cell is free again if no
 * message that can still be read lies in it.
 */
inline sweep()
{
	d_step { !locked; locked = 1; got = 0; t = 0 };
	do
	:: t < SLOTS ->
#ifndef SWEEP_ALL
		d_step {
			if
			:: state[t] == WORD_READY && owner[t] == w && gen[t] == life -> got = 1
			:: else
			fi
		};
#endif
		t++
	:: else -> break
	od;
	atomic {
#ifndef NO_SWEEP
		if
		:: !got && cell_claimed && cell_owner == w && cell_gen == life ->
			cell_claimed = 0;
			cell_owner = 0;
			cell_gen = 0
		:: else
		fi;
#endif
		locked = 0;
		t = 0
	}
}

/* A kernel that sends, and its fate. */
proctype writer(byte w)
{
	byte life = 1, sent, t, seen_ticket;
	bit got, free;

alive:
	do
	:: sent < MESSAGES ->
#ifdef BULK
		claim_cell();
#endif
		CLAIM();
#ifdef PUBLISH_FIRST
		PUBLISH();
		FILL();
#else
		FILL();
		PUBLISH();
#endif
		NOTIFY()
	:: else -> break
	od;
	goto out;

died:
	/* Somebody finds it dead, at last. */
	live[w] = 0;
#ifndef NO_RESCUE
	/* Attention, or the tick. */
#ifdef BULK
	sweep();
#endif
	scheduled = 1;
#endif
	if
	:: skip
	:: /* The next life, in the order in which loader and kernel tell of it. */
	   generation[w]++;
	   joined[w] = 0;
	   live[w] = 1;
	   atomic { joined[w] = 1; life++; goto alive }
	fi;
out:
	atomic { published[w] = sent; done[w] = 1 }
}

/* ------------------------------------------------------------- reader -- */

/* popcorn_ring_peek() */
inline peek()
{
	d_step {
		seen_ticket = ticket[AT(head)];
		seen_state = state[AT(head)];
		seen_owner = owner[AT(head)];
		seen_gen = gen[AT(head)];
		/* There is no corruption where all are honest. */
		assert(seen_ticket == head)
	}
}

/* Each once, in order, and whole. */
inline TAKE()
{
	d_step { assert(first[AT(head)] == EXPECTED(seen_owner)) };
#ifdef BULK
	d_step { assert(last[AT(head)] == EXPECTED(seen_owner)) };
	d_step {
		assert(cell_claimed && cell_owner == seen_owner && cell_gen == seen_gen);
		assert(cell_first == EXPECTED(seen_owner))
	};
	d_step { assert(cell_last == EXPECTED(seen_owner)); taken[seen_owner]++ };
	d_step {
		assert(cell_claimed && cell_owner == seen_owner && cell_gen == seen_gen);
		cell_claimed = 0;
		cell_owner = 0;
		cell_gen = 0
	}
#else
	d_step { assert(last[AT(head)] == EXPECTED(seen_owner)); taken[seen_owner]++ }
#endif
}

/* The compare-and-exchange that ends TAKE and SKIP. */
inline FREE()
{
	d_step {
		got = (ticket[AT(head)] == seen_ticket && state[AT(head)] == seen_state &&
		       owner[AT(head)] == seen_owner && gen[AT(head)] == seen_gen);
		if
		:: got ->
			ticket[AT(head)] = head + SLOTS;
			state[AT(head)] = WORD_FREE;
			owner[AT(head)] = 0;
			gen[AT(head)] = 0;
			/* So that there are fewer states; nobody expects them. */
			first[AT(head)] = 0;
			last[AT(head)] = 0;
			head++
		:: else
		fi
	}
}

/* popcorn_peer_gone() is three looks, between which all can change. */
inline SKIP()
{
#ifdef SKIP_LIVE
	gone = 1;
#else
	gone = !joined[seen_owner];
	if :: !gone -> gone = !live[seen_owner] :: else fi;
	if :: !gone -> gone = (generation[seen_owner] != seen_gen) :: else fi;
#endif
	if
	:: gone -> FREE()
	:: else
	fi
}

/* Until there is nothing more to read; with the lock. */
inline read_some()
{
	do
	:: peek();
	   if
	   :: seen_state == WORD_FREE -> break
	   :: seen_state == WORD_READY ->
		TAKE();
		FREE();
		assert(got)
	   :: seen_state == WORD_CLAIMED ->
		SKIP();
		if
		:: !gone -> break
		:: else
		fi
	   fi
	od
}

/* popcorn_ring_mend_tail(): never further than what was claimed. */
inline mend_tail()
{
	seen_tail = tail;
	if
	:: seen_tail == head
	:: else ->
		d_step {
			got = (ticket[AT(head)] == head && state[AT(head)] == WORD_FREE);
			assert(!got || seen_tail < head)
		};
		if
		:: got -> d_step { MOVE_TAIL(seen_tail, head) }
		:: else
		fi
	fi
}

inline ARM()
{
	arming = 1;
#ifndef NO_MB
	!arming		/* smp_mb() */
#endif
}

inline RECHECK()
{
#ifdef NO_RECHECK
	got = 0;
#else
	d_step { got = (state[AT(head)] == WORD_READY) };
#endif
	if
	:: got -> d_step { !arming; armed = 0 }	/* xchg() */
	:: else
	fi
}

/* With the lock; got afterwards: something is ready, and nobody would tell. */
inline arm()
{
	mend_tail();
	ARM();
	RECHECK()
}

/* The tasklet. */
active proctype reader()
{
	byte seen_ticket, seen_state, seen_owner, seen_gen, seen_tail;
	bit got, gone;

end:
	do
	:: d_step { scheduled; scheduled = 0 };
#ifdef TRYLOCK
	   if
	   :: locked -> goto end
	   :: d_step { !locked; locked = 1 }
	   fi;
#elif defined(LOCKS)
	   d_step { !locked; locked = 1 };
#endif
	   do
	   :: read_some();
#ifdef POLLER
	      if
	      :: awaiting -> break
	      :: else
	      fi;
#endif
	      arm();
	      if
	      :: !got -> break
	      :: else
	      fi
	   od;
#ifdef LOCKS
	   locked = 0
#endif
	od
}

/* The reader's CPU writes to memory later what it stored. */
active proctype store_buffer()
{
end:
	do
	:: d_step { arming; armed = 1; arming = 0 }
#ifdef POLLER
	:: d_step { disarming; armed = 0; disarming = 0 }
#endif
	od
}

#ifdef POLLER
/* popcorn_msg_poll() */
inline poll()
{
	if
	:: d_step { !locked; locked = 1 };
	   read_some();
	   locked = 0
	:: locked
	fi
}

/*
 * Another CPU of the reader's kernel that reads by itself: because it waits for
 * room in an inbox, or for an answer.
 */
active proctype poller()
{
	byte seen_ticket, seen_state, seen_owner, seen_gen, seen_tail;
	bit got, gone, last_one;

	if
	:: poll()
	:: /* popcorn_msg_await_begin() */
	   awaiting++;
	   disarming = 1;
	   poll();
	   /* popcorn_msg_await_end(): its atomic access is a barrier */
	   d_step { !disarming; awaiting--; last_one = (awaiting == 0) };
#ifndef NO_AWAIT_END
	   if
	   :: last_one ->
		if
		:: d_step { !locked; locked = 1 };
		   arm();
		   locked = 0
		:: locked -> got = 1
		fi;
		if
		:: got -> scheduled = 1
		:: else
		fi
	   :: else
	   fi
#endif
	fi
}
#endif

/* ------------------------------------------------------------ the end -- */

init
{
	byte i;

	atomic {
		for (i : 0 .. SLOTS - 1) {
			ticket[i] = i
		}
		for (i : 0 .. WRITERS - 1) {
			run writer(i)
		}
	}

	/* When nothing can happen any more ... */
	timeout;
	atomic {
		/* ... nobody waits, but the reader for the next message, armed. */
		assert(!scheduled && armed);
#ifdef LOCKS
		assert(!locked);
#endif
#ifdef POLLER
		assert(awaiting == 0);
#endif
		for (i : 0 .. WRITERS - 1) {
			assert(done[i] && taken[i] == published[i])
		}
		/* All slots can be claimed again. */
		for (i : 0 .. SLOTS - 1) {
			assert(state[AT(head + i)] == WORD_FREE && ticket[AT(head + i)] == head + i)
		}
		assert(tail <= head);
#ifdef BULK
		assert(!cell_claimed)
#endif
	}
}
