// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-vty exec: run a command on another kernel, through the login shell
 * at the far end of a virtual TTY.  See vty-serve.c for the other half.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vty-line.h"

#define CONNECT_S	30	/* the shell at the far end has that long */
#define LOCK_S		600	/* and whoever has the line before us */
#define FIRST_TRY_MS	1500	/* doubled with each try */
#define INTERRUPT_MS	500	/* for the effect of ^C at the far end */
#define SESSIONS	4	/* that may end before the command began */
#define GRACE_MS	10000	/* from a kill to the status */

struct client {
	struct line line;
	const char *id;
	const char *argv;	/* NUL-terminated strings */
	size_t argv_len, argv_sent;
	bool started;		/* the server said hello */
	bool asked;		/* the command was sent whole */
	bool left;		/* the server ended before it ran anything */
	bool quitting;
	int result;		/* exit status, -1: not known yet */
	int forced;		/* what overrides the command's own, or -1 */
	long long heard, ping, quit_deadline;
	/* One frame's payload on its way to one of our own two streams. */
	int sink;
	size_t sink_len, sink_done;
	unsigned char sink_data[FRAME_DATA];
};

static volatile sig_atomic_t caught;

static void catch(int sig)
{
	caught = sig;
}

static int fail(const struct client *c, const char *what)
{
	dprintf(2, "popcorn-vty: kernel %s: %s\n", c->id, what);
	return EXIT_PROTOCOL;
}

/* The same when it is too late to say that nothing was run. */
static int fail_late(const struct client *c, const char *what)
{
	dprintf(2, "popcorn-vty: kernel %s: %s%s\n", c->id, what,
		c->asked ? "; " MAY_HAVE_RUN : "");
	return EXIT_PROTOCOL;
}

static void make_token(char *token)
{
	struct timespec ts;
	uint64_t v;

	clock_gettime(CLOCK_REALTIME, &ts);
	v = (uint64_t)ts.tv_sec << 30 ^ ts.tv_nsec;
	v ^= (uint64_t)getpid() << 44;
	for (int i = 0; i < TOKEN_LEN; i++, v >>= 4)
		token[i] = "0123456789abcdef"[v & 15];
}

/*
 * Each line that is typed asks for a session of its own: had two servers the
 * same token, one could run what the other has said it will not.
 */
static void type_command(struct client *c)
{
	char token[TOKEN_LEN + 1], text[64 + TOKEN_LEN];

	make_token(token);
	line_begin(&c->line, token);
	/*
	 * ^U drops a half-typed line, and the newline ends what it does not
	 * drop: where a server was killed, the terminal is raw.
	 */
	snprintf(text, sizeof(text), "\025\n popcorn-vty serve %s\n",
		 c->line.token);
	line_queue_text(&c->line, text);
}

/* Get a server at the far end, or return an exit status. */
static int shake_hands(struct client *c, int connect_s)
{
	long long now = now_ms(), deadline = now + connect_s * 1000LL;
	long long pause = FIRST_TRY_MS, next = now;
	struct frame frame;
	const char *ended;
	bool interrupt = false;

	while (!c->started) {
		struct pollfd pfd = { c->line.fd, POLLIN, 0 };
		long long wait;

		now = now_ms();
		if (caught)
			return 128 + caught;
		ended = kernel_ended(c->id);
		if (ended)
			return fail(c, ended);
		if (now >= deadline)
			return fail(c, "no shell answers on its line");
		if (now >= next && line_idle(&c->line)) {
			/*
			 * That was not enough: ^C ends what runs there.  A
			 * shell drops a line that comes together with it.
			 */
			if (interrupt) {
				line_queue_text(&c->line, "\003");
				next = now + INTERRUPT_MS;
			} else {
				type_command(c);
				next = now + pause;
				pause *= 2;
			}
			interrupt = !interrupt;
		}
		if (line_flush(&c->line))
			return fail(c, strerror(errno));
		wait = (next < deadline ? next : deadline) - now;
		if (wait > LOOK_MS)
			wait = LOOK_MS;
		if (!line_idle(&c->line)) {
			pfd.events |= POLLOUT;
			if (wait > RETRY_MS || wait <= 0)
				wait = RETRY_MS;
		}
		poll(&pfd, 1, wait > 0 ? wait : 0);
		if (line_fill(&c->line) < 0)
			return fail(c, "its line was hung up");
		for (;;) {
			enum line_event event = line_next(&c->line, &frame);

			if (event == LINE_NOTHING)
				break;
			if (event == LINE_FRAME && frame.type == FRAME_HELLO) {
				c->started = true;
				break;
			}
		}
	}
	return -1;
}

