// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a kernel that failed could do to another one.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "msg-failed.h"
#include "msg-usage.h"
#include "msg.h"

static int corrupt(int fd, const struct options *o, const char *name, __u32 what)
{
	struct popcorn_corrupt request = {
		.kernel = o->to,
		.what = what,
		.count = o->count,
		.seed = o->seed,
	};

	if (ioctl(fd, POPCORN_IOC_CORRUPT, &request))
		failed("corrupt");
	printf("{\"verb\": \"corrupt\", \"kernel\": %u, \"what\": \"%s\", \"words\": %u}\n",
	       o->to, name, o->count);
	return 0;
}

int corrupt_verb(int fd, const struct options *o, const char *what)
{
	static const struct {
		const char *name;
		__u32 what;
	} things[] = {
		{ "inbox", POPCORN_CORRUPT_INBOX },
		{ "netbox", POPCORN_CORRUPT_NETBOX },
		{ "registry", POPCORN_CORRUPT_REGISTRY },
	};
	size_t i;

	for (i = 0; what && i < sizeof(things) / sizeof(things[0]); i++)
		if (!strcmp(what, things[i].name))
			return corrupt(fd, o, what, things[i].what);
	misused("corrupt: expected inbox, netbox or registry, found '%s'", what ? what : "");
}
