// SPDX-License-Identifier: GPL-2.0-only
/*
 * Multicast groups: a kernel is a member, not a process.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "msg-failed.h"
#include "msg-usage.h"
#include "msg.h"

static int group_open(int fd)
{
	__u32 group;

	if (ioctl(fd, POPCORN_IOC_OPEN_GROUP, &group))
		failed("group open");
	printf("{\"verb\": \"open\", \"group\": %u}\n", group);
	return 0;
}

/* @verb: close, join or leave, as @request says. */
static int group_change(int fd, const char *verb, unsigned long request, __u32 group)
{
	if (ioctl(fd, request, &group)) {
		char what[32];

		snprintf(what, sizeof(what), "group %s", verb);
		failed(what);
	}
	printf("{\"verb\": \"%s\", \"group\": %u}\n", verb, group);
	return 0;
}

int group_verb(int fd, const char *verb, const char *name)
{
	static const struct {
		const char *verb;
		unsigned long request;
	} verbs[] = {
		{ "close", POPCORN_IOC_CLOSE_GROUP },
		{ "join", POPCORN_IOC_JOIN_GROUP },
		{ "leave", POPCORN_IOC_LEAVE_GROUP },
	};
	size_t i;

	if (!strcmp(verb, "open"))
		return group_open(fd);
	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verb, verbs[i].verb))
			continue;
		if (!name)
			misused("group %s: which?", verb);
		return group_change(fd, verb, verbs[i].request, number(name, "GROUP", 0xffffffff));
	}
	misused("group: unknown verb '%s'", verb);
}
