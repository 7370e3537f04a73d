// SPDX-License-Identifier: Apache-2.0
/*
 * FT, 3-D fast Fourier transform (RNR-94-007, 2.3.4): a partial differential
 * equation solved in the frequency domain, with a checksum of each time step.
 */
#include <complex.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "npb.h"

#define ALPHA		1e-6
#define TOLERANCE	1e-12
#define CHECKSUM_POINTS	1024
#define MAX_STEPS	20
#define LINES		8	/* transformed together, for the cache's sake */

typedef double complex number;

static const struct class {
	char name;
	int n[3];		/* x (adjacent in memory), y, z */
	int steps;
	double checksum[MAX_STEPS][2];
} classes[] = {
	{ 'S', { 64, 64, 64 }, 6, {
		{ 5.546087004964e+02, 4.845363331978e+02 },
		{ 5.546385409189e+02, 4.865304269511e+02 },
		{ 5.546148406171e+02, 4.883910722336e+02 },
		{ 5.545423607415e+02, 4.901273169046e+02 },
		{ 5.544255039624e+02, 4.917475857993e+02 },
		{ 5.542683411902e+02, 4.932597244941e+02 } } },
	{ 'W', { 128, 128, 32 }, 6, {
		{ 5.673612178944e+02, 5.293246849175e+02 },
		{ 5.631436885271e+02, 5.282149986629e+02 },
		{ 5.594024089970e+02, 5.270996558037e+02 },
		{ 5.560698047020e+02, 5.260027904925e+02 },
		{ 5.530898991250e+02, 5.249400845633e+02 },
		{ 5.504159734538e+02, 5.239212247086e+02 } } },
	{ 'A', { 256, 256, 128 }, 6, {
		{ 5.046735008193e+02, 5.114047905510e+02 },
		{ 5.059412319734e+02, 5.098809666433e+02 },
		{ 5.069376896287e+02, 5.098144042213e+02 },
		{ 5.077892868474e+02, 5.101336130759e+02 },
		{ 5.085233095391e+02, 5.104914655194e+02 },
		{ 5.091487099959e+02, 5.107917842803e+02 } } },
	{ 'B', { 512, 256, 256 }, 20, {
		{ 5.177643571579e+02, 5.077803458597e+02 },
		{ 5.154521291263e+02, 5.088249431599e+02 },
		{ 5.146409228649e+02, 5.096208912659e+02 },
		{ 5.142378756213e+02, 5.101023387619e+02 },
		{ 5.139626667737e+02, 5.103976610617e+02 },
		{ 5.137423460082e+02, 5.105948019802e+02 },
		{ 5.135547056878e+02, 5.107404165783e+02 },
		{ 5.133910925466e+02, 5.108576573661e+02 },
		{ 5.132470705390e+02, 5.109577278523e+02 },
		{ 5.131197729984e+02, 5.110460304483e+02 },
		{ 5.130070319283e+02, 5.111252433800e+02 },
		{ 5.129070537032e+02, 5.111968077718e+02 },
		{ 5.128182883502e+02, 5.112616233064e+02 },
		{ 5.127393733383e+02, 5.113203605551e+02 },
		{ 5.126691062020e+02, 5.113735928093e+02 },
		{ 5.126064276004e+02, 5.114218460548e+02 },
		{ 5.125504076570e+02, 5.114656139760e+02 },
		{ 5.125002331720e+02, 5.115053595966e+02 },
		{ 5.124551951846e+02, 5.115415130407e+02 },
		{ 5.124146770029e+02, 5.115744692211e+02 } } },
};

struct grid {
	const int *n;
	uint64_t total;
	number *root[3];	/* exp(-2 pi i k / n), k < n / 2, of each axis */
	double *decay[3];	/* exp(-4 alpha pi^2 k^2) of each axis */
	number *scratch;	/* of each thread, for two times LINES lines */
	size_t scratch_size;	/* of one thread */
};

/*
 * Transform LINES lines at once by Stockham's method, which sorts itself.
 * Element i of line l is at [i * LINES + l]; the result is in the returned
 * one of the two buffers.
 */
