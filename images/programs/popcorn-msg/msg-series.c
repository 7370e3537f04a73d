// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many measurements of one thing, told by their distribution.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "msg-failed.h"
#include "msg.h"

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* The time stamp counter is the same in all kernels of a machine. */
uint64_t tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

void series_init(struct series *s, size_t most)
{
	s->nr = 0;
	s->value = calloc(most, sizeof(*s->value));
	if (!s->value)
		failed("memory for the results");
}

void series_add(struct series *s, uint64_t value)
{
	s->value[s->nr++] = value;
}

static int compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return one < other ? -1 : one > other;
}

/* A member of a JSON object, in nanoseconds. */
void series_print(const char *name, struct series *s, double ns_per_unit)
{
	double sum = 0;
	size_t i;

	qsort(s->value, s->nr, sizeof(*s->value), compare);
	for (i = 0; i < s->nr; i++)
		sum += s->value[i];
	printf("\"%s\": {\"count\": %zu", name, s->nr);
	if (s->nr)
		printf(", \"min\": %.0f, \"median\": %.0f, \"p90\": %.0f, \"p99\": %.0f, "
		       "\"max\": %.0f, \"mean\": %.0f",
		       s->value[0] * ns_per_unit, s->value[s->nr / 2] * ns_per_unit,
		       s->value[s->nr * 9 / 10] * ns_per_unit,
		       s->value[s->nr * 99 / 100] * ns_per_unit,
		       s->value[s->nr - 1] * ns_per_unit, sum / s->nr * ns_per_unit);
	putchar('}');
}
