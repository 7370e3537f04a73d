/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_MSG_FAILED_H
#define POPCORN_MSG_FAILED_H

#include <stddef.h>

#include <linux/types.h>

enum addressee { NOBODY, KERNEL, CPU };

void set_addressee(enum addressee kind, __u32 id);
const char *reason(int error);

/* Exit status 1. */
void __attribute__((noreturn)) failed(const char *what);
void __attribute__((noreturn)) failed_after(const char *what, size_t nr, const char *things);

#endif /* POPCORN_MSG_FAILED_H */