static number *transform_lines(number *from, number *to, int n,
			       const number *root, bool inverse)
{
	for (int half = n / 2, stride = 1; half; half /= 2, stride *= 2) {
		number *swap;

		for (int j = 0; j < half; j++) {
			number w = inverse ? conj(root[j * stride]) : root[j * stride];
			double wr = creal(w), wi = cimag(w);
			const number *a = from + (size_t)j * stride * LINES;
			const number *b = a + (size_t)half * stride * LINES;
			number *even = to + 2 * (size_t)j * stride * LINES;
			number *odd = even + stride * LINES;

			for (int k = 0; k < stride * LINES; k++) {
				number sum = a[k] + b[k], diff = a[k] - b[k];
				double re = creal(diff), im = cimag(diff);

				even[k] = sum;
				odd[k] = CMPLX(re * wr - im * wi, re * wi + im * wr);
			}
		}
		swap = from;
		from = to;
		to = swap;
	}
	return from;
}

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
		for (uint64_t block = 0; block < outer * (inner / LINES); block++) {
			number *lines = u + block / (inner / LINES) * outer_step +
				block % (inner / LINES) * LINES * inner_step;
			const number *done;

			for (int i = 0; i < n; i++)
				for (int l = 0; l < LINES; l++)
					buffer[i * LINES + l] = lines[i * step + l * inner_step];
			done = transform_lines(buffer, buffer + (size_t)n * LINES,
					       n, g->root[axis], inverse);
			for (int i = 0; i < n; i++)
				for (int l = 0; l < LINES; l++)
					lines[i * step + l * inner_step] = done[i * LINES + l];
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
	int longest = 0;

	g->n = n;
	g->total = (uint64_t)n[0] * n[1] * n[2];
	for (int axis = 0; axis < 3; axis++) {
		int count = n[axis];

		if (count > longest)
			longest = count;
		g->root[axis] = need_memory(count / 2 * sizeof(number));
		g->decay[axis] = need_memory(count * sizeof(double));
		for (int k = 0; k < count / 2; k++)
			g->root[axis][k] = cexp(CMPLX(0, -2 * M_PI * k / count));
		for (int k = 0; k < count; k++) {
			double frequency = k < count / 2 ? k : k - count;

			g->decay[axis][k] = exp(-4 * ALPHA * M_PI * M_PI *
						frequency * frequency);
		}
	}
	/* Once: memory that comes and goes makes CPUs interrupt each other. */
	g->scratch_size = 2ULL * longest * LINES;
	g->scratch = need_memory(omp_get_max_threads() * g->scratch_size * sizeof(*g->scratch));
}

static void fill(const struct grid *g, number *u)
{
	uint64_t plane = (uint64_t)g->n[0] * g->n[1];

#pragma omp parallel for schedule(static)
	for (int z = 0; z < g->n[2]; z++) {
		uint64_t x = nas_skip(NAS_SEED, 2 * plane * z);

		for (uint64_t i = 0; i < plane; i++) {
			double re = nas_random(&x);

			u[plane * z + i] = CMPLX(re, nas_random(&x));
		}
	}
}

/* One time step: damp each frequency of u; w gets a copy to transform. */
static void evolve(const struct grid *g, number *u, number *w)
{
#pragma omp parallel for collapse(2) schedule(static)
	for (int z = 0; z < g->n[2]; z++) {
		for (int y = 0; y < g->n[1]; y++) {
			uint64_t at = ((uint64_t)z * g->n[1] + y) * g->n[0];
			double factor = g->decay[2][z] * g->decay[1][y];

			for (int x = 0; x < g->n[0]; x++) {
				u[at + x] *= factor * g->decay[0][x];
				w[at + x] = u[at + x];
			}
		}
	}
}

static number checksum(const struct grid *g, const number *w)
{
	number sum = 0;

	for (int j = 1; j <= CHECKSUM_POINTS; j++) {
		uint64_t x = j % g->n[0], y = 3 * j % g->n[1], z = 5 * j % g->n[2];

		sum += w[(z * g->n[1] + y) * g->n[0] + x];
	}
	return sum / g->total;
}

static bool agrees(number sum, const double *expected)
{
	return fabs((creal(sum) - expected[0]) / expected[0]) <= TOLERANCE &&
	       fabs((cimag(sum) - expected[1]) / expected[1]) <= TOLERANCE;
}

bool run_ft(char name, struct result *result)
{
	const struct class *class = NULL;
	struct grid g;
	number *u, *w;
	double began, log_total;

	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			class = &classes[i];
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
		result->verified &= agrees(checksum(&g, w), class->checksum[step]);
	}
	result->time_s = omp_get_wtime() - began;
	log_total = log(g.total);
	result->operations = g.total * (14.8157 + 7.19641 * log_total +
		(5.23518 + 7.21113 * log_total) * class->steps);
	for (int axis = 0; axis < 3; axis++) {
		free(g.root[axis]);
		free(g.decay[axis]);
	}
	free(g.scratch);
	free(u);
	free(w);
	return true;
}
