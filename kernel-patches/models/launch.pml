/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernels start and stop each other: the launch lock, the one trampoline that
 * all CPUs come through, and what a kernel leaves behind that is stopped, or
 * hangs, at any step of this; as kernel/popcorn/launch_lock.c, stop.c and load.c
 * and popcorn_arch_start() do it.
 *
 * Kernels 0 to 2 have a CPU each, of the same number.  Kernel 0 starts kernel 3
 * on CPU 3 and may stop kernel 1, kernel 1 may stop kernel 2 or kernel 0, and
 * kernel 2 may stop kernel 0.  The trampoline must never be written while a CPU
 * is in it or on its way there, and who is told of as ended executes nothing.
 *
 * INIT stops a CPU at once.  A CPU that was sent a SIPI comes through in its own
 * time.  A live holder of the lock that does not hang does a step within the
 * second that a thief waits; what waits for 10 s may give up at any time.
 *
 * Negative controls: NO_SETTLE looks for nothing that a dead holder left,
 * NO_STOPPING tells nobody of a stop that has begun, ONE_PASS proves the end of
 * one kernel while a CPU of another may be on its way, EAGER steals the lock from
 * who is about to stop the thief.
 */

#define NOBODY	9
#define KERNELS	4

/* Slots. */
#define NONE	0
#define STARTED	1
#define RUNNING	2
#define STOPPING 3
#define DEAD	4
mtype = { idle, coming, inside };

byte state[KERNELS];
byte loader = NOBODY;		/* of kernel 3 */
bit stage;			/* kernel 3 came out of the trampoline */
byte owner = NOBODY;		/* launch_owner */

/* CPUs. */
bit executes[KERNELS];		/* its kernel */
mtype at[KERNELS];		/* where it is, otherwise */
bit alive;			/* word in the trampoline: free again */

bit hung[KERNELS];
bit done[KERNELS];		/* with all that it was to do */
#define RUNS(k)	(executes[k] && !hung[k])

/* A CPU that got a SIPI.  INIT takes it back to idle, see init_cpu(). */
active [KERNELS] proctype cpu()
{
end:
	do
	:: atomic { at[_pid] == coming -> at[_pid] = inside }
	:: atomic { at[_pid] == inside ->
		at[_pid] = idle;
		alive = 1;
		if
		:: _pid == 3 && state[3] == STARTED -> executes[3] = 1; stage = 1
		:: else	/* it halts, or its kernel was ended */
		fi }
	od
}

inline init_cpu(n)
{
	d_step { executes[n] = 0; at[n] = idle }
}

/* fill_trampoline() and the SIPI. */
inline send(n)
{
	d_step {
		assert(at[0] == idle && at[1] == idle && at[2] == idle && at[3] == idle);
		alive = 0
	};
	at[n] = coming
}

/* popcorn_arch_start() with proof: a CPU that does not answer is taken back. */
inline halt_cpu(n)
{
	init_cpu(n);
	send(n);
	alive;
	init_cpu(n)
}

inline ended(n)
{
	d_step { assert(!executes[n] && at[n] == idle); state[n] = DEAD }
}

/* stop.c: popcorn_stop_begin() */
inline stop_begin(n)
{
	init_cpu(n);
#ifndef NO_STOPPING
	state[n] = STOPPING
#endif
}

/* stop.c: popcorn_stop_finish() */
inline stop_finish(n)
{
	halt_cpu(n);
	ended(n)
}

/* popcorn_launch_settle(): under the lock, before the trampoline is used. */
inline settle(dead)
{
#ifndef NO_SETTLE
	s = 0;
	do
	:: s < KERNELS ->
		if
		:: state[s] == STOPPING ->
			stop_begin(s);
#ifdef ONE_PASS
			stop_finish(s)
#endif
		:: s == 3 && state[s] == STARTED && loader == dead ->
			if
			:: stage
			:: !stage -> stop_begin(s)	/* it had its time */
			fi
		:: else
		fi;
		s++
	:: else -> break
	od;
	s = 0;
	do
	:: s < KERNELS ->
		if
		:: state[s] == STOPPING -> stop_finish(s)
		:: else
		fi;
		s++
	:: else -> break
	od;
	s = 0
#else
	skip
#endif
}

#define GONE(k)	(state[k] == DEAD)

#ifdef EAGER
#define STEAL(k) 1
#else
#define STEAL(k) !RUNS(k)
#endif

/* launch_lock.c: lock(); @victim NOBODY for a plain one. */
inline lock(victim)
{
	do
	:: atomic { owner == NOBODY -> owner = me }; break
	:: atomic { owner != NOBODY && owner != victim && GONE(owner) ->
		was = owner; owner = me };
	   settle(was);
	   was = 0;
	   break
	:: atomic { owner != NOBODY && owner == victim && (GONE(victim) || STEAL(victim)) ->
		owner = me };
	   break
	od
}

inline unlock()
{
	atomic {
		if
		:: owner == me -> owner = NOBODY
		:: else		/* it was taken away */
		fi
	}
}

/* popcorn_kexec_stop() */
inline stop(victim)
{
	lock(victim);
	if
	:: GONE(victim) || state[victim] == NONE -> settle(victim)
	:: else ->
		stop_begin(victim);
		settle(victim);
#if defined(NO_STOPPING) || defined(NO_SETTLE)
		stop_finish(victim)
#endif
	fi;
	unlock()
}

/* popcorn_kexec_start() */
inline start()
{
	lock(NOBODY);
	atomic { state[3] = STARTED; loader = me };
	init_cpu(3);
	send(3);
	alive;
	unlock()
}

/* What a kernel does stops with its CPU, or when it hangs. */
proctype kernel0() provided (RUNS(0))
{
	byte me = 0, s, was;

	start();
	if
	:: stop(1)
	:: true
	fi;
	done[me] = 1
}

proctype kernel1() provided (RUNS(1))
{
	byte me = 1, s, was;

	if
	:: stop(0)
	:: stop(2)
	fi;
	done[me] = 1
}

proctype kernel2() provided (RUNS(2))
{
	byte me = 2, s, was;

	if
	:: stop(0)
	:: stop(1)
	:: true
	fi;
	done[me] = 1
}

/* One of them hangs, at any step, or dies by itself, or none. */
proctype fate()
{
	if
	:: hung[0] = 1
	:: hung[1] = 1
	:: atomic { executes[0] && state[0] == RUNNING -> executes[0] = 0; state[0] = DEAD }
	:: atomic { executes[1] && state[1] == RUNNING -> executes[1] = 0; state[1] = DEAD }
	:: true
	fi
}

init
{
	atomic {
		at[0] = idle; at[1] = idle; at[2] = idle; at[3] = idle;
		executes[0] = 1; executes[1] = 1; executes[2] = 1;
		state[0] = RUNNING; state[1] = RUNNING; state[2] = RUNNING;
		run kernel0();
		run kernel1();
		run kernel2();
		run fate()
	}

	/*
	 * When nothing can happen any more: who runs is done, unless it waits for
	 * one that hangs.  Nothing is in the trampoline unless its owner left it
	 * there, and nobody who is told of as ended or being ended executes.
	 */
	timeout;
	assert(!RUNS(0) || done[0] || hung[owner % KERNELS]);
	assert(!RUNS(1) || done[1] || hung[owner % KERNELS]);
	assert(!RUNS(2) || done[2] || hung[owner % KERNELS]);
	assert(owner == NOBODY || !RUNS(owner));
	assert(state[0] != DEAD || !executes[0]);
	assert(state[3] != DEAD || !executes[3])
}
