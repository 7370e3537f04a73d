// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sshd costs nothing while nobody is logged in: init itself waits for
 * connections and starts a dropbear for each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "complain.h"
#include "init.h"

#define DROPBEAR	"/usr/sbin/dropbear"
#define HOST_KEY	"/etc/dropbear/dropbear_ed25519_host_key"
#define RECEIVE_WINDOW	"1048576"	/* bytes of a channel under way; for large files */
#define PORT		22
#define BACKLOG		64

/* A socket for both protocols, or one for IPv4 if there is no IPv6. */
static int bind_any(void)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	int fd = socket(AF_INET6, type, 0);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&any6, sizeof(any6)))
		return fd;
	if (fd >= 0)
		close(fd);
	fd = socket(AF_INET, type, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof(any))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Returns -1 if there is no sshd, or no key for it. */
int listen_for_ssh(void)
{
	int fd;

	if (access(DROPBEAR, X_OK) || access(HOST_KEY, R_OK))
		return -1;
	fd = bind_any();
	if (fd >= 0 && !listen(fd, BACKLOG))
		return fd;
	complain("sshd");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Start a dropbear for each connection that waits. */
void serve_ssh(int listener)
{
	/* -i: one connection, on stdin and stdout. */
	static char *const argv[] = {
		DROPBEAR, "-i", "-r", HOST_KEY, "-W", RECEIVE_WINDOW, NULL
	};
	static char *const env[] = { "PATH=/sbin:/usr/sbin:/bin:/usr/bin", NULL };
	sigset_t none;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (!fork()) {
			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			dup2(fd, 0);
			dup2(fd, 1);
			dup2(open("/dev/null", O_WRONLY), 2);
			execve(DROPBEAR, argv, env);
			_exit(1);
		}
		close(fd);
	}
}
