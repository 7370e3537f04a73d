// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which of the machine's kernels this is, from /proc/popcorn/self.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

/* The number in the line that begins with the key; -1 if there is none. */
static long number_of(const char *text, const char *key)
{
	size_t length = strlen(key);
	const char *line = text;

	while (line) {
		if (!strncmp(line, key, length))
			return strtol(line + length, NULL, 10);
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return -1;
}

struct identity who_am_i(void)
{
	struct identity self = { -1, 0 };
	char text[512];
	ssize_t n;
	int fd = open("/proc/popcorn/self", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return self;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return self;
	text[n] = '\0';
	self.id = number_of(text, "id:");
	self.kernels = number_of(text, "kernels:");
	return self;
}
