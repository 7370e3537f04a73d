// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>

#include "ft.h"

#define ALPHA		1e-6
#define TOLERANCE	1e-12

static const struct ft_class classes[] = {
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

const struct ft_class *find_ft_class(char name)
{
	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			return &classes[i];
	return NULL;
}

void make_axes(struct axes *axes, const int *n)
{
	axes->longest = 0;
	for (int axis = 0; axis < 3; axis++) {
		int count = n[axis];

		if (count > axes->longest)
			axes->longest = count;
		axes->root[axis] = need_memory(count / 2 * sizeof(number));
		axes->decay[axis] = need_memory(count * sizeof(double));
		for (int k = 0; k < count / 2; k++)
			axes->root[axis][k] = cexp(CMPLX(0, -2 * M_PI * k / count));
		for (int k = 0; k < count; k++) {
			double frequency = k < count / 2 ? k : k - count;

			axes->decay[axis][k] = exp(-4 * ALPHA * M_PI * M_PI *
						   frequency * frequency);
		}
	}
}

void free_axes(struct axes *axes)
{
	for (int axis = 0; axis < 3; axis++) {
		free(axes->root[axis]);
		free(axes->decay[axis]);
	}
}

void fill_planes(const int *n, number *u, int first, int end)
{
	uint64_t plane = (uint64_t)n[0] * n[1];
	uint64_t x = nas_skip(NAS_SEED, 2 * plane * first);

	for (uint64_t i = 0; i < plane * (end - first); i++) {
		double re = nas_random(&x);

		u[i] = CMPLX(re, nas_random(&x));
	}
}

/*
 * Transform FT_LINES lines at once by Stockham's method, which sorts itself.
 * Element i of line l is at [i * FT_LINES + l]; the result is in the returned
 * one of the two buffers.
 */
static number *transform_buffer(number *from, number *to, int n,
				const number *root, bool inverse)
{
	for (int half = n / 2, stride = 1; half; half /= 2, stride *= 2) {
		number *swap;

		for (int j = 0; j < half; j++) {
			number w = inverse ? conj(root[j * stride]) : root[j * stride];
			double wr = creal(w), wi = cimag(w);
			const number *a = from + (size_t)j * stride * FT_LINES;
			const number *b = a + (size_t)half * stride * FT_LINES;
			number *even = to + 2 * (size_t)j * stride * FT_LINES;
			number *odd = even + stride * FT_LINES;

			for (int k = 0; k < stride * FT_LINES; k++) {
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

void transform_lines(number *lines, size_t step, size_t apart, int n,
		     const number *root, bool inverse, number *buffer)
{
	const number *done;

	for (int i = 0; i < n; i++)
		for (int l = 0; l < FT_LINES; l++)
			buffer[i * FT_LINES + l] = lines[i * step + l * apart];
	done = transform_buffer(buffer, buffer + (size_t)n * FT_LINES, n, root, inverse);
	for (int i = 0; i < n; i++)
		for (int l = 0; l < FT_LINES; l++)
			lines[i * step + l * apart] = done[i * FT_LINES + l];
}

bool checksum_agrees(const struct ft_class *class, int step, number sum)
{
	const double *expected = class->checksum[step];

	return fabs((creal(sum) - expected[0]) / expected[0]) <= TOLERANCE &&
	       fabs((cimag(sum) - expected[1]) / expected[1]) <= TOLERANCE;
}

double ft_operations(const struct ft_class *class)
{
	double total = (double)class->n[0] * class->n[1] * class->n[2];

	return total * (14.8157 + 7.19641 * log(total) +
			(5.23518 + 7.21113 * log(total)) * class->steps);
}
