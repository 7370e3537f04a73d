// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-vty: commands and sessions on other kernels, through the virtual
 * TTY that joins each pair of them.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "vty-line.h"

static const char usage[] =
"usage: popcorn-vty exec [--timeout S] [--connect-timeout S] ID -- CMD [ARG]...\n"
"       popcorn-vty connect ID\n"
"       popcorn-vty serve TOKEN\n"
"\n"
"exec     run CMD on kernel ID, its input being empty; exits like CMD, with\n"
"         124 when it took longer than --timeout, 125 when the line failed\n"
"connect  talk to the login shell of kernel ID, until Enter ~ .\n"
"serve    the far end of exec, started by it\n"
"\n"
"--device PATH names the line where it is not /dev/vtyID.\n";

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "exec"))
		return vty_exec(argc - 1, argv + 1);
	if (!strcmp(verb, "connect"))
		return vty_connect(argc - 1, argv + 1);
	if (!strcmp(verb, "serve") && argc == 3)
		return vty_serve(argv[2]);
	dprintf(2, "%s", usage);
	return EXIT_PROTOCOL;
}
