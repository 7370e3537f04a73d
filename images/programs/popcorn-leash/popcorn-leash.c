// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-leash: a command of an sshd that ends with its connection.
 *
 * Without a terminal dropbear tells a command nothing when its client hangs
 * up: it ends itself, and the command runs on.  So the command gets a process
 * group of its own, which is ended when this program's parent has ended.
 *
 * The exit status is the command's, or 128 + N when it died by signal N.
 * What a command leaves behind when it ends by itself is let be.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* popcorn-vty exec needs up to 10 s to have a command killed at the far end. */
#define GRACE_MS	12000
#define LOOK_MS		20

static void run(char **words, const sigset_t *mask)
{
	setpgid(0, 0);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(words[0], words);
	/* A small image has no links for busybox's many names.  It overlooks a dash before one. */
	if (errno == ENOENT && !strchr(words[0], '/') && words[0][0] != '-') {
		execv("/bin/busybox", words);
		errno = ENOENT;
	}
	fprintf(stderr, "popcorn-leash: %s: %s\n", words[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* The command's end of a pipe is closed when the command closes it. */
static void let_streams_go(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			close(fd);
}

/* Ask all of them to end, and those that do not are killed. */
static void end_group(pid_t group)
{
	struct timespec look = { .tv_nsec = LOOK_MS * 1000000L };

	kill(-group, SIGTERM);
	kill(-group, SIGCONT);
	for (int ms = 0; ms < GRACE_MS; ms += LOOK_MS) {
		waitpid(group, NULL, WNOHANG);
		if (kill(-group, 0))
			return;
		nanosleep(&look, NULL);
	}
	kill(-group, SIGKILL);
}

int main(int argc, char **argv)
{
	sigset_t awaited, before;
	int sig, status;
	pid_t child;

	if (argc < 2) {
		fputs("usage: popcorn-leash COMMAND [ARGUMENT...]\n", stderr);
		return 2;
	}
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGHUP);
	sigaddset(&awaited, SIGINT);
	sigaddset(&awaited, SIGTERM);
	sigprocmask(SIG_BLOCK, &awaited, &before);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* It may have ended before it was asked to tell. */
	if (getppid() == 1)
		return 128 + SIGTERM;

	child = fork();
	if (child < 0) {
		perror("popcorn-leash");
		return 126;
	}
	if (!child)
		run(argv + 1, &before);
	/* Whoever of both comes first: the group is there before it is ended. */
	setpgid(child, child);
	let_streams_go();

	for (;;) {
		sig = sigwaitinfo(&awaited, NULL);
		if (sig > 0 && sig != SIGCHLD) {
			end_group(child);
			return 128 + sig;
		}
		if (waitpid(child, &status, WNOHANG) != child)
			continue;
		if (WIFSIGNALED(status))
			return 128 + WTERMSIG(status);
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
	}
}
