// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which of the machine's kernels this is, from /proc/popcorn/self.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"

/* The number after the key, if the line begins with that; else what it was. */
static long number_after(const char *line, const char *key, long before)
{
	size_t length = strlen(key);

	return strncmp(line, key, length) ? before : strtol(line + length, NULL, 10);
}

struct identity who_am_i(void)
{
	struct identity self = { -1, 0 };
	FILE *file = fopen("/proc/popcorn/self", "re");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return self;
	/* One line may be long: there are as many windows and CPUs as there are. */
	while (getline(&line, &size, file) > 0) {
		self.id = number_after(line, "id:", self.id);
		self.kernels = number_after(line, "kernels:", self.kernels);
	}
	free(line);
	fclose(file);
	return self;
}
