// SPDX-License-Identifier: Apache-2.0
/*
 * FT among processes: each has some planes of the grid, of equal z or of equal
 * y. They transform what lies in their planes; to transform along the axis
 * that is cut, all send each other the parts where their planes cross.
 */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "ft.h"
#include "parts.h"

struct grid {
	const int *n;
	uint64_t total;
	int z_begin, z_count, y_begin, y_count;	/* this process's planes */
	int *sent_count, *sent_at, *received_count, *received_at;	/* [rank], in doubles */
	struct axes axes;
	number *lines;		/* room for two times FT_LINES lines */
};

/* Transform all lines of @outer planes of @inner lines each. */
static void transform_planes(const struct grid *g, number *u, int axis, bool inverse, size_t step,
			     int inner, size_t inner_step, int outer, size_t outer_step)
{
	for (int plane = 0; plane < outer; plane++)
		for (int line = 0; line < inner; line += FT_LINES)
			transform_lines(u + plane * outer_step + line * inner_step, step, inner_step,
					g->n[axis], g->axes.root[axis], inverse, g->lines);
}

/* u is [z of this process][y][x]. */
static void transform_x(const struct grid *g, number *u, bool inverse)
{
	size_t row = g->n[0];

	transform_planes(g, u, 0, inverse, 1, g->n[1], row, g->z_count, row * g->n[1]);
}

/* Likewise. */
static void transform_y(const struct grid *g, number *u, bool inverse)
{
	size_t row = g->n[0];

	transform_planes(g, u, 1, inverse, row, g->n[0], 1, g->z_count, row * g->n[1]);
}

/* u is [y of this process][z][x]. */
static void transform_z(const struct grid *g, number *u, bool inverse)
{
	size_t row = g->n[0];

	transform_planes(g, u, 2, inverse, row, g->n[0], 1, g->y_count, row * g->n[2]);
}

/*
 * From [a of this process][b][x] to [b of this process][a][x]: what goes to
 * each process is put together in @to, and what comes from each lies in @from
 * before it is put where it belongs.
 */
static void transpose(const struct grid *g, number *from, number *to, int a_axis, int b_axis)
{
	size_t row = g->n[0];
	int nr_a = g->n[a_axis], nr_b = g->n[b_axis];
	int a_count = part_size(nr_a, my_rank), b_count = part_size(nr_b, my_rank);
	number *next = to;
	MPI_Request request;

	for (int rank = 0, sent = 0, received = 0; rank < nr_ranks; rank++) {
		int begin = part_begin(nr_b, rank), count = part_size(nr_b, rank);

		g->sent_at[rank] = sent;
		g->received_at[rank] = received;
		g->sent_count[rank] = 2 * row * a_count * count;
		g->received_count[rank] = 2 * row * b_count * part_size(nr_a, rank);
		sent += g->sent_count[rank];
		received += g->received_count[rank];
		for (int a = 0; a < a_count; a++, next += row * count)
			memcpy(next, from + (a * (size_t)nr_b + begin) * row, row * count * sizeof(*next));
	}
	MPI_Ialltoallv(to, g->sent_count, g->sent_at, MPI_DOUBLE,
		       from, g->received_count, g->received_at, MPI_DOUBLE,
		       MPI_COMM_WORLD, &request);
	await(&request);
	next = from;
	for (int rank = 0; rank < nr_ranks; rank++)
		for (int a = part_begin(nr_a, rank); a < part_begin(nr_a, rank + 1); a++)
			for (int b = 0; b < b_count; b++, next += row)
				memcpy(to + (b * (size_t)nr_a + a) * row, next, row * sizeof(*next));
}

static void make_grid(struct grid *g, const int *n)
{
	g->n = n;
	g->total = (uint64_t)n[0] * n[1] * n[2];
	g->z_begin = part_begin(n[2], my_rank);
	g->z_count = part_size(n[2], my_rank);
	g->y_begin = part_begin(n[1], my_rank);
	g->y_count = part_size(n[1], my_rank);
	g->sent_count = need_memory(4ULL * nr_ranks * sizeof(int));
	g->sent_at = g->sent_count + nr_ranks;
	g->received_count = g->sent_at + nr_ranks;
	g->received_at = g->received_count + nr_ranks;
	make_axes(&g->axes, n);
	g->lines = need_memory(2ULL * g->axes.longest * FT_LINES * sizeof(*g->lines));
}

/* Start from random values; the frequencies are in u, by y. */
static void start(const struct grid *g, number *u, number *w)
{
	fill_planes(g->n, w, g->z_begin, g->z_begin + g->z_count);
	transform_x(g, w, false);
	transform_y(g, w, false);
	transpose(g, w, u, 2, 1);
	transform_z(g, u, false);
}

/* One time step: damp each frequency of u; w gets a copy to transform. */
static void evolve(const struct grid *g, number *u, number *w)
{
	size_t at = 0;

	for (int y = 0; y < g->y_count; y++) {
		for (int z = 0; z < g->n[2]; z++) {
			double factor = g->axes.decay[2][z] * g->axes.decay[1][g->y_begin + y];

			for (int x = 0; x < g->n[0]; x++, at++) {
				u[at] *= factor * g->axes.decay[0][x];
				w[at] = u[at];
			}
		}
	}
}

/* From frequencies in w, by y, to values in v, by z. */
static void invert(const struct grid *g, number *w, number *v)
{
	transform_z(g, w, true);
	transpose(g, w, v, 1, 2);
	transform_y(g, v, true);
	transform_x(g, v, true);
}

static number checksum(const struct grid *g, const number *v)
{
	number sum = 0;
	double parts[2];
	MPI_Request request;

	for (int j = 1; j <= FT_POINTS; j++) {
		uint64_t x = j % g->n[0], y = 3 * j % g->n[1];
		int z = 5 * j % g->n[2] - g->z_begin;

		if (z >= 0 && z < g->z_count)
			sum += v[((uint64_t)z * g->n[1] + y) * g->n[0] + x];
	}
	parts[0] = creal(sum);
	parts[1] = cimag(sum);
	MPI_Iallreduce(MPI_IN_PLACE, parts, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request);
	await(&request);
	return CMPLX(parts[0], parts[1]) / g->total;
}

bool run_ft(char name, struct result *result)
{
	const struct ft_class *class = find_ft_class(name);
	struct grid g;
	uint64_t by_y, by_z, room;
	number *u, *w, *v;
	double began;

	if (!class)
		return false;
	make_grid(&g, class->n);
	by_z = (uint64_t)g.z_count * g.n[0] * g.n[1];
	by_y = (uint64_t)g.y_count * g.n[0] * g.n[2];
	room = (by_z > by_y ? by_z : by_y) + 1;
	u = need_memory(room * sizeof(*u));
	w = need_memory(room * sizeof(*w));
	v = need_memory(room * sizeof(*v));
	/* Once untimed, so that all memory was touched and all connections were made. */
	start(&g, u, w);
	evolve(&g, u, w);
	invert(&g, w, v);

	result->verified = true;
	began = begin_time();
	start(&g, u, w);
	for (int step = 0; step < class->steps; step++) {
		evolve(&g, u, w);
		invert(&g, w, v);
		result->verified &= checksum_agrees(class, step, checksum(&g, v));
	}
	result->time_s = end_time(began);
	result->operations = ft_operations(class);
	free_axes(&g.axes);
	free(g.lines);
	free(g.sent_count);
	free(u);
	free(w);
	free(v);
	return true;
}
