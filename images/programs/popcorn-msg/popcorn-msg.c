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
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "msg.h"

#define DEVICE	"/dev/popcorn"

static const char usage[] =
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

/* Whom the verb's first argument names, for what is said when that is refused. */
static enum { NOBODY, KERNEL, CPU } addressee;
static __u32 address;

/* What may not be a destination. */
static const char *invalid(void)
{
	static char text[64];
	__u32 self;

	if (addressee == CPU) {
		snprintf(text, sizeof(text), "this kernel has no other CPU %u", address);
		return text;
	}
	if (addressee == KERNEL && read_own_id(&self) && self == address) {
		snprintf(text, sizeof(text), "this is kernel %u itself", address);
		return text;
	}
	return strerror(EINVAL);
}

/* What an error means here, where errno's own text would mislead. */
const char *reason(int error)
{
	switch (error) {
	case EHOSTUNREACH:
		return "there is no such kernel, or it has not joined";
	case EHOSTDOWN:
		return "the kernel went away without an answer";
	case EMSGSIZE:
		return "the message is too long";
	case EPROTONOSUPPORT:
		return "nobody handles messages of this type there";
	case ECONNREFUSED:
		return "no process of that kernel is bound to the port";
	case EAGAIN:
		return "there is no room at the receiver";
	case ETIMEDOUT:
		return "no answer in time";
	case ETIME:
		return "no message in time";
	case ENOENT:
		return "the group is not open, or this kernel is no member";
	case EALREADY:
		return "this kernel is a member already";
	case ENOSPC:
		return "all groups are open";
	case ENOTCONN:
		return "this kernel has not joined the others";
	case EADDRINUSE:
		return "another process is bound to the port";
	case EIO:
		return "what the other kernel reads from is corrupt";
	case EINVAL:
		return invalid();
	case EOPNOTSUPP:
	case ENOTTY:
		return "this kernel was not built to do that (flavour debug)";
	default:
		return strerror(error);
	}
}

void __attribute__((noreturn)) failed(const char *what)
{
	fprintf(stderr, "popcorn-msg: %s: %s\n", what, reason(errno));
	exit(1);
}

void __attribute__((noreturn)) failed_after(const char *what, size_t nr, const char *things)
{
	fprintf(stderr, "popcorn-msg: %s, after %zu %s: %s\n", what, nr, things, reason(errno));
	exit(1);
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
	address = o->to;
	if (!strcmp(verb, "call"))
		addressee = CPU;
	else if (strcmp(verb, "fanout") && strcmp(verb, "receive") && !o->group)
		addressee = KERNEL;
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
