// SPDX-License-Identifier: GPL-2.0-only
/*
 * Multicast groups: a kernel is a member, not a process.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/ioctl.h>

#include "msg.h"

int group_open(int fd)
{
	__u32 group;

	if (ioctl(fd, POPCORN_IOC_OPEN_GROUP, &group))
		failed("group open");
	printf("{\"verb\": \"open\", \"group\": %u}\n", group);
	return 0;
}

/* @verb: close, join or leave, as @request says. */
int group_change(int fd, const char *verb, unsigned long request, __u32 group)
{
	if (ioctl(fd, request, &group)) {
		char what[32];

		snprintf(what, sizeof(what), "group %s", verb);
		failed(what);
	}
	printf("{\"verb\": \"%s\", \"group\": %u}\n", verb, group);
	return 0;
}
