/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_INIT_COMPLAIN_H
#define POPCORN_INIT_COMPLAIN_H

void complain(const char *what);
void write_to(const char *path, const char *text);

#endif /* POPCORN_INIT_COMPLAIN_H */