static void queue_command(struct client *c)
{
	char text[24];

	while (c->argv_sent < c->argv_len && line_can_queue(&c->line)) {
		size_t n = c->argv_len - c->argv_sent;

		if (n > FRAME_DATA)
			n = FRAME_DATA;
		line_queue(&c->line, FRAME_ARGV, c->argv + c->argv_sent, n);
		c->argv_sent += n;
	}
	if (c->argv_sent == c->argv_len && line_can_queue(&c->line)) {
		snprintf(text, sizeof(text), "%zu", c->argv_len);
		line_queue(&c->line, FRAME_RUN, text, strlen(text));
		c->asked = true;
	}
}

/* Have the command killed; its status comes as usual, but is overridden. */
static void quit(struct client *c, int status)
{
	if (c->quitting)
		return;
	c->quitting = true;
	c->forced = status;
	c->quit_deadline = now_ms() + GRACE_MS;
	line_queue(&c->line, FRAME_QUIT, "", 0);
	/* What nobody takes any more must not keep us from the status. */
	if (status != EXIT_TIMED_OUT)
		c->sink_done = c->sink_len;
}

static void handle(struct client *c, const struct frame *frame)
{
	switch (frame->type) {
	case FRAME_STDOUT:
	case FRAME_STDERR:
		if (c->quitting && c->forced != EXIT_TIMED_OUT)
			break;
		c->sink = frame->type == FRAME_STDOUT ? 1 : 2;
		c->sink_len = frame->len;
		c->sink_done = 0;
		memcpy(c->sink_data, frame->data, frame->len);
		break;
	case FRAME_EXITED:
		c->result = atoi((const char *)frame->data) & 255;
		break;
	case FRAME_SIGNALED:
		c->result = 128 + (atoi((const char *)frame->data) & 127);
		break;
	case FRAME_LEFT:
		c->left = true;
		break;
	case FRAME_REFUSED:
		c->result = c->quitting ? c->forced :
			    fail(c, (const char *)frame->data);
		break;
	}
}

/* Our streams are blocking, and we must not: a pipe has room or is not ready. */
static void drain_sink(struct client *c)
{
	struct pollfd pfd = { c->sink, POLLOUT, 0 };
	ssize_t n;

	if (poll(&pfd, 1, 0) <= 0)
		return;
	n = write(c->sink, c->sink_data + c->sink_done,
		  c->sink_len - c->sink_done);
	if (n >= 0) {
		c->sink_done += n;
	} else if (errno != EAGAIN && errno != EINTR) {
		c->sink_done = c->sink_len;
		quit(c, 128 + SIGPIPE);
	}
}

