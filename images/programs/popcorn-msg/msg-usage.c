// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the program is called, and what is said of a command line that is none.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "msg-usage.h"

const char usage[] =
	"usage: popcorn-msg ping KERNEL [-n COUNT] [-l BYTES] [-i MICROSECONDS] [-t SECONDS] [-T TYPE]\n"
	"                        [-H] [-v]\n"
	"       popcorn-msg call CPU [-n COUNT] [-i MICROSECONDS]\n"
	"       popcorn-msg stream KERNEL|all [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg copy KERNEL [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg fanout GROUP [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg group open | close GROUP | join GROUP | leave GROUP\n"
	"       popcorn-msg send KERNEL PORT [-e] [-g] [-H] [-N] <DATA\n"
	"       popcorn-msg receive PORT [-n COUNT] [-t SECONDS] [-r]\n"
	"       popcorn-msg corrupt KERNEL inbox|netbox|registry [-n COUNT] [-s SEED]\n"
	"ping: round trips by stage; call: a function call on another CPU of this kernel;\n"
	"stream: until all messages were handled; copy: the same bytes without protocol;\n"
	"corrupt: overwrite words that the kernel reads, if this one was built for that.\n"
	"  -h, --help  print this\n"
	"  -n COUNT    how many times (1000)\n"
	"  -l BYTES    payload of each message (0)\n"
	"  -i MICROSECONDS  pause between two, in which the other side falls asleep (0)\n"
	"  -t SECONDS  give up after so long without an answer (60) or a message (never)\n"
	"  -T TYPE     of messages; one that nobody handles is refused (the one for pings)\n"
	"  -H          high priority\n"
	"  -e          each line is a message\n"
	"  -g          KERNEL is a multicast group\n"
	"  -N          fail rather than wait when the receiver's queue is full\n"
	"  -r          write the payloads and nothing else\n"
	"  -s SEED     of what is overwritten, and with what (0)\n"
	"  -v          a line for each round trip as well, in TSC cycles\n";

void __attribute__((noreturn)) misused(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("popcorn-msg: ", stderr);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n%s", usage);
	exit(2);
}

unsigned long number(const char *text, const char *name, unsigned long most)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || end == text || *end || value > most || *text == '-')
		misused("%s: expected a number up to %lu, found '%s'", name, most, text);
	return value;
}
