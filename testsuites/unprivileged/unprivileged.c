// SPDX-License-Identifier: GPL-2.0-only
/*
 * unprivileged: what an ordinary user of a kernel may do to the others.
 *
 * Each line of the output is an attempt and how it ended: an errno, 0 if it
 * succeeded.  As "root" nothing is given up, for comparison: the attempts are
 * such that they do no harm when they are allowed.
 *
 *   unprivileged root|nobody ID	another kernel's id
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY		65534
/* include/uapi/linux/kexec.h, reboot.h; if_ether.h for all protocols */
#define KEXEC_POPCORN	0x00000100
#define KEXEC_ARCH	(62 << 16)
#define MAGIC1		0xfee1dead
#define MAGIC2		672274793
#define START		0x504f5043
#define STOP		0x504f5053
/* No machine has so many CPUs: whoever is allowed to ask is told so. */
#define NO_KERNEL	511
#define ALL_PROTOCOLS	0x0300	/* in network order */

static void tell(const char *attempt, int failed)
{
	printf("%s: %d\n", attempt, failed);
	fflush(stdout);
}

static void try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	tell(path, fd < 0 ? errno : 0);
	if (fd >= 0)
		close(fd);
}

static int result(long ret)
{
	return ret < 0 ? errno : 0;
}

static int load(void)
{
	return result(syscall(SYS_kexec_load, NO_KERNEL, 0, NULL, KEXEC_POPCORN | KEXEC_ARCH));
}

static int reboot_by(unsigned int command)
{
	return result(syscall(SYS_reboot, MAGIC1, MAGIC2, command, (unsigned long)NO_KERNEL));
}

static int raw_socket(void)
{
	return result(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, ALL_PROTOCOLS));
}

/* Who may make a user namespace has all capabilities in it. */
static int load_in_namespace(void)
{
	int status = 0;
	pid_t child = fork();

	if (!child) {
		/* It may well be refused; what counts is what comes of it. */
		unshare(CLONE_NEWUSER | CLONE_NEWPID);
		_exit(load());
	}
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

static int set_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return result(clock_settime(CLOCK_REALTIME, &now));
}

static int give_up(void)
{
	/* Linux before 3.5 does not know it, and there are no setuid programs here. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && errno != EINVAL)
		return -1;
	return setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY);
}

int main(int argc, char **argv)
{
	char path[64];
	int root;

	if (argc != 3) {
		fprintf(stderr, "usage: unprivileged root|nobody ID\n");
		return 2;
	}
	root = !strcmp(argv[1], "root");
	if (!root && give_up()) {
		perror("unprivileged");
		return 1;
	}

	try_open("/dev/popcorn", O_RDWR);
	snprintf(path, sizeof(path), "/dev/vty%s", argv[2]);
	try_open(path, O_RDWR);
	snprintf(path, sizeof(path), "/proc/popcorn/log/%s", argv[2]);
	try_open(path, O_RDONLY);
	try_open("/proc/popcorn/kernels", O_RDONLY);
	try_open("/proc/popcorn/ready", O_WRONLY);
	try_open("/proc/popcorn/fault", O_WRONLY);
	try_open("/proc/sysrq-trigger", O_WRONLY);
	try_open("/dev/kmsg", O_WRONLY);
	try_open("/dev/mem", O_RDONLY);
	try_open("/dev/kmem", O_RDONLY);
	try_open("/dev/port", O_RDONLY);
	try_open("/proc/kcore", O_RDONLY);
	try_open("/etc/dropbear/dropbear_ed25519_host_key", O_RDONLY);
	try_open("/boot/secondary.cpio", O_RDONLY);
	tell("kexec_load", load());
	tell("kexec_load in a user namespace", load_in_namespace());
	tell("reboot to start a kernel", reboot_by(START));
	tell("reboot to stop a kernel", reboot_by(STOP));
	tell("raw frames", raw_socket());
	tell("iopl", result(iopl(3)));
	/* All kernels are set, and root's are right. */
	if (!root)
		tell("clock_settime", set_clock());
	return 0;
}
