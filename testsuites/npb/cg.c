// SPDX-License-Identifier: Apache-2.0
/*
 * CG, conjugate gradient (RNR-94-007, 2.3.3): the smallest eigenvalue of a
 * large sparse matrix by inverse iteration; each step solves a linear system
 * by 25 steps of the conjugate gradient method.
 */
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "cg.h"

/* Solve A z = x in z; returns the norm of the residual. */
static double solve(const struct matrix *m, const double *x, double *z,
		    double *p, double *q, double *r)
{
	int n = m->rows;
	double rho = 0, rho_before, d, residual = 0, alpha, beta;

#pragma omp parallel
	{
#pragma omp for reduction(+ : rho) schedule(static)
		for (int i = 0; i < n; i++) {
			z[i] = 0;
			p[i] = r[i] = x[i];
			rho += x[i] * x[i];
		}
		for (int step = 0; step < CG_STEPS; step++) {
#pragma omp single
			{
				d = 0;
				rho_before = rho;
			}
#pragma omp for reduction(+ : d) schedule(static)
			for (int i = 0; i < n; i++) {
				q[i] = row_times(m, i, p);
				d += p[i] * q[i];
			}
#pragma omp single
			{
				alpha = rho_before / d;
				rho = 0;
			}
#pragma omp for reduction(+ : rho) schedule(static)
			for (int i = 0; i < n; i++) {
				z[i] += alpha * p[i];
				r[i] -= alpha * q[i];
				rho += r[i] * r[i];
			}
#pragma omp single
			beta = rho / rho_before;
#pragma omp for schedule(static)
			for (int i = 0; i < n; i++)
				p[i] = r[i] + beta * p[i];
		}
#pragma omp for reduction(+ : residual) schedule(static)
		for (int i = 0; i < n; i++) {
			double error = x[i] - row_times(m, i, z);

			residual += error * error;
		}
	}
	return sqrt(residual);
}

/* One step of inverse iteration: x becomes z scaled to length 1. */
static double iterate(const struct matrix *m, double shift, double *vectors)
{
	int n = m->rows;
	double *x = vectors, *z = x + n, *p = z + n, *q = p + n, *r = q + n;
	double xz = 0, zz = 0, scale;

	solve(m, x, z, p, q, r);
#pragma omp parallel for reduction(+ : xz, zz) schedule(static)
	for (int i = 0; i < n; i++) {
		xz += x[i] * z[i];
		zz += z[i] * z[i];
	}
	scale = 1 / sqrt(zz);
#pragma omp parallel for schedule(static)
	for (int i = 0; i < n; i++)
		x[i] = scale * z[i];
	return shift + 1 / xz;
}

bool run_cg(char name, struct result *result)
{
	const struct cg_class *class = find_cg_class(name);
	struct matrix m;
	double *vectors, began, zeta = 0;

	if (!class)
		return false;
	make_matrix(&m, class, 0, class->order);
	vectors = need_memory(5ULL * m.rows * sizeof(*vectors));
	for (int i = 0; i < m.rows; i++)
		vectors[i] = 1;
	/* Once untimed, so that all memory was touched. */
	iterate(&m, class->shift, vectors);
	for (int i = 0; i < m.rows; i++)
		vectors[i] = 1;
	began = omp_get_wtime();
	for (int i = 0; i < class->iterations; i++)
		zeta = iterate(&m, class->shift, vectors);
	result->time_s = omp_get_wtime() - began;
	result->operations = cg_operations(class);
	result->verified = zeta_agrees(class, zeta);
	free(vectors);
	free_matrix(&m);
	return true;
}
