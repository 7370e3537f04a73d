// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which kernel this is.
 */
#include <stdio.h>

#include "msg-self.h"

/* Returns whether that could be read. */
bool read_own_id(__u32 *id)
{
	FILE *self = fopen(SELF, "r");
	bool found = false;
	char line[512];

	if (!self)
		return false;
	while (!found && fgets(line, sizeof(line), self))
		found = sscanf(line, "id: %u", id) == 1;
	fclose(self);
	return found;
}
