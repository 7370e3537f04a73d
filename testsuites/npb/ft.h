// SPDX-License-Identifier: Apache-2.0
/*
 * FT, 3-D fast Fourier transform (RNR-94-007, 2.3.4): its sizes and checksums,
 * and the transform of some lines; the same for threads and for processes.
 */
#ifndef NPB_FT_H
#define NPB_FT_H

#include <complex.h>
#include <stddef.h>

#include "npb.h"

#define FT_LINES	8	/* transformed together, for the cache's sake */
#define FT_POINTS	1024	/* of a checksum */
#define FT_MAX_STEPS	20

typedef double complex number;

struct ft_class {
	char name;
	int n[3];		/* x (adjacent in memory), y, z */
	int steps;
	double checksum[FT_MAX_STEPS][2];
};

/* What is needed of each axis. */
struct axes {
	number *root[3];	/* exp(-2 pi i k / n), k < n / 2 */
	double *decay[3];	/* exp(-4 alpha pi^2 k^2) */
	int longest;
};

/* NULL when there is no such class. */
const struct ft_class *find_ft_class(char name);

void make_axes(struct axes *axes, const int *n);
void free_axes(struct axes *axes);

/* Fill planes of n[0] * n[1] points, from plane @first to before @end of the whole grid. */
void fill_planes(const int *n, number *u, int first, int end);

/*
 * Transform FT_LINES lines in place, whose elements are @step apart and which
 * start @apart from each other.  @buffer holds twice as many lines.
 */
void transform_lines(number *lines, size_t step, size_t apart, int n,
		     const number *root, bool inverse, number *buffer);

bool checksum_agrees(const struct ft_class *class, int step, number sum);
double ft_operations(const struct ft_class *class);

#endif /* NPB_FT_H */
