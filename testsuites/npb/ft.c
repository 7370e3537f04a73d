// SPDX-License-Identifier: Apache-2.0
/*
 * FT, 3-D fast Fourier transform (RNR-94-007, 2.3.4): a partial differential
 * equation solved in the frequency domain, with a checksum of each time step.
 */
#include <omp.h>
#include <stdlib.h>

#include "ft.h"

struct grid {
	const int *n;
	uint64_t total;
	struct axes axes;
	number *scratch;	/* of each thread, for two times FT_LINES lines */
	size_t scratch_size;	/* of one thread */
};

static void transform_axis(const struct grid *g, number *u, int axis, bool inverse)
{
	int n = g->n[axis];
	uint64_t row = g->n[0], plane = row * g->n[1];
	/* Lines start at [outer][inner]; their elements are a step apart. */
	uint64_t step = axis == 0 ? 1 : axis == 1 ? row : plane;
	uint64_t inner = g->n[axis == 0 ? 1 : 0];
	uint64_t inner_step = axis == 0 ? row : 1;
	uint64_t outer = g->n[axis == 2 ? 1 : 2];
	uint64_t outer_step = axis == 2 ? row : plane;

#pragma omp parallel
	{
		number *buffer = g->scratch + g->scratch_size * omp_get_thread_num();

#pragma omp for schedule(static)
		for (uint64_t block = 0; block < outer * (inner / FT_LINES); block++) {
			number *lines = u + block / (inner / FT_LINES) * outer_step +
				block % (inner / FT_LINES) * FT_LINES * inner_step;

			transform_lines(lines, step, inner_step, n, g->axes.root[axis],
					inverse, buffer);
		}
	}
}

static void transform(const struct grid *g, number *u, bool inverse)
{
	for (int axis = 0; axis < 3; axis++)
		transform_axis(g, u, axis, inverse);
}

static void make_grid(struct grid *g, const int *n)
{
	g->n = n;
	g->total = (uint64_t)n[0] * n[1] * n[2];
	make_axes(&g->axes, n);
	/* Once: memory that comes and goes makes CPUs interrupt each other. */
	g->scratch_size = 2ULL * g->axes.longest * FT_LINES;
	g->scratch = need_memory(omp_get_max_threads() * g->scratch_size * sizeof(*g->scratch));
}

static void fill(const struct grid *g, number *u)
{
#pragma omp parallel for schedule(static)
	for (int z = 0; z < g->n[2]; z++)
		fill_planes(g->n, u + (uint64_t)z * g->n[0] * g->n[1], z, z + 1);
}

/* One time step: damp each frequency of u; w gets a copy to transform. */
static void evolve(const struct grid *g, number *u, number *w)
{
#pragma omp parallel for collapse(2) schedule(static)
	for (int z = 0; z < g->n[2]; z++) {
		for (int y = 0; y < g->n[1]; y++) {
			uint64_t at = ((uint64_t)z * g->n[1] + y) * g->n[0];
			double factor = g->axes.decay[2][z] * g->axes.decay[1][y];

			for (int x = 0; x < g->n[0]; x++) {
				u[at + x] *= factor * g->axes.decay[0][x];
				w[at + x] = u[at + x];
			}
		}
	}
}

static number checksum(const struct grid *g, const number *w)
{
	number sum = 0;

	for (int j = 1; j <= FT_POINTS; j++) {
		uint64_t x = j % g->n[0], y = 3 * j % g->n[1], z = 5 * j % g->n[2];

		sum += w[(z * g->n[1] + y) * g->n[0] + x];
	}
	return sum / g->total;
}

bool run_ft(char name, struct result *result)
{
	const struct ft_class *class = find_ft_class(name);
	struct grid g;
	number *u, *w;
	double began;

	if (!class)
		return false;
	make_grid(&g, class->n);
	u = need_memory(g.total * sizeof(*u));
	w = need_memory(g.total * sizeof(*w));
	/* Once untimed, so that all memory was touched. */
	fill(&g, u);
	transform(&g, u, false);
	evolve(&g, u, w);

	result->verified = true;
	began = omp_get_wtime();
	fill(&g, u);
	transform(&g, u, false);
	for (int step = 0; step < class->steps; step++) {
		evolve(&g, u, w);
		transform(&g, w, true);
		result->verified &= checksum_agrees(class, step, checksum(&g, w));
	}
	result->time_s = omp_get_wtime() - began;
	result->operations = ft_operations(class);
	free_axes(&g.axes);
	free(g.scratch);
	free(u);
	free(w);
	return true;
}
