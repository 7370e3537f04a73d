// SPDX-License-Identifier: Apache-2.0
/*
 * npb-mpi BENCHMARK CLASS: run one benchmark in all processes of an MPI job;
 * the first of them prints one line of JSON.
 *
 * Exits 1 when the results are not those of the specification.
 */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "parts.h"

static const struct benchmark {
	const char *name;
	bool (*run)(char class, struct result *result);
} benchmarks[] = {
	{ "is", run_is },
	{ "cg", run_cg },
	{ "ft", run_ft },
};

int my_rank, nr_ranks;

double begin_time(void)
{
	MPI_Request request;

	MPI_Ibarrier(MPI_COMM_WORLD, &request);
	await(&request);
	return MPI_Wtime();
}

double end_time(double began)
{
	double taken = MPI_Wtime() - began;
	MPI_Request request;

	MPI_Iallreduce(MPI_IN_PLACE, &taken, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD, &request);
	await(&request);
	return taken;
}

/* What every process found out, in every process. */
static int run(int argc, char **argv, struct result *result)
{
	const struct benchmark *benchmark = NULL;
	MPI_Request request;

	if (argc != 3 || strlen(argv[2]) != 1) {
		if (!my_rank)
			fprintf(stderr, "usage: npb-mpi is|cg|ft S|W|A|B\n");
		return 2;
	}
	for (unsigned int i = 0; i < sizeof(benchmarks) / sizeof(*benchmarks); i++)
		if (!strcmp(argv[1], benchmarks[i].name))
			benchmark = &benchmarks[i];
	if (!benchmark) {
		if (!my_rank)
			fprintf(stderr, "npb-mpi: no benchmark %s, only is, cg and ft\n", argv[1]);
		return 2;
	}
	if (!benchmark->run(argv[2][0], result)) {
		if (!my_rank)
			fprintf(stderr, "npb-mpi: no class %s, only S, W, A and B\n", argv[2]);
		return 2;
	}
	MPI_Iallreduce(MPI_IN_PLACE, &result->verified, 1, MPI_C_BOOL, MPI_LAND, MPI_COMM_WORLD, &request);
	await(&request);
	return result->verified ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct result result = { .verified = false };
	int status;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
	MPI_Comm_size(MPI_COMM_WORLD, &nr_ranks);
	status = run(argc, argv, &result);
	if (!my_rank && status < 2)
		printf("{\"benchmark\": \"%s\", \"class\": \"%s\", \"ranks\": %d, \"time_s\": %.6f, \"mop_s\": %.3f, \"verified\": %s}\n",
		       argv[1], argv[2], nr_ranks, result.time_s,
		       result.time_s > 0 ? result.operations / result.time_s * 1e-6 : 0.0,
		       result.verified ? "true" : "false");
	MPI_Finalize();
	return status;
}
