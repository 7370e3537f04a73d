/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What memory a kernel has is read by others while it changes: range_seq of its
 * slot, as kernel/popcorn/owned.c uses it.
 *
 * A kernel has memory A all the time.  It gets X before that, so that A moves from
 * the first place of its list to the second; it may die at any step of this.  Who
 * writes the slot next gets Y in the place of X.  Nobody who reads the list, with
 * the launch lock or without, may find it without A, which could be given away
 * then, or an inbox in it taken for none.
 *
 * Each statement that touches what is shared is a single access.  Assumed: the
 * order of stores, and that of loads, of x86.
 *
 * Negative controls: NO_ODD does not tell that the list is being written, NO_AGAIN
 * does not look again, EVEN makes an odd count even by beginning to write, TORN
 * uses what it read though its writer came to no end.
 */

#define A	1
#define X	2
#define Y	3
#define TRIES	2

/* The slot. */
byte seq;
byte nr = 1;
byte first = A;
byte second;

bit dead;			/* the kernel, at any step */
bit told;			/* or it came to the end */

/* popcorn_tell_memory() */
inline tell(new)
{
#ifdef EVEN
	s = seq + 1;
#else
	s = (seq % 2 -> seq : seq + 1);
#endif
#ifndef NO_ODD
	seq = s;
#endif
	first = new;
	second = A;
	nr = 2;
	seq = s + 1
}

proctype owner() provided (!dead)
{
	byte s;

	tell(X);
	told = 1
}

proctype fate()
{
	dead = 1
}

/* Under the launch lock, which it took from the other if that died. */
proctype next()
{
	byte s;

	dead || told;
	tell(Y)
}

/* popcorn_told_memory() */
proctype reader()
{
	byte s, n, one, two, tries;
	bit found;

	do
	:: tries < TRIES ->
		tries++;
		s = seq;
		if
		:: s % 2
		:: else ->
			n = nr;
			one = first;
			two = second;
#ifdef NO_AGAIN
			found = 1;
			break
#else
			if
			:: seq == s -> found = 1; break
			:: else
			fi
#endif
		fi
	:: else -> break
	od;
#ifdef TORN
	if
	:: !found -> n = nr; one = first; two = second; found = 1
	:: else
	fi;
#endif
	/* Else it may be anything, and is taken for all. */
	assert(!found || (n > 0 && one == A) || (n > 1 && two == A))
}

init
{
	atomic {
		run owner();
		run fate();
		run next();
		run reader();
		run reader()
	}

	/* When nothing can happen any more, whoever reads finds it. */
	timeout;
	assert(seq % 2 == 0 && nr == 2 && first == Y && second == A)
}
