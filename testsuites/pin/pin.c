// SPDX-License-Identifier: GPL-2.0-only
/*
 * pin: keep some pages where they are until this process is ended, though nobody
 * said so: a pipe refers to them.  Tells "pinned" when it does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BYTES	(16 * 4096)	/* as much as a pipe holds */

int main(void)
{
	struct iovec pages = { .iov_len = BYTES };
	int ends[2];

	pages.iov_base = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages.iov_base == MAP_FAILED || pipe(ends)) {
		perror("pin");
		return 1;
	}
	memset(pages.iov_base, 1, BYTES);
	if (vmsplice(ends[1], &pages, 1, 0) != BYTES) {
		perror("vmsplice");
		return 1;
	}
	puts("pinned");
	fflush(stdout);
	pause();
	return 0;
}
