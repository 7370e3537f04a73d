// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>

#include "is.h"

static const struct is_class classes[] = {
	{ 'S', 16, 11, { { 48427, 0, 1 }, { 17148, 18, 1 }, { 23627, 346, 1 },
			 { 62548, 64917, -1 }, { 4431, 65463, -1 } } },
	{ 'W', 20, 16, { { 357773, 1249 - 2, 1 }, { 934767, 11698 - 2, 1 },
			 { 875723, 1039987, -1 }, { 898999, 1043896, -1 },
			 { 404505, 1048018, -1 } } },
	{ 'A', 23, 19, { { 2112377, 104 - 1, 1 }, { 662041, 17523 - 1, 1 },
			 { 5336171, 123928 - 1, 1 },
			 { 3642833, 8288932 + 1, -1 },
			 { 4250760, 8388264 + 1, -1 } } },
	{ 'B', 25, 21, { { 41869, 33422937, -1 }, { 812306, 10244, 1 },
			 { 5102857, 59149, 1 }, { 18232239, 33135281, -1 },
			 { 26860214, 99, 1 } } },
};

const struct is_class *find_is_class(char name)
{
	for (unsigned int i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		if (classes[i].name == name)
			return &classes[i];
	return NULL;
}

void make_is_keys(const struct is_class *class, uint32_t *key, uint32_t first, uint32_t end)
{
	uint64_t x = nas_skip(NAS_SEED, 4ULL * first);
	double scale = (1u << class->log_max) / 4;

	for (uint32_t i = first; i < end; i++) {
		double sum = nas_random(&x);

		sum += nas_random(&x);
		sum += nas_random(&x);
		sum += nas_random(&x);
		*key++ = scale * sum;
	}
}