/* Have the server run the command; an exit status, or -1 when it left before. */
static int converse(struct client *c, int timeout_s)
{
	long long now = now_ms();
	long long deadline = timeout_s ? now + timeout_s * 1000LL : 0;
	struct frame frame;
	const char *ended;

	c->heard = now;
	c->ping = now + PING_MS;
	while (c->result < 0 && !c->left) {
		struct pollfd fds[3];
		long long wait;
		bool full;
		int n;

		if (caught)
			quit(c, 128 + caught);
		/* By the time before our last look at the line: we may stand still. */
		if (deadline && now >= deadline && !c->quitting) {
			dprintf(2, "popcorn-vty: kernel %s: the command was killed after %d s\n",
				c->id, timeout_s);
			quit(c, EXIT_TIMED_OUT);
		}
		if (c->quitting && now >= c->quit_deadline) {
			fail(c, "the command may still be running");
			return c->forced;
		}
		if (now - c->heard >= CLIENT_SILENCE_MS)
			return fail_late(c, "it stopped answering");
		now = now_ms();
		full = c->sink_done < c->sink_len;
		if (full)
			c->heard = now;	/* we are not listening */
		if (!c->asked && !c->quitting)
			queue_command(c);
		if (now >= c->ping) {
			if (line_can_queue(&c->line))
				line_queue(&c->line, FRAME_PING, "", 0);
			c->ping = now + PING_MS;
		}
		if (line_flush(&c->line))
			return fail_late(c, strerror(errno));

		wait = c->ping - now;
		if (!c->asked && !c->quitting && line_idle(&c->line))
			wait = 0;
		if (wait > LOOK_MS)
			wait = LOOK_MS;
		if (deadline && !c->quitting && deadline - now < wait)
			wait = deadline - now;
		if (!line_idle(&c->line) && wait > RETRY_MS)
			wait = RETRY_MS;
		fds[0] = (struct pollfd){ c->line.fd, (full ? 0 : POLLIN) |
			(line_idle(&c->line) ? 0 : POLLOUT), 0 };
		fds[1] = (struct pollfd){ full || !c->quitting ? 1 : -1,
			full && c->sink == 1 ? POLLOUT : 0, 0 };
		fds[2] = (struct pollfd){ full && c->sink == 2 ? 2 : -1,
			POLLOUT, 0 };
		poll(fds, 3, wait > 0 ? wait : 0);
		/* Nobody is left to read what the command prints. */
		if (fds[1].revents & (POLLERR | POLLNVAL)) {
			c->sink_done = c->sink_len;
			quit(c, 128 + SIGPIPE);
			continue;
		}
		if (full) {
			if (fds[c->sink].revents)
				drain_sink(c);
			continue;
		}
		n = line_fill(&c->line);
		if (n < 0)
			return fail_late(c, "its line was hung up");
		ended = kernel_ended(c->id);
		if (!n && ended)
			return fail_late(c, ended);
		while (c->result < 0 && c->sink_done == c->sink_len) {
			enum line_event event = line_next(&c->line, &frame);

			if (event == LINE_NOTHING)
				break;
			if (event == LINE_DAMAGED)
				return fail_late(c, "the answer was damaged on the line");
			if (event != LINE_FRAME)
				continue;
			c->heard = now_ms();
			handle(c, &frame);
			if (c->sink_done < c->sink_len)
				drain_sink(c);
		}
	}
	return c->forced >= 0 ? c->forced : c->result;
}

static void say_bye(struct client *c)
{
	if (kernel_ended(c->id))
		return;
	line_queue(&c->line, FRAME_BYE, "", 0);
	line_drain(&c->line);
}

/*
 * One session after the other until the command began.  A host that has no
 * time for us can make a server give us up between its hello and our command.
 */
static int hold_session(struct client *c, int connect_s, int timeout_s)
{
	for (int tries = 0; tries < SESSIONS; tries++) {
		int status;

		c->argv_sent = 0;
		c->started = false;
		c->asked = false;
		c->left = false;
		status = shake_hands(c, connect_s);
		if (status >= 0)
			return status;
		status = converse(c, timeout_s);
		if (status >= 0) {
			say_bye(c);
			return status;
		}
	}
	return fail(c, "its shell left again and again");
}

int vty_exec(int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "connect-timeout", required_argument, NULL, 'c' },
		{ "device", required_argument, NULL, 'd' },
		{ 0 }
	};
	static struct client c = { .result = -1, .forced = -1 };
	int timeout_s = 0, connect_s = CONNECT_S, option;
	const char *device = NULL;
	char *joined, *to;
	struct sigaction action = { .sa_handler = catch };

	while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (option == 't')
			timeout_s = atoi(optarg);
		else if (option == 'c')
			connect_s = atoi(optarg);
		else if (option == 'd')
			device = optarg;
		else
			return EXIT_PROTOCOL;
	}
	c.id = argv[optind];
	if (argc - optind > 1 && !strcmp(argv[optind + 1], "--"))
		optind++;
	argv += optind + 1;
	if (!c.id || argc - optind < 2) {
		dprintf(2, "popcorn-vty: exec wants a kernel id and a command\n");
		return EXIT_PROTOCOL;
	}
	for (char **arg = argv; *arg; arg++)
		c.argv_len += strlen(*arg) + 1;
	joined = to = malloc(c.argv_len);
	if (!joined)
		return fail(&c, strerror(errno));
	for (char **arg = argv; *arg; arg++)
		to = stpcpy(to, *arg) + 1;
	c.argv = joined;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	c.line.fd = open_vty(c.id, device, timeout_s ? timeout_s : LOCK_S);
	if (c.line.fd < 0)
		return EXIT_PROTOCOL;
	return hold_session(&c, connect_s, timeout_s);
}
