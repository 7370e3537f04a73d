// SPDX-License-Identifier: Apache-2.0
/*
 * CG among processes: each has some rows of the matrix and that part of all
 * vectors. For a product they collect the whole vector, and sums are added up.
 */
#include <math.h>
#include <mpi.h>
#include <stdlib.h>

#include "cg.h"
#include "parts.h"

struct system {
	struct matrix m;
	double *whole;		/* a vector of all processes */
	int *counts, *begins;	/* [rank] */
	double *x, *z, *p, *q, *r;	/* this process's parts */
};

static void add_all(double *sums, int count)
{
	MPI_Request request;

	MPI_Iallreduce(MPI_IN_PLACE, sums, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request);
	await(&request);
}

static double sum_of_all(double mine)
{
	add_all(&mine, 1);
	return mine;
}

static void collect(struct system *s, const double *mine)
{
	MPI_Request request;

	MPI_Iallgatherv(mine, s->m.rows, MPI_DOUBLE, s->whole, s->counts, s->begins,
			MPI_DOUBLE, MPI_COMM_WORLD, &request);
	await(&request);
}

/* Solve A z = x; returns the norm of the residual. */
static double solve(struct system *s)
{
	int rows = s->m.rows;
	double sum = 0, rho;

	for (int i = 0; i < rows; i++) {
		s->z[i] = 0;
		s->p[i] = s->r[i] = s->x[i];
		sum += s->x[i] * s->x[i];
	}
	rho = sum_of_all(sum);
	for (int step = 0; step < CG_STEPS; step++) {
		double alpha, beta, before = rho;

		collect(s, s->p);
		sum = 0;
		for (int i = 0; i < rows; i++) {
			s->q[i] = row_times(&s->m, i, s->whole);
			sum += s->p[i] * s->q[i];
		}
		alpha = rho / sum_of_all(sum);
		sum = 0;
		for (int i = 0; i < rows; i++) {
			s->z[i] += alpha * s->p[i];
			s->r[i] -= alpha * s->q[i];
			sum += s->r[i] * s->r[i];
		}
		rho = sum_of_all(sum);
		beta = rho / before;
		for (int i = 0; i < rows; i++)
			s->p[i] = s->r[i] + beta * s->p[i];
	}
	collect(s, s->z);
	sum = 0;
	for (int i = 0; i < rows; i++) {
		double error = s->x[i] - row_times(&s->m, i, s->whole);

		sum += error * error;
	}
	return sqrt(sum_of_all(sum));
}

/* One step of inverse iteration: x becomes z scaled to length 1. */
static double iterate(struct system *s, double shift)
{
	double sums[2] = { 0, 0 }, scale;

	solve(s);
	for (int i = 0; i < s->m.rows; i++) {
		sums[0] += s->x[i] * s->z[i];
		sums[1] += s->z[i] * s->z[i];
	}
	add_all(sums, 2);
	scale = 1 / sqrt(sums[1]);
	for (int i = 0; i < s->m.rows; i++)
		s->x[i] = scale * s->z[i];
	return shift + 1 / sums[0];
}

static void set_ones(struct system *s)
{
	for (int i = 0; i < s->m.rows; i++)
		s->x[i] = 1;
}

bool run_cg(char name, struct result *result)
{
	const struct cg_class *class = find_cg_class(name);
	struct system s;
	double *vectors, began, zeta = 0;
	int first, end;

	if (!class)
		return false;
	first = part_begin(class->order, my_rank);
	end = part_begin(class->order, my_rank + 1);
	make_matrix(&s.m, class, first, end);
	s.whole = need_memory((uint64_t)class->order * sizeof(*s.whole));
	s.counts = need_memory(nr_ranks * sizeof(*s.counts));
	s.begins = need_memory(nr_ranks * sizeof(*s.begins));
	for (int rank = 0; rank < nr_ranks; rank++) {
		s.begins[rank] = part_begin(class->order, rank);
		s.counts[rank] = part_size(class->order, rank);
	}
	vectors = need_memory((5ULL * s.m.rows + 1) * sizeof(*vectors));
	s.x = vectors;
	s.z = s.x + s.m.rows;
	s.p = s.z + s.m.rows;
	s.q = s.p + s.m.rows;
	s.r = s.q + s.m.rows;

	/* Once untimed, so that all memory was touched and all connections were made. */
	set_ones(&s);
	iterate(&s, class->shift);
	set_ones(&s);
	began = begin_time();
	for (int i = 0; i < class->iterations; i++)
		zeta = iterate(&s, class->shift);
	result->time_s = end_time(began);
	result->operations = cg_operations(class);
	result->verified = zeta_agrees(class, zeta);
	free(vectors);
	free(s.whole);
	free(s.counts);
	free(s.begins);
	free_matrix(&s.m);
	return true;
}
