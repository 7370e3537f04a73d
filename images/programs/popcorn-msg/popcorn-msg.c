// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-msg: messages between kernels, sent, received and measured.
 *
 * Results are lines on standard output, a JSON object each; times are
 * nanoseconds.  Exit status: 0 fine, 1 the other side or a kernel refused,
 * 2 usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "msg-failed.h"
#include "msg-usage.h"
#include "msg.h"

#define DEVICE	"/dev/popcorn"

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int option;

	*o = (struct options) { .count = 1000 };
	/* The long kind, which takes options behind other words as well. */
	while ((option = getopt_long(argc, argv, "hn:l:i:t:T:s:HegNrv", longs, NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'n':
			o->count = number(optarg, "-n", 1000000000);
			if (!o->count)
				misused("-n: nothing to do");
			break;
		case 'l':
			o->len = number(optarg, "-l", 1UL << 30);
			break;
		case 'i':
			o->pause_us = number(optarg, "-i", 1000000);
			break;
		case 't':
			o->timeout_s = number(optarg, "-t", 1000000);
			break;
		case 'T':
			o->type = number(optarg, "-T", 255);
			break;
		case 's':
			o->seed = number(optarg, "-s", 0xffffffff);
			break;
		case 'H':
			o->high = 1;
			break;
		case 'e':
			o->lines = 1;
			break;
		case 'g':
			o->group = 1;
			break;
		case 'N':
			o->nowait = 1;
			break;
		case 'r':
			o->raw = 1;
			break;
		case 'v':
			o->verbose = 1;
			break;
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
}

static int open_device(const struct options *o)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC | (o->nowait ? O_NONBLOCK : 0));

	if (fd < 0) {
		fprintf(stderr, "popcorn-msg: %s: %s\n", DEVICE, strerror(errno));
		exit(1);
	}
	return fd;
}

static int run(int fd, char **argv, struct options *o)
{
	const char *verb = argv[0], *first = argv[1];

	if (!strcmp(verb, "group"))
		return group_verb(fd, first, argv[2]);
	if (!strcmp(verb, "stream") && !strcmp(first, "all"))
		return stream_all(fd, o);
	o->to = number(first, verb, 0xffffffff);
	if (!strcmp(verb, "call"))
		set_addressee(CPU, o->to);
	else if (strcmp(verb, "fanout") && strcmp(verb, "receive") && !o->group)
		set_addressee(KERNEL, o->to);
	if (!strcmp(verb, "ping"))
		return ping(fd, o);
	if (!strcmp(verb, "call"))
		return call(fd, o);
	if (!strcmp(verb, "stream"))
		return measure(fd, o, POPCORN_MEASURE_STREAM);
	if (!strcmp(verb, "copy"))
		return measure(fd, o, POPCORN_MEASURE_COPY);
	if (!strcmp(verb, "fanout"))
		return measure(fd, o, POPCORN_MEASURE_GROUP);
	if (!strcmp(verb, "receive"))
		return receive_packets(fd, o);
	if (!strcmp(verb, "send")) {
		o->port = number(argv[2], "PORT", 0xffffffff);
		return send_packets(fd, o);
	}
	return corrupt_verb(fd, o, argv[2]);
}

/* Nothing is done for a command line of which a part is not understood. */
static void check_words(int argc, char **argv)
{
	static const struct {
		const char *verb;
		int words;		/* behind it */
		const char *missing;
	} verbs[] = {
		{ "ping", 1, "which kernel?" },
		{ "call", 1, "which CPU?" },
		{ "stream", 1, "to which kernel?" },
		{ "copy", 1, "to which kernel?" },
		{ "fanout", 1, "to which group?" },
		{ "group", 2, "expected open, close, join or leave" },
		{ "send", 2, "to which kernel and port?" },
		{ "receive", 1, "at which port?" },
		{ "corrupt", 2, "of which kernel, and what?" },
	};
	int words;
	size_t i;

	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(argv[0], verbs[i].verb))
			continue;
		words = verbs[i].words;
		/* Opening a group chooses which; of the others, group_verb() asks. */
		if (!strcmp(argv[0], "group") && (argc < 3 || !strcmp(argv[1], "open")))
			words = 1;
		if (argc - 1 < words)
			misused("%s: %s", argv[0], verbs[i].missing);
		if (argc - 1 > words)
			misused("%s: surplus word '%s'", argv[0], argv[1 + words]);
		return;
	}
	misused("unknown verb '%s'", argv[0]);
}

int main(int argc, char **argv)
{
	struct options o;

	parse_options(argc, argv, &o);
	argv += optind;
	argc -= optind;
	if (!argc)
		misused("expected a verb");
	check_words(argc, argv);
	return run(open_device(&o), argv, &o);
}
