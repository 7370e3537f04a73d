// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cg.h"

#define RCOND		0.1
#define MAX_NONZEROS	16	/* of one random vector */

static const struct cg_class classes[] = {
	{ 'S', 1400, 7, 15, 10, 8.5971775078648 },
	{ 'W', 7000, 8, 15, 12, 10.362595087124 },
	{ 'A', 14000, 11, 15, 20, 17.130235054029 },
	{ 'B', 75000, 13, 75, 60, 22.712745482631 },
};

const struct cg_class *find_cg_class(char name)
{
	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			return &classes[i];
	return NULL;
}

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

	for (int i = 0; i < m->rows; i++) {
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
	m->row[m->rows] = to;
}

/*
 * The sum of weighted outer products of sparse random vectors; the weights
 * fall geometrically from 1 to RCOND.  The diagonal is shifted.
 */
void make_matrix(struct matrix *m, const struct cg_class *class, int first, int end)
{
	int n = class->order, rows = end - first;
	uint64_t x = nas_skip(NAS_SEED, 1);
	struct vector *vector = need_memory((uint64_t)n * sizeof(*vector));
	int64_t *filled = need_memory((uint64_t)rows * sizeof(*filled));
	double weight = 1, ratio = pow(RCOND, 1.0 / n);

	m->first = first;
	m->rows = rows;
	m->row = need_memory((rows + 1ULL) * sizeof(*m->row));
	memset(m->row, 0, (rows + 1ULL) * sizeof(*m->row));
	for (int i = 0; i < n; i++) {
		make_vector(&vector[i], n, class->nonzeros, i, &x);
		for (int j = 0; j < vector[i].count; j++) {
			int row = vector[i].index[j] - first;

			if (row >= 0 && row < rows)
				m->row[row + 1] += vector[i].count;
		}
	}
	for (int i = 0; i < rows; i++) {
		m->row[i + 1] += m->row[i];
		filled[i] = m->row[i];
	}
	m->element = need_memory(m->row[rows] * sizeof(*m->element));
	for (int i = 0; i < n; i++, weight *= ratio) {
		const struct vector *v = &vector[i];

		for (int j = 0; j < v->count; j++) {
			int row = v->index[j] - first;

			if (row < 0 || row >= rows)
				continue;
			for (int k = 0; k < v->count; k++) {
				double value = weight * v->value[j] * v->value[k];

				if (v->index[j] == i && v->index[k] == i)
					value += RCOND - class->shift;
				m->element[filled[row]++] =
					(struct element){ v->index[k], value };
			}
		}
	}
	merge_rows(m, filled);
	free(filled);
	free(vector);
}

void free_matrix(struct matrix *m)
{
	free(m->element);
	free(m->row);
}
