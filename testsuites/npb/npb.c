// SPDX-License-Identifier: Apache-2.0
/* npb BENCHMARK CLASS: the NAS benchmarks in one program. */
#include <stdio.h>

int main(void)
{
	fprintf(stderr, "npb: no benchmark is built in\n");
	return 2;
}
