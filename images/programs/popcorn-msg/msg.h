/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_MSG_H
#define POPCORN_MSG_H

#include <stddef.h>
#include <stdint.h>

#include <linux/popcorn_dev.h>

struct options {
	__u32 to;		/* kernel, group, CPU or port: the verb's first argument */
	__u32 port;
	__u32 count;
	__u32 len;
	__u32 pause_us;
	__u32 type;		/* 0: the one for pings */
	__u32 timeout_s;	/* 0: not given */
	__u32 seed;
	int high;
	int lines;
	int group;
	int nowait;
	int raw;
	int verbose;
};

/* msg-series.c */
struct series {
	uint64_t *value;
	size_t nr;
};

void series_init(struct series *s, size_t most);
void series_add(struct series *s, uint64_t value);
void series_print(const char *name, struct series *s, double ns_per_unit);
uint64_t tsc(void);
uint64_t now_ns(void);

/* msg-latency.c */
int ping(int fd, const struct options *o);
int call(int fd, const struct options *o);

/* msg-throughput.c */
int measure(int fd, const struct options *o, __u32 what);
int stream_all(int fd, const struct options *o);

/* msg-packet.c */
int send_packets(int fd, const struct options *o);
int receive_packets(int fd, const struct options *o);

/* msg-group.c */
int group_verb(int fd, const char *verb, const char *name);

/* msg-corrupt.c */
int corrupt_verb(int fd, const struct options *o, const char *what);

#endif
