// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending and receiving by processes: what is said on standard input of one
 * comes out of standard output of another.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "msg.h"

static union {
	struct popcorn_packet packet;
	char bytes[sizeof(struct popcorn_packet) + POPCORN_PACKET_MAX + 1];
} buffer;

static char * const payload = buffer.bytes + sizeof(struct popcorn_packet);

int send_packet(int fd, const struct options *o)
{
	size_t len = 0;
	ssize_t n;

	while (len <= POPCORN_PACKET_MAX &&
	       (n = read(0, payload + len, POPCORN_PACKET_MAX + 1 - len)) > 0)
		len += n;
	if (n < 0)
		failed("standard input");
	if (len > POPCORN_PACKET_MAX) {
		errno = EMSGSIZE;
		failed("send");
	}
	buffer.packet = (struct popcorn_packet) {
		.kernel = o->kernel,
		.port = o->port,
		.len = len,
		.flags = (o->group ? POPCORN_PACKET_GROUP : 0) | (o->high ? POPCORN_PACKET_HIGH : 0),
	};
	if (write(fd, &buffer, sizeof(buffer.packet) + len) < 0)
		failed("send");
	return 0;
}

static void print_text(const char *text, size_t len)
{
	size_t i;

	putchar('"');
	for (i = 0; i < len; i++) {
		unsigned char c = text[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ' || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

/* One line of JSON for each message, as it comes. */
int receive_packets(int fd, const struct options *o)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	__u32 port = o->kernel, i;
	ssize_t n;

	if (ioctl(fd, POPCORN_IOC_BIND, &port))
		failed("bind");
	for (i = 0; i < o->count; i++) {
		n = poll(&ready, 1, o->timeout_s ? (int)o->timeout_s * 1000 : -1);
		if (!n) {
			errno = ETIMEDOUT;
			failed("receive");
		}
		n = n < 0 ? n : read(fd, &buffer, sizeof(buffer));
		if (n < 0)
			failed("receive");
		printf("{\"kernel\": %u, \"port\": %u, \"bytes\": %u, \"data\": ",
		       buffer.packet.kernel, buffer.packet.port, buffer.packet.len);
		print_text(payload, buffer.packet.len);
		puts("}");
		fflush(stdout);
	}
	return 0;
}
