// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include "parts.h"

#define SPINS		20	/* looks before the first sleep */
#define FIRST_NAP_NS	10000
#define LONGEST_NAP_NS	1000000

void await(MPI_Request *request)
{
	struct timespec nap = { 0, FIRST_NAP_NS };
	int done = 0;

	for (int looks = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE), !done; looks++) {
		if (looks < SPINS)
			continue;
		nanosleep(&nap, NULL);
		/* Never much longer than it has waited already. */
		if (nap.tv_nsec < LONGEST_NAP_NS)
			nap.tv_nsec += nap.tv_nsec / 2;
	}
}
