// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a kernel that failed could do to another one.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/ioctl.h>

#include "msg.h"

int corrupt(int fd, const struct options *o, const char *name, __u32 what)
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
