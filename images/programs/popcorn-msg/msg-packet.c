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

#include "msg-failed.h"
#include "msg.h"

/* One byte more than can be sent: the kernel, not this program, says what is too long. */
#define PAYLOAD_MAX	(POPCORN_PACKET_MAX + 1)

static union {
	struct popcorn_packet packet;
	char bytes[sizeof(struct popcorn_packet) + PAYLOAD_MAX];
} buffer;

static char * const payload = buffer.bytes + sizeof(struct popcorn_packet);

static int send_payload(int fd, const struct options *o, size_t len)
{
	buffer.packet = (struct popcorn_packet) {
		.kernel = o->to,
		.port = o->port,
		.len = len,
	};
	if (o->group)
		buffer.packet.flags |= POPCORN_PACKET_GROUP;
	if (o->high)
		buffer.packet.flags |= POPCORN_PACKET_HIGH;
	return write(fd, &buffer, sizeof(buffer.packet) + len) < 0;
}

/* The next message on standard input, a line or all there is; its length, or -1 at the end. */
static ssize_t next_payload(int lines)
{
	size_t len = 0;
	int c = EOF;

	while (len < PAYLOAD_MAX && (c = getchar()) != EOF) {
		if (lines && c == '\n')
			return len;
		payload[len++] = c;
	}
	if (ferror(stdin))
		failed("standard input");
	return len || !lines ? (ssize_t)len : -1;
}

int send_packets(int fd, const struct options *o)
{
	size_t nr = 0, bytes = 0;
	ssize_t len;

	while ((len = next_payload(o->lines)) >= 0) {
		if (send_payload(fd, o, len))
			failed_after("send", nr, "messages");
		nr++;
		bytes += len;
		if (!o->lines)
			break;
	}
	printf("{\"verb\": \"send\", \"to\": %u, \"port\": %u, \"messages\": %zu, "
	       "\"bytes\": %zu}\n", o->to, o->port, nr, bytes);
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

static void print_packet(void)
{
	printf("{\"kernel\": %u, \"port\": %u, \"bytes\": %u, \"high\": %s, \"data\": ",
	       buffer.packet.kernel, buffer.packet.port, buffer.packet.len,
	       buffer.packet.flags & POPCORN_PACKET_HIGH ? "true" : "false");
	print_text(payload, buffer.packet.len);
	puts("}");
}

/* Each message as it comes: a line of JSON, or with @raw its bytes and nothing else. */
int receive_packets(int fd, const struct options *o)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	__u32 port = o->to, i;
	ssize_t n;

	if (ioctl(fd, POPCORN_IOC_BIND, &port))
		failed("bind");
	for (i = 0; i < o->count; i++) {
		n = poll(&ready, 1, o->timeout_s ? (int)o->timeout_s * 1000 : -1);
		if (!n) {
			errno = ETIME;
			failed_after("receive", i, "messages");
		}
		n = n < 0 ? n : read(fd, &buffer, sizeof(buffer));
		if (n < 0)
			failed_after("receive", i, "messages");
		if (o->raw)
			fwrite(payload, 1, buffer.packet.len, stdout);
		else
			print_packet();
		fflush(stdout);
	}
	return 0;
}
