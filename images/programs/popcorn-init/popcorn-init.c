// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-init: the whole userland start of a secondary kernel.
 *
 * Dozens of kernels boot at the same time on few host CPUs, so this does in
 * one process what scripts would fork for: the file systems, the network, a
 * login shell on the virtual TTY, an sshd, and parking in good order.
 *
 * As "popcorn-init network" it does the network alone: for the primary, and
 * where somebody took it down.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"
#include "init.h"

#define SHELL		"/bin/busybox"
#define TERMINAL	"/dev/vty0"
#define RESPAWN_S	1	/* a shell that lived shorter is made to wait */
#define GRACE_S		2	/* between SIGTERM and SIGKILL at the end */
#define SETTLE_MS	150	/* longer than the windows of QEMU's TLB */
#define SETTLE_ROUNDS	5

static void mount_at(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, MS_NOSUID, NULL) && errno != EBUSY)
		complain(where);
}

static void name_host(long id)
{
	char name[32];

	if (id < 0)
		return;
	snprintf(name, sizeof(name), "kernel-%ld", id);
	if (sethostname(name, strlen(name)))
		complain("host name");
}

/* A terminal that was left raw, or that the driver made so, is usable again. */
static void set_sane(int fd)
{
	struct termios tio;

	if (tcgetattr(fd, &tio))
		return;
	tio.c_iflag |= ICRNL;
	tio.c_oflag |= OPOST | ONLCR;
	tio.c_lflag |= ICANON | ECHO | ECHOE | ECHOK | ISIG | IEXTEN;
	tio.c_cflag |= CREAD | CLOCAL;
	tcsetattr(fd, TCSANOW, &tio);
}

/*
 * Start a shell on the terminal, and wait until it has it: what is written there
 * before, when nobody had set the terminal up, would be echoed and lost.
 */
static pid_t spawn_shell(void)
{
	static char *const argv[] = { "-sh", NULL };
	static char *const env[] = {
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		"TERM=vt102", "PATH=/sbin:/usr/sbin:/bin:/usr/bin", NULL
	};
	int begun[2] = { -1, -1 };
	sigset_t none;
	pid_t pid;
	char byte;
	int fd;

	if (pipe2(begun, O_CLOEXEC))
		complain("pipe");
	pid = fork();
	if (pid) {
		close(begun[1]);
		/* Its end, when the child executes the shell or is gone. */
		while (begun[0] >= 0 && read(begun[0], &byte, 1) < 0 && errno == EINTR)
			;
		close(begun[0]);
		return pid;
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	fd = open(TERMINAL, O_RDWR);
	/* A kernel without virtual TTYs still has a console. */
	if (fd < 0 && errno == ENOENT)
		fd = open("/dev/console", O_RDWR);
	if (fd < 0) {
		complain(TERMINAL);
		_exit(1);
	}
	ioctl(fd, TIOCSCTTY, 1);
	set_sane(fd);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	if (chdir("/root"))
		complain("/root");
	execve(SHELL, argv, env);
	complain(SHELL);
	_exit(1);
}

/* End all processes, then the kernel: it parks, the machine goes on. */
static void shut_down(int how)
{
	struct timespec grace = { GRACE_S, 0 };
	sigset_t chld;
	pid_t gone;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	kill(-1, SIGTERM);
	/* A shell at a terminal ends when that is hung up. */
	kill(-1, SIGHUP);
	kill(-1, SIGCONT);
	for (;;) {
		while ((gone = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		/* All processes descend from this one. */
		if (gone < 0 && errno == ECHILD)
			break;
		if (sigtimedwait(&chld, NULL, &grace) < 0)
			break;
	}
	kill(-1, SIGKILL);
	sync();
	reboot(how);
	complain("reboot");
}

/* The next signal, or 0 when there is something else to do. */
static int await(int signals, int listener)
{
	static int settling = SETTLE_ROUNDS;
	struct pollfd polled[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = listener, .events = POLLIN },	/* ignored if it is -1 */
	};
	struct signalfd_siginfo info;

	switch (poll(polled, 2, settling ? SETTLE_MS : -1)) {
	case -1:
		return 0;
	case 0:
		settling--;
		flush_tlb();
		return 0;
	}
	settling = SETTLE_ROUNDS;
	if (polled[1].revents)
		serve_ssh(listener);
	if (polled[0].revents && read(signals, &info, sizeof(info)) == sizeof(info))
		return info.ssi_signo;
	return 0;
}

int main(int argc, char **argv)
{
	struct timespec pause = { RESPAWN_S, 0 };
	struct identity self;
	int signals, listener;
	pid_t shell;
	time_t started;
	sigset_t wanted;

	/* Words that the kernel does not know come to process 1 as arguments. */
	if (getpid() != 1) {
		if (argc != 2 || strcmp(argv[1], "network")) {
			dprintf(2, "usage: popcorn-init network\n");
			return 2;
		}
		self = who_am_i();
		raise_network(&self);
		return 0;
	}
	mount_at("devtmpfs", "/dev");
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devpts", "/dev/pts");
	mkdir("/dev/shm", 01777);
	self = who_am_i();
	name_host(self.id);
	raise_network(&self);

	/* What busybox's poweroff, halt and reboot send to process 1. */
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGUSR1);
	sigaddset(&wanted, SIGUSR2);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	reboot(RB_DISABLE_CAD);

	signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		complain("signalfd");
	listener = listen_for_ssh();
	shell = spawn_shell();
	started = time(NULL);
	write_to("/proc/popcorn/ready", "1\n");
	for (;;) {
		int sig = await(signals, listener);
		pid_t gone;

		if (sig == SIGTERM)
			shut_down(RB_AUTOBOOT);
		else if (sig == SIGUSR1)
			shut_down(RB_HALT_SYSTEM);
		else if (sig == SIGUSR2)
			shut_down(RB_POWER_OFF);
		while ((gone = waitpid(-1, NULL, WNOHANG)) > 0) {
			if (gone == shell)
				shell = -1;
		}
		if (shell < 0) {
			if (time(NULL) - started <= RESPAWN_S)
				nanosleep(&pause, NULL);
			shell = spawn_shell();
			started = time(NULL);
		}
	}
}
