// SPDX-License-Identifier: Apache-2.0
/*
 * npb BENCHMARK CLASS: run one benchmark and print one line of JSON.
 *
 * The number of threads is OMP_NUM_THREADS, or that of the CPUs.  Exits 1
 * when the results are not those of the specification.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npb.h"

static const struct benchmark {
	const char *name;
	bool (*run)(char class, struct result *result);
} benchmarks[] = {
	{ "is", run_is },
	{ "cg", run_cg },
	{ "ft", run_ft },
};

int main(int argc, char **argv)
{
	const struct benchmark *benchmark = NULL;
	struct result result;

	if (argc != 3 || strlen(argv[2]) != 1) {
		fprintf(stderr, "usage: npb is|cg|ft S|W|A|B\n");
		return 2;
	}
	for (unsigned int i = 0; i < sizeof(benchmarks) / sizeof(*benchmarks); i++)
		if (!strcmp(argv[1], benchmarks[i].name))
			benchmark = &benchmarks[i];
	if (!benchmark) {
		fprintf(stderr, "npb: no benchmark %s, only is, cg and ft\n", argv[1]);
		return 2;
	}
	if (!benchmark->run(argv[2][0], &result)) {
		fprintf(stderr, "npb: no class %s, only S, W, A and B\n", argv[2]);
		return 2;
	}
	printf("{\"benchmark\": \"%s\", \"class\": \"%s\", \"threads\": %d, \"time_s\": %.6f, \"mop_s\": %.3f, \"verified\": %s}\n",
	       benchmark->name, argv[2], omp_get_max_threads(), result.time_s,
	       result.time_s > 0 ? result.operations / result.time_s * 1e-6 : 0.0,
	       result.verified ? "true" : "false");
	return result.verified ? 0 : 1;
}
