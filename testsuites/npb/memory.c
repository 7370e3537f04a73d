// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "npb.h"

void *need_memory(uint64_t bytes)
{
	void *memory = malloc(bytes);

	if (!memory) {
		fprintf(stderr, "npb: no memory: %llu MiB were needed at once\n",
			(unsigned long long)bytes >> 20);
		exit(3);
	}
	return memory;
}
