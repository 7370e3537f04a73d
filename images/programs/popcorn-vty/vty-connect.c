// SPDX-License-Identifier: GPL-2.0-only
/* popcorn-vty connect: an interactive session on another kernel's line. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vty-line.h"

/* Write all of it; the line is non-blocking, the terminal may be. */
static int put(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		struct pollfd pfd = { fd, POLLOUT, 0 };

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n > 0) {
			data += n;
			len -= n;
		} else {
			poll(&pfd, 1, 100);
		}
	}
	return 0;
}

/*
 * Copy what was typed, less the escape "~." at the start of a line.  Returns
 * false when that was typed.
 */
static bool typed(int line, const char *data, size_t len, char *before)
{
	for (size_t i = 0; i < len; i++) {
		char c = data[i];

		if (*before == '~' && c == '.')
			return false;
		if (*before == '~' && c != '~' && put(line, "~", 1))
			return false;
		if (c == '~' && (*before == '\n' || *before == '\r')) {
			*before = '~';
			continue;
		}
		*before = c == '~' && *before == '~' ? ' ' : c;
		if (put(line, &c, 1))
			return false;
	}
	return true;
}

/* Returns why the kernel can say no more, or NULL. */
static const char *relay(int line, const char *id)
{
	char data[512], before = '\n';
	const char *ended;
	struct pollfd fds[2] = { { 0, POLLIN, 0 }, { line, POLLIN, 0 } };

	for (;;) {
		ssize_t n;

		if (poll(fds, 2, LOOK_MS) < 0 && errno != EINTR)
			return NULL;
		if (fds[1].revents) {
			n = read(line, data, sizeof(data));
			if (!n || (n < 0 && errno != EAGAIN))
				return NULL;
			if (n > 0 && put(1, data, n))
				return NULL;
		}
		if (fds[0].revents) {
			n = read(0, data, sizeof(data));
			if (n <= 0 || !typed(line, data, n, &before))
				return NULL;
		}
		/* What it said before its end comes first. */
		ended = kernel_ended(id);
		if (ended && !fds[1].revents)
			return ended;
	}
}

int vty_connect(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ 0 }
	};
	const char *device = NULL, *ended;
	struct termios saved;
	int line, option, terminal;

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option != 'd')
			return EXIT_PROTOCOL;
		device = optarg;
	}
	if (argc - optind != 1) {
		dprintf(2, "popcorn-vty: connect wants a kernel id\n");
		return EXIT_PROTOCOL;
	}
	line = open_vty(argv[optind], device, 1);
	if (line < 0)
		return EXIT_PROTOCOL;
	terminal = !tcgetattr(0, &saved);
	if (terminal) {
		set_raw(0);
		dprintf(2, "connected to kernel %s, leave with Enter ~ .\r\n",
			argv[optind]);
	}
	put(line, "\025\n", 2);
	ended = relay(line, argv[optind]);
	if (terminal) {
		tcsetattr(0, TCSANOW, &saved);
		dprintf(2, "\nconnection closed\n");
	}
	if (!ended)
		return 0;
	dprintf(2, "popcorn-vty: kernel %s: %s\n", argv[optind], ended);
	return EXIT_PROTOCOL;
}
