// SPDX-License-Identifier: GPL-2.0-only
/*
 * A line, opened for one user at a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <termios.h>
#include <unistd.h>

#include "vty-line.h"

static void wake(int sig)
{
	(void)sig;
}

/* One user of a line at a time; the lock goes with the process. */
static int lock(int fd, int wait_s)
{
	struct sigaction action = { .sa_handler = wake }, old;
	int ret;

	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	sigaction(SIGALRM, &action, &old);
	alarm(wait_s);
	ret = flock(fd, LOCK_EX);
	alarm(0);
	sigaction(SIGALRM, &old, NULL);
	return ret;
}

/* Open, lock and prepare the line to kernel @id; -1 after a message. */
int open_vty(const char *id, const char *device, int wait_s)
{
	char path[32];
	int fd;

	if (!device) {
		snprintf(path, sizeof(path), "/dev/vty%s", id);
		device = path;
	}
	fd = open(device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		dprintf(2, "popcorn-vty: kernel %s: %s: %s\n", id, device,
			strerror(errno));
		return -1;
	}
	if (lock(fd, wait_s)) {
		dprintf(2, "popcorn-vty: kernel %s: its line is in use by another popcorn-vty\n",
			id);
		close(fd);
		return -1;
	}
	set_raw(fd);
	tcflush(fd, TCIOFLUSH);
	return fd;
}
