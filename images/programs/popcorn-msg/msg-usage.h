/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_MSG_USAGE_H
#define POPCORN_MSG_USAGE_H

extern const char usage[];

/* Exit status 2. */
void __attribute__((noreturn)) misused(const char *format, ...);
unsigned long number(const char *text, const char *name, unsigned long most);

#endif /* POPCORN_MSG_USAGE_H */
