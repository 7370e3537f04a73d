// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-msg: messages between kernels, sent, received and measured.
 *
 * Results are one JSON object on standard output; times are nanoseconds.
 * Exit status: 0 fine, 1 the other side or the kernel refused, 2 usage.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "msg.h"

#define DEVICE	"/dev/popcorn"

static const char usage[] =
	"usage: popcorn-msg ping KERNEL [-n COUNT] [-l BYTES] [-H]\n"
	"       popcorn-msg stream KERNEL|all [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg copy KERNEL [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg call CPU [-n COUNT]\n"
	"       popcorn-msg fanout GROUP [-n COUNT] [-l BYTES]\n"
	"       popcorn-msg group open | close GROUP | join GROUP | leave GROUP\n"
	"       popcorn-msg send KERNEL PORT [-g] <DATA\n"
	"       popcorn-msg receive PORT [-n COUNT] [-t SECONDS]\n"
	"  -n COUNT    how many times (1000)\n"
	"  -l BYTES    payload of each message (0)\n"
	"  -H          high priority\n"
	"  -g          KERNEL is a multicast group\n"
	"  -t SECONDS  give up after so long without a message (never)\n";

static void __attribute__((noreturn)) misused(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("popcorn-msg: ", stderr);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n%s", usage);
	exit(2);
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
	case ETIMEDOUT:
		return "no answer in time";
	case ENOENT:
		return "the group is not open, or this kernel is no member";
	case EALREADY:
		return "this kernel is a member already";
	case ENOTCONN:
		return "this kernel has not joined the others";
	case EADDRINUSE:
		return "another process is bound to the port";
	default:
		return strerror(error);
	}
}

void __attribute__((noreturn)) failed(const char *what)
{
	fprintf(stderr, "popcorn-msg: %s: %s\n", what, reason(errno));
	exit(1);
}

static unsigned long number(const char *text, const char *name, unsigned long most)
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
	static const struct option none[] = { { 0 } };
	int option;

	*o = (struct options) { .count = 1000 };
	/* The long kind, which takes options behind other words as well. */
	while ((option = getopt_long(argc, argv, "n:l:Hgt:", none, NULL)) != -1) {
		switch (option) {
		case 'n':
			o->count = number(optarg, "-n", 1000000000);
			if (!o->count)
				misused("-n: nothing to do");
			break;
		case 'l':
			o->len = number(optarg, "-l", 1UL << 30);
			break;
		case 'H':
			o->high = 1;
			break;
		case 'g':
			o->group = 1;
			break;
		case 't':
			o->timeout_s = number(optarg, "-t", 1000000);
			break;
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
}

static int group_verb(int fd, const char *verb, const char *name)
{
	static const struct {
		const char *verb;
		unsigned long request;
	} verbs[] = {
		{ "close", POPCORN_IOC_CLOSE_GROUP },
		{ "join", POPCORN_IOC_JOIN_GROUP },
		{ "leave", POPCORN_IOC_LEAVE_GROUP },
	};
	__u32 group;
	size_t i;

	if (!verb)
		misused("group: what?");
	if (!strcmp(verb, "open")) {
		if (ioctl(fd, POPCORN_IOC_OPEN_GROUP, &group))
			failed("open a group");
		printf("{\"group\": %u}\n", group);
		return 0;
	}
	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verb, verbs[i].verb))
			continue;
		if (!name)
			misused("group %s: which?", verb);
		group = number(name, "GROUP", 0xffffffff);
		if (ioctl(fd, verbs[i].request, &group))
			failed(verb);
		printf("{\"group\": %u}\n", group);
		return 0;
	}
	misused("group: unknown verb '%s'", verb);
}

int main(int argc, char **argv)
{
	struct options o;
	const char *verb;
	int fd;

	parse_options(argc, argv, &o);
	argv += optind;
	argc -= optind;
	if (argc < 2)
		misused(argc ? "%s: of what?" : "expected a verb", argv[0]);
	verb = argv[0];

	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		failed(DEVICE);
	if (!strcmp(verb, "group"))
		return group_verb(fd, argv[1], argv[2]);
	if (!strcmp(verb, "stream") && !strcmp(argv[1], "all"))
		return stream_all(fd, &o);
	o.kernel = number(argv[1], "KERNEL", 0xffffffff);
	if (!strcmp(verb, "ping"))
		return ping(fd, &o);
	if (!strcmp(verb, "stream"))
		return measure(fd, &o, POPCORN_MEASURE_STREAM);
	if (!strcmp(verb, "copy"))
		return measure(fd, &o, POPCORN_MEASURE_COPY);
	if (!strcmp(verb, "call"))
		return measure(fd, &o, POPCORN_MEASURE_CALL);
	if (!strcmp(verb, "fanout"))
		return measure(fd, &o, POPCORN_MEASURE_GROUP);
	if (!strcmp(verb, "receive"))
		return receive_packets(fd, &o);
	if (!strcmp(verb, "send")) {
		if (argc < 3)
			misused("send: to which port?");
		o.port = number(argv[2], "PORT", 0xffffffff);
		return send_packet(fd, &o);
	}
	misused("unknown verb '%s'", verb);
}
