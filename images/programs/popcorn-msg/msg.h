/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_MSG_H
#define POPCORN_MSG_H

#include <linux/popcorn_dev.h>

struct options {
	__u32 kernel;
	__u32 port;
	__u32 count;
	__u32 len;
	__u32 timeout_s;
	int high;
	int group;
};

/* popcorn-msg.c */
const char *reason(int error);
void __attribute__((noreturn)) failed(const char *what);

/* msg-measure.c */
int ping(int fd, const struct options *o);
int measure(int fd, const struct options *o, __u32 what);
int stream_all(int fd, const struct options *o);

/* msg-packet.c */
int send_packet(int fd, const struct options *o);
int receive_packets(int fd, const struct options *o);

#endif
