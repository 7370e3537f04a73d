// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes on without what a kernel refused says so on the console.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"

void complain(const char *what)
{
	dprintf(2, "popcorn-init: %s: %s\n", what, strerror(errno));
}

/* Silent about what cannot be opened: not each kernel has each of these files. */
void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		complain(path);
	close(fd);
}
