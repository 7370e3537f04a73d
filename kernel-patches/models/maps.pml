/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of a dead kernel is given to another one only when nobody can write
 * to it any more: maps[] of the registry, as kernel/popcorn/peer.c and load.c
 * use it.
 *
 * Kernel N lives in memory 0, dies, and is loaded again into memory 1; another
 * loader gives memory 0 to a new kernel.  Kernel X sends to whatever life of N
 * it knows.  It must never write to memory that has passed on.
 *
 * Each statement that touches what is shared is a single access.  Assumed: the
 * order of stores of x86, so that only the store that a load follows, of maps[],
 * has to be modelled as one that comes late.
 *
 * Negative controls: with one of these macros something is missing, and spin
 * has to find an error.  NO_BEGIN_MB leaves out the barrier between maps[] and
 * the second look, NO_SECOND_LOOK that look, NO_SYNC does not wait for those that
 * are writing, NO_WAIT not for maps[]; RANGE_FIRST lets a slot forget what memory
 * it had before everybody let go of it.
 */

#define OTHER		9	/* a kernel that is no life of N */

/* The slot of N, and its entry in the registry. */
byte slot_generation = 1;
bit live = 1;
byte range = 0;			/* which memory it has */
bit joined = 1;
byte peer_generation = 1;

/* X's maps[N], and the store to it that is not in memory yet. */
byte maps;
byte maps_store;		/* 0: none, else the value + 1 */

byte holder[2];			/* whose inbox is in each memory: the life of N */
bit launch_lock;
bit died;

/* Private to X. */
byte remote;			/* life of N that it sends to, or 0 */
byte writing;			/* readers in RCU's sense */
bit mapped[3];			/* by life */

#define MEMORY(life)	((life) - 1)	/* life 1 in memory 0, life 2 in memory 1 */

active proctype store_buffer()
{
end:
	do
	:: d_step { maps_store; maps = maps_store - 1; maps_store = 0 }
	od
}

/* ------------------------------------------------------------ kernel X -- */

/* joined_generation() */
inline look()
{
	seen = 0;
	if
	:: joined ->
		seen = peer_generation;
		if :: !joined -> seen = 0 :: else fi;
		if :: seen && !live -> seen = 0 :: else fi;
		if :: seen && slot_generation != seen -> seen = 0 :: else fi
	:: else
	fi
}

inline begin_use()
{
	d_step { !maps_store; maps_store = life + 1 };
#ifndef NO_BEGIN_MB
	!maps_store;
#endif
#ifndef NO_SECOND_LOOK
	look()
#endif
}

inline end_use()
{
	/* A release: behind all that was written. */
	d_step { !maps_store; maps_store = 1 }
}

/* scan(), each time that something changed. */
proctype scanner()
{
	byte seen, life;

	do
	:: look();
	   life = seen;
	   if
	   :: remote != 0 && remote != life ->
		d_step { seen = remote; remote = 0 };
#ifndef NO_SYNC
		writing == 0;		/* synchronize_rcu() */
#endif
		mapped[seen] = 0;
		end_use()
	   :: else
	   fi;
	   if
	   :: remote == 0 && life ->
		seen = life;
		begin_use();
		if
		:: seen == life ->
			mapped[life] = 1;
			remote = life
		:: else -> end_use()
		fi
	   :: else
	   fi;
end:	   /* Nothing to do until then. */
	   (remote == 1 && (died || !joined || !live || slot_generation != 1)) ||
	   (remote == 0 && joined && live && slot_generation == peer_generation)
	od
}

proctype sender()
{
	byte life;
	byte times;

	do
	:: times < 2 ->
		atomic { times++; writing++ };	/* rcu_read_lock() */
		life = remote;
		if
		:: life ->
			d_step { assert(mapped[life] && holder[MEMORY(life)] == life) };
			d_step { assert(mapped[life] && holder[MEMORY(life)] == life) }
		:: else
		fi;
		atomic { writing--; life = 0 }
	:: else -> break
	od
}

/* ------------------------------------------------------ N and its loaders -- */

proctype fate()
{
	atomic { live = 0; died = 1 }
}

/* popcorn_peer_evict() */
inline evict()
{
#ifndef NO_WAIT
	maps == 0
#else
	skip
#endif
}

/* Loads N again, elsewhere. */
proctype reloads()
{
	died;
	d_step { !launch_lock; launch_lock = 1 };
	slot_generation = 2;
#ifdef RANGE_FIRST
	range = 1;
	joined = 0;
	launch_lock = 0;
	evict();
#else
	joined = 0;
	evict();
	range = 1;
	launch_lock = 0;
#endif
	live = 1;
	/* The new life runs, and joins. */
	holder[1] = 2;
	peer_generation = 2;
	joined = 1
}

/* Loads another kernel into what N had. */
proctype takes_over()
{
	bit free;

	died;
	d_step { !launch_lock; launch_lock = 1 };
	/* check_memory() */
	free = (range != 0 || !live);
	if
	:: free && range == 0 -> evict()
	:: else
	fi;
	launch_lock = 0;
	if
	:: free -> holder[0] = OTHER
	:: else
	fi
}

init
{
	atomic {
		holder[0] = 1;
		run scanner();
		run sender();
		run fate();
		run reloads();
		run takes_over()
	}

	/* When nothing can happen any more, X sends to the life that is there. */
	timeout;
	assert(remote == 2 && maps == 2 && holder[0] == OTHER);
}
