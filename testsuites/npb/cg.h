// SPDX-License-Identifier: Apache-2.0
/*
 * CG, conjugate gradient (RNR-94-007, 2.3.3): its sizes and its matrix, the
 * same for threads and for processes.
 */
#ifndef NPB_CG_H
#define NPB_CG_H

#include <math.h>

#include "npb.h"

#define CG_STEPS	25	/* of the conjugate gradient method in each iteration */
#define CG_TOLERANCE	1e-10

struct cg_class {
	char name;
	int order, nonzeros, iterations;
	double shift, zeta;
};

struct element {
	int column;
	double value;
};

/* Rows of elements sorted by column, from row @first of the whole matrix on. */
struct matrix {
	int first, rows;
	int64_t *row;		/* [rows + 1] */
	struct element *element;
};

/* NULL when there is no such class. */
const struct cg_class *find_cg_class(char name);

/* Make the rows from @first to before @end. */
void make_matrix(struct matrix *m, const struct cg_class *class, int first, int end);

void free_matrix(struct matrix *m);

/* A row's product with a vector of as many elements as the matrix has columns. */
static inline double row_times(const struct matrix *m, int row, const double *vector)
{
	double sum = 0;

	for (int64_t k = m->row[row]; k < m->row[row + 1]; k++)
		sum += m->element[k].value * vector[m->element[k].column];
	return sum;
}

static inline double cg_operations(const struct cg_class *class)
{
	double per_row = class->nonzeros * (class->nonzeros + 1);

	return 2.0 * class->iterations * class->order *
		(3 + per_row + CG_STEPS * (5 + per_row) + 3);
}

static inline bool zeta_agrees(const struct cg_class *class, double zeta)
{
	return fabs(zeta - class->zeta) / class->zeta <= CG_TOLERANCE;
}

#endif /* NPB_CG_H */
