// SPDX-License-Identifier: Apache-2.0
/*
 * MPI_Finalize in place of that of MPICH 4.0, which hangs over TCP: it flushes
 * the connections, for which it needs the other processes, and then waits in a
 * barrier of the launcher in which it does nothing for others (MPICH's pull
 * request 6596; mended in 4.2). Here the processes meet, twice, because who ends
 * after the first meeting could take another's last message with it, and each
 * tells the launcher that it is done. Connections end with the processes.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "parts.h"

/* Tell the launcher something; it answers with one line, at once or when all have told it. */
static int tell(int launcher, const char *what)
{
	char byte = 0;

	if (dprintf(launcher, "cmd=%s\n", what) < 0)
		return MPI_ERR_OTHER;
	while (byte != '\n')
		if (read(launcher, &byte, 1) != 1)
			return MPI_ERR_OTHER;
	return MPI_SUCCESS;
}

int MPI_Finalize(void)
{
	const char *launcher = getenv("PMI_FD");
	MPI_Request request;
	int error;

	/* Started by nobody, this process is alone. */
	if (!launcher)
		return PMPI_Finalize();
	MPI_Ibarrier(MPI_COMM_WORLD, &request);
	await(&request);
	error = tell(atoi(launcher), "barrier_in");
	return error ? error : tell(atoi(launcher), "finalize");
}
