// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-vty serve: the remote half of popcorn-vty exec.
 *
 * It is started from the login shell on /dev/vty0 by a line that the client
 * types, runs one command and gives the line back to the shell.  A client
 * that was killed is noticed by its silence, or by the next client: that one
 * types its line at this process instead of the shell, and is served here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vty-line.h"

#define BREAK_MS	4000	/* ^C: how long a new session may take */
#define BYE_MS		2000	/* the client's thanks for the status */
#define MAX_COMMAND	(1 << 20)	/* bytes of argv */

#define TYPED		"popcorn-vty serve "

enum state { WAITING, RUNNING, ENDING };

struct server {
	struct line line;
	enum state state;
	long long deadline;	/* of silence, ms */
	char *argv;		/* NUL-terminated strings */
	size_t argv_len;
	pid_t child;
	int child_status;
	bool ran;		/* a command began in this session */
	bool child_gone;
	int out[2];		/* read ends of the child's two streams */
	int rest[2];		/* bytes it left in them when it ended */
	int signals;
};

/* The child may not have made its own session yet. */
static void kill_command(struct server *s)
{
	if (kill(-s->child, SIGKILL) && !s->child_gone)
		kill(s->child, SIGKILL);
}

static void close_streams(struct server *s)
{
	for (int i = 0; i < 2; i++) {
		if (s->out[i] >= 0)
			close(s->out[i]);
		s->out[i] = -1;
	}
}

static void forget_command(struct server *s)
{
	if (s->child > 0) {
		kill_command(s);
		if (!s->child_gone)
			waitpid(s->child, NULL, 0);
	}
	close_streams(s);
	s->child = 0;
	s->child_gone = false;
	s->argv_len = 0;
	s->state = WAITING;
}

static void begin(struct server *s, const char *token)
{
	bool cut = !line_idle(&s->line);

	forget_command(s);
	s->ran = false;
	s->line.rx_seq = 0;
	line_begin(&s->line, token);
	if (cut)
		line_queue_text(&s->line, "\n");
	line_queue(&s->line, FRAME_HELLO, "1", 1);
	s->deadline = now_ms() + SERVE_SILENCE_MS;
}

/* The last word of a session.  BYE_MS begin when the line has taken it. */
static void end(struct server *s, char type, const char *text)
{
	line_queue(&s->line, type, text, strlen(text));
	s->state = ENDING;
	s->deadline = now_ms() + SERVE_SILENCE_MS;
}

static void refuse(struct server *s, const char *why)
{
	char text[128];

	snprintf(text, sizeof(text), "%s%s", why,
		 s->ran ? "; " MAY_HAVE_RUN : "");
	end(s, FRAME_REFUSED, text);
}

