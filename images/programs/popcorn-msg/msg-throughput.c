// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many messages, and how many bytes, get across.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "msg-failed.h"
#include "msg-self.h"
#include "msg.h"

#define KERNELS	"/proc/popcorn/messages"

#define NR_KERNELS_MAX	512

static const char * const names[] = { "stream", "copy", "call", "fanout" };

/*
 * One line; returns an errno.  The stamps place it in time against what other
 * kernels did: the time stamp counter is the same in all.
 */
static int measure_one(int fd, const struct options *o, __u32 what, __u32 to)
{
	struct popcorn_measure m = {
		.what = what, .kernel = to, .len = o->len, .count = o->count,
	};
	uint64_t begin = tsc();
	int error = ioctl(fd, POPCORN_IOC_MEASURE, &m) ? errno : 0;
	double s = m.ns / 1e9;

	printf("{\"verb\": \"%s\", \"to\": %u, \"count\": %u, \"bytes\": %u, ", names[what], to,
	       m.count, m.len);
	if (error)
		printf("\"error\": \"%s\"}\n", reason(error));
	else
		printf("\"delivered\": %llu, \"ns\": %llu, \"begin_tsc\": %llu, \"end_tsc\": %llu, "
		       "\"per_s\": %.0f, \"bytes_per_s\": %.0f}\n",
		       (unsigned long long)m.delivered, (unsigned long long)m.ns,
		       (unsigned long long)begin, (unsigned long long)tsc(),
		       s > 0 ? m.delivered / s : 0,
		       s > 0 ? m.delivered * (double)m.len / s : 0);
	return error;
}

int measure(int fd, const struct options *o, __u32 what)
{
	errno = measure_one(fd, o, what, o->to);
	if (errno)
		failed(names[what]);
	return 0;
}

static size_t reachable_kernels(unsigned int *ids)
{
	unsigned int id, reachable;
	char line[512];
	size_t nr = 0;
	FILE *kernels = fopen(KERNELS, "r");

	if (!kernels)
		failed(KERNELS);
	while (nr < NR_KERNELS_MAX && fgets(line, sizeof(line), kernels))
		if (sscanf(line, "%u %u", &id, &reachable) == 2 && reachable)
			ids[nr++] = id;
	fclose(kernels);
	return nr;
}

/*
 * To each kernel that can be reached, one after the other.  Each kernel begins
 * with the one behind it: when all do this, they do not all begin with the same.
 */
int stream_all(int fd, const struct options *o)
{
	unsigned int ids[NR_KERNELS_MAX];
	size_t nr, first = 0, i;
	int failures = 0;
	__u32 self;

	if (!read_own_id(&self))
		failed(SELF);
	nr = reachable_kernels(ids);
	while (first < nr && ids[first] < self)
		first++;
	for (i = 0; i < nr; i++)
		failures += !!measure_one(fd, o, POPCORN_MEASURE_STREAM, ids[(first + i) % nr]);
	return failures ? 1 : 0;
}
