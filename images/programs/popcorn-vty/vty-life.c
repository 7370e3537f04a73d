// SPDX-License-Identifier: GPL-2.0-only
/* Whether the kernel at the far end still lives, as /proc/popcorn tells. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vty-line.h"

#ifndef KERNELS			/* tests play them */
#define KERNELS		"/proc/popcorn/kernels"
#endif

/*
 * Look at the line "ID STATE STAGE GENERATION ..." of a kernel.  Returns false
 * when there is none, as on a machine without Popcorn.
 */
static bool look(const char *id, char state[16], unsigned int *generation)
{
	static char text[65536];
	size_t len = 0, id_len = strlen(id);
	int fd = open(KERNELS, O_RDONLY | O_CLOEXEC);
	char *row;
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = '\0';
	for (row = strchr(text, '\n'); row; row = strchr(row, '\n')) {
		row++;
		if (!strncmp(row, id, id_len) && row[id_len] == ' ')
			break;
	}
	if (!row)
		return false;
	row += id_len + 1;
	n = strcspn(row, " ");
	snprintf(state, 16, "%.*s", (int)n, row);
	row += n + strspn(row + n, " ");	/* at the stage */
	row += strcspn(row, " ");
	*generation = strtoul(row, NULL, 10);
	return true;
}

/*
 * What the kernel was at the first call, it must remain: a successor of the
 * same id knows nothing of this session.
 */
static const char *end_of(const char *id)
{
	static unsigned int first_generation;
	unsigned int generation;
	char state[16];

	if (!look(id, state, &generation))
		return NULL;
	if (!strcmp(state, "none"))
		return "no such kernel was started";
	if (!strcmp(state, "parked"))
		return "it has parked";
	if (!strcmp(state, "dead"))
		return "it is dead";
	if (first_generation && generation != first_generation)
		return "it was started anew";
	first_generation = generation;
	return NULL;
}

/*
 * Say why nothing more is to be expected from kernel @id, or return NULL.
 *
 * Ask as often as you like, and at least once in LOOK_MS: so often it looks.
 * What a kernel wrote last may still be on its way when its end is seen, so
 * that this is told one look later; unless it had ended before the first.
 */
const char *kernel_ended(const char *id)
{
	static const char *seen, *told;
	static long long next;
	long long now = now_ms();

	if (!told && now >= next) {
		if (!next || seen)
			told = end_of(id);
		else
			seen = end_of(id);
		next = now + LOOK_MS;
	}
	return told;
}
