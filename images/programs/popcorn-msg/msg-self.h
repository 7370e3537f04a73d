/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_MSG_SELF_H
#define POPCORN_MSG_SELF_H

#include <stdbool.h>

#include <linux/types.h>

#define SELF	"/proc/popcorn/self"

bool read_own_id(__u32 *id);

#endif /* POPCORN_MSG_SELF_H */
