// SPDX-License-Identifier: Apache-2.0
/* How processes divide what they work on: in order, as equal as can be. */
#ifndef NPB_PARTS_H
#define NPB_PARTS_H

#include <mpi.h>

#include "npb.h"

/* Who this process is, and among how many; set before any benchmark runs. */
extern int my_rank, nr_ranks;

/* Where the part of a rank begins; that of rank nr_ranks begins at the end. */
static inline int part_begin(int total, int rank)
{
	return (int64_t)total * rank / nr_ranks;
}

static inline int part_size(int total, int rank)
{
	return part_begin(total, rank + 1) - part_begin(total, rank);
}

/*
 * Wait for what a process takes part in, and sleep meanwhile: MPICH's own
 * waits never do, and a CPU that spins takes its time from one that works
 * where there are fewer real CPUs than processes.
 */
void await(MPI_Request *request);

/* Begin the time that counts, in all processes at once. */
double begin_time(void);

/* What it took the slowest one. */
double end_time(double began);

#endif /* NPB_PARTS_H */