static void child_main(char **argv, int out, int err)
{
	sigset_t none;
	int null = open("/dev/null", O_RDONLY);

	/* No controlling terminal: the line belongs to the frames. */
	setsid();
	dup2(null, 0);
	dup2(out, 1);
	dup2(err, 2);
	for (int fd = 3; fd < 16; fd++)
		close(fd);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	/* A small image has no links for busybox's many names. */
	if (errno == ENOENT && !strchr(argv[0], '/')) {
		execv("/bin/busybox", argv);
		errno = ENOENT;
	}
	dprintf(2, "popcorn-vty: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static void run(struct server *s)
{
	int out[2], err[2];
	size_t count = 0;
	char **argv;

	for (size_t i = 0; i < s->argv_len; i++)
		count += !s->argv[i];
	argv = calloc(count + 1, sizeof(*argv));
	if (!argv || !count || s->argv[s->argv_len - 1]) {
		refuse(s, "the command is malformed");
		return;
	}
	count = 0;
	for (size_t i = 0; i < s->argv_len; i += strlen(s->argv + i) + 1)
		argv[count++] = s->argv + i;

	if (pipe2(out, O_CLOEXEC)) {
		refuse(s, strerror(errno));
		return;
	}
	if (pipe2(err, O_CLOEXEC)) {
		close(out[0]);
		close(out[1]);
		refuse(s, strerror(errno));
		return;
	}
	s->child = fork();
	if (!s->child)
		child_main(argv, out[1], err[1]);
	free(argv);
	close(out[1]);
	close(err[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	s->out[0] = out[0];
	s->out[1] = err[0];
	if (s->child < 0) {
		refuse(s, strerror(errno));
		return;
	}
	s->ran = true;
	s->state = RUNNING;
}

static void handle(struct server *s, const struct frame *frame)
{
	char *grown;

	switch (frame->type) {
	case FRAME_ARGV:
		if (s->state != WAITING)
			break;
		if (s->argv_len + frame->len > MAX_COMMAND) {
			refuse(s, "the command is longer than 1 MiB");
			break;
		}
		grown = realloc(s->argv, s->argv_len + frame->len + 1);
		if (!grown) {
			refuse(s, "no memory for the command");
			break;
		}
		s->argv = grown;
		memcpy(s->argv + s->argv_len, frame->data, frame->len);
		s->argv_len += frame->len;
		break;
	case FRAME_RUN:
		if (s->state != WAITING)
			break;
		if (strtoul((const char *)frame->data, NULL, 10) == s->argv_len)
			run(s);
		else
			refuse(s, "the command did not arrive whole");
		break;
	case FRAME_PING:
		if (s->state != ENDING && line_can_queue(&s->line))
			line_queue(&s->line, FRAME_PONG, "", 0);
		break;
	case FRAME_QUIT:
		if (s->state == RUNNING)
			kill_command(s);
		else if (s->state == WAITING)
			refuse(s, "no command was run");
		break;
	}
}

/* Pass on one read of one stream; false when there was nothing. */
static bool forward(struct server *s, int which)
{
	unsigned char data[FRAME_DATA];
	size_t want = sizeof(data);
	ssize_t n;

	if (s->child_gone && (size_t)s->rest[which] < want)
		want = s->rest[which];
	if (!want || s->out[which] < 0 || !line_can_queue(&s->line))
		return false;
	n = read(s->out[which], data, want);
	if (n > 0) {
		s->rest[which] -= s->child_gone ? n : 0;
		line_queue(&s->line, which ? FRAME_STDERR : FRAME_STDOUT,
			   data, n);
		return true;
	}
	if (!n || errno != EAGAIN) {
		close(s->out[which]);
		s->out[which] = -1;
	}
	return false;
}

/*
 * The command has ended: what it wrote is passed on, what its surviving
 * children may still write is not waited for.
 */
static void finish(struct server *s)
{
	char text[12];
	bool exited = WIFEXITED(s->child_status);

	while (line_can_queue(&s->line))
		if (!forward(s, 0) && !forward(s, 1))
			break;
	if (!line_can_queue(&s->line))
		return;
	snprintf(text, sizeof(text), "%d",
		 exited ? WEXITSTATUS(s->child_status) :
			  WTERMSIG(s->child_status));
	end(s, exited ? FRAME_EXITED : FRAME_SIGNALED, text);
	close_streams(s);
	s->child = 0;
}

static void look_after_child(struct server *s)
{
	if (s->child <= 0 || s->child_gone ||
	    waitpid(s->child, &s->child_status, WNOHANG) != s->child)
		return;
	s->child_gone = true;
	for (int i = 0; i < 2; i++)
		if (s->out[i] < 0 || ioctl(s->out[i], FIONREAD, &s->rest[i]))
			s->rest[i] = 0;
}

/* Handle all input that was read; false when the session is over. */
static bool digest(struct server *s)
{
	struct frame frame;

	for (;;) {
		const char *typed;

		switch (line_next(&s->line, &frame)) {
		case LINE_NOTHING:
			return true;
		case LINE_TEXT:
			typed = strstr(s->line.text, TYPED);
			if (typed && strlen(typed) >= sizeof(TYPED) - 1 + TOKEN_LEN)
				begin(s, typed + sizeof(TYPED) - 1);
			break;
		case LINE_DAMAGED:
			if (s->state == ENDING)
				break;
			forget_command(s);
			refuse(s, "a frame was damaged on the line");
			break;
		case LINE_BREAK:
			if (s->state == RUNNING) {
				forget_command(s);
				refuse(s, "^C on its line killed the command");
			} else if (s->state == WAITING) {
				s->argv_len = 0;
			}
			s->deadline = now_ms() + BREAK_MS;
			break;
		case LINE_FRAME:
			if (frame.type == FRAME_BYE) {
				/* Somebody else's line may follow at once. */
				if (s->line.input_start == s->line.input_end)
					return false;
				forget_command(s);
				s->deadline = now_ms() + BREAK_MS;
				break;
			}
			if (s->state != ENDING || !line_idle(&s->line))
				s->deadline = now_ms() + SERVE_SILENCE_MS;
			handle(s, &frame);
			break;
		}
	}
}

/*
 * The client was silent for too long.  It may be slow and not dead, so it
 * gets to know what became of its command; when that never began, it may
 * begin a new session.
 */
static void leave(struct server *s)
{
	if (s->state == ENDING)
		return;
	if (s->ran)
		refuse(s, "its caller was silent, so it was killed");
	else
		end(s, FRAME_LEFT, "");
	line_drain(&s->line);
}

static void serve(struct server *s)
{
	while (now_ms() < s->deadline) {
		bool sending = !line_idle(&s->line);
		long long wait = s->deadline - now_ms();
		struct pollfd fds[4];

		if (line_flush(&s->line))
			return;
		if (sending && line_idle(&s->line) && s->state == ENDING)
			s->deadline = now_ms() + BYE_MS;
		if (s->state == RUNNING && s->child_gone && line_idle(&s->line)) {
			finish(s);
			continue;
		}
		sending = !line_idle(&s->line);
		/* A line that forgets to wake its writer costs time only. */
		if (sending && wait > RETRY_MS)
			wait = RETRY_MS;
		fds[0] = (struct pollfd){ s->line.fd,
			POLLIN | (sending ? POLLOUT : 0), 0 };
		fds[1] = (struct pollfd){ s->signals, POLLIN, 0 };
		fds[2] = (struct pollfd){ sending ? -1 : s->out[0], POLLIN, 0 };
		fds[3] = (struct pollfd){ sending ? -1 : s->out[1], POLLIN, 0 };
		if (poll(fds, 4, wait > 0 ? wait : 0) < 0 && errno != EINTR)
			return;
		if (fds[1].revents & POLLIN) {
			struct signalfd_siginfo info;

			if (read(s->signals, &info, sizeof(info)) < 0)
				return;
		}
		look_after_child(s);
		if (!sending && (fds[2].revents || fds[3].revents)) {
			forward(s, 0);
			forward(s, 1);
		}
		if (line_fill(&s->line) < 0 || !digest(s))
			return;
	}
	leave(s);
}

int vty_serve(const char *token)
{
	static struct server s;
	struct termios saved;
	sigset_t chld;
	int known;

	if (strlen(token) != TOKEN_LEN) {
		dprintf(2, "popcorn-vty: serve wants a token of %d characters\n",
			TOKEN_LEN);
		return EXIT_PROTOCOL;
	}
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	s.signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);

	/* An open file of its own: O_NONBLOCK must not reach the shell. */
	s.line.fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (s.line.fd < 0)
		s.line.fd = open("/proc/self/fd/0", O_RDWR | O_NOCTTY |
				 O_NONBLOCK | O_CLOEXEC);
	known = s.line.fd < 0 ? -1 : tcgetattr(s.line.fd, &saved);
	if (known || s.signals < 0) {
		dprintf(2, "popcorn-vty: serve works on a terminal: %s\n",
			strerror(errno));
		return EXIT_PROTOCOL;
	}
	set_raw(s.line.fd);
	s.out[0] = -1;
	s.out[1] = -1;
	begin(&s, token);
	serve(&s);
	forget_command(&s);

	/* If a killed predecessor left the line raw, the shell gets it sane. */
	if (!(saved.c_lflag & ICANON)) {
		saved.c_iflag |= ICRNL;
		saved.c_oflag |= OPOST | ONLCR;
		saved.c_lflag |= ICANON | ECHO | ECHOE | ECHOK | ISIG | IEXTEN;
	}
	tcsetattr(s.line.fd, TCSANOW, &saved);
	return 0;
}
