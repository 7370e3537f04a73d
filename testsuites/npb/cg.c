// SPDX-License-Identifier: Apache-2.0
/*
 * CG, conjugate gradient (RNR-94-007, 2.3.3): the smallest eigenvalue of a
 * large sparse matrix by inverse iteration; each step solves a linear system
 * by 25 steps of the conjugate gradient method.
 */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "npb.h"

#define INNER_STEPS	25
#define RCOND		0.1
#define TOLERANCE	1e-10
#define MAX_NONZEROS	16	/* of one random vector */

static const struct class {
	char name;
	int order, nonzeros, iterations;
	double shift, zeta;
} classes[] = {
	{ 'S', 1400, 7, 15, 10, 8.5971775078648 },
	{ 'W', 7000, 8, 15, 12, 10.362595087124 },
	{ 'A', 14000, 11, 15, 20, 17.130235054029 },
	{ 'B', 75000, 13, 75, 60, 22.712745482631 },
};

struct element {
	int column;
	double value;
};

/* Rows of elements sorted by column. */
struct matrix {
	int order;
	int64_t *row;		/* [order + 1] */
	struct element *element;
};

struct vector {
	int count;
	int index[MAX_NONZEROS];
	double value[MAX_NONZEROS];
};

/* Random places and values, and 0.5 at place @own. */
static void make_vector(struct vector *v, int order, int nonzeros, int own,
			uint64_t *x)
{
	int power = 1;

	while (power < order)
		power *= 2;
	v->count = 0;
	while (v->count < nonzeros) {
		double value = nas_random(x);
		int index = power * nas_random(x);
		bool known = index >= order;

		for (int i = 0; i < v->count; i++)
			known |= v->index[i] == index;
		if (known)
			continue;
		v->index[v->count] = index;
		v->value[v->count++] = value;
	}
	for (int i = 0; i < v->count; i++) {
		if (v->index[i] == own) {
			v->value[i] = 0.5;
			return;
		}
	}
	v->index[v->count] = own;
	v->value[v->count++] = 0.5;
}

static int by_column(const void *a, const void *b)
{
	return ((const struct element *)a)->column -
	       ((const struct element *)b)->column;
}

/* Sort each row and add up what lies on the same place. */
static void merge_rows(struct matrix *m, const int64_t *end)
{
	int64_t to = 0;

	for (int i = 0; i < m->order; i++) {
		struct element *row = m->element + m->row[i];
		int64_t count = end[i] - m->row[i];

		qsort(row, count, sizeof(*row), by_column);
		m->row[i] = to;
		for (int64_t j = 0; j < count; j++) {
			if (j && row[j].column == row[j - 1].column)
				m->element[to - 1].value += row[j].value;
			else
				m->element[to++] = row[j];
		}
	}
	m->row[m->order] = to;
}

/*
 * The sum of weighted outer products of sparse random vectors; the weights
 * fall geometrically from 1 to RCOND.  The diagonal is shifted.
 */
static void make_matrix(struct matrix *m, const struct class *class)
{
	int n = class->order;
	uint64_t x = nas_skip(NAS_SEED, 1);
	struct vector *vector = need_memory((uint64_t)n * sizeof(*vector));
	int64_t *end = need_memory(n * sizeof(*end));
	double weight = 1, ratio = pow(RCOND, 1.0 / n);

	m->order = n;
	m->row = need_memory((n + 1) * sizeof(*m->row));
	memset(m->row, 0, (n + 1) * sizeof(*m->row));
	for (int i = 0; i < n; i++) {
		make_vector(&vector[i], n, class->nonzeros, i, &x);
		for (int j = 0; j < vector[i].count; j++)
			m->row[vector[i].index[j] + 1] += vector[i].count;
	}
	for (int i = 0; i < n; i++) {
		m->row[i + 1] += m->row[i];
		end[i] = m->row[i];
	}
	m->element = need_memory(m->row[n] * sizeof(*m->element));
	for (int i = 0; i < n; i++, weight *= ratio) {
		const struct vector *v = &vector[i];

		for (int j = 0; j < v->count; j++) {
			for (int k = 0; k < v->count; k++) {
				double value = weight * v->value[j] * v->value[k];

				if (v->index[j] == i && v->index[k] == i)
					value += RCOND - class->shift;
				m->element[end[v->index[j]]++] =
					(struct element){ v->index[k], value };
			}
		}
	}
	merge_rows(m, end);
	free(end);
	free(vector);
}

/* Solve A z = x in z; returns the norm of the residual. */
static double solve(const struct matrix *m, const double *x, double *z,
		    double *p, double *q, double *r)
{
	int n = m->order;
	double rho = 0, rho_before, d, residual = 0, alpha, beta;

#pragma omp parallel
	{
#pragma omp for reduction(+ : rho) schedule(static)
		for (int i = 0; i < n; i++) {
			z[i] = 0;
			p[i] = r[i] = x[i];
			rho += x[i] * x[i];
		}
		for (int step = 0; step < INNER_STEPS; step++) {
#pragma omp single
			{
				d = 0;
				rho_before = rho;
			}
#pragma omp for reduction(+ : d) schedule(static)
			for (int i = 0; i < n; i++) {
				double sum = 0;

				for (int64_t k = m->row[i]; k < m->row[i + 1]; k++)
					sum += m->element[k].value * p[m->element[k].column];
				q[i] = sum;
				d += p[i] * sum;
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
			double sum = 0;

			for (int64_t k = m->row[i]; k < m->row[i + 1]; k++)
				sum += m->element[k].value * z[m->element[k].column];
			residual += (x[i] - sum) * (x[i] - sum);
		}
	}
	return sqrt(residual);
}

/* One step of inverse iteration: x becomes z scaled to length 1. */
static double iterate(const struct matrix *m, double shift, double *vectors)
{
	int n = m->order;
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
	const struct class *class = NULL;
	struct matrix m;
	double *vectors, began, zeta = 0, per_row;

	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			class = &classes[i];
	if (!class)
		return false;
	make_matrix(&m, class);
	vectors = need_memory(5ULL * m.order * sizeof(*vectors));
	for (int i = 0; i < m.order; i++)
		vectors[i] = 1;
	/* Once untimed, so that all memory was touched. */
	iterate(&m, class->shift, vectors);
	for (int i = 0; i < m.order; i++)
		vectors[i] = 1;
	began = omp_get_wtime();
	for (int i = 0; i < class->iterations; i++)
		zeta = iterate(&m, class->shift, vectors);
	result->time_s = omp_get_wtime() - began;
	per_row = class->nonzeros * (class->nonzeros + 1);
	result->operations = 2.0 * class->iterations * class->order *
		(3 + per_row + INNER_STEPS * (5 + per_row) + 3);
	result->verified = fabs(zeta - class->zeta) / class->zeta <= TOLERANCE;
	free(vectors);
	free(m.element);
	free(m.row);
	return true;
}
