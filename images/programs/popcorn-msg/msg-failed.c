// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is said when a kernel refuses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "msg-failed.h"
#include "msg-self.h"

/* Whom the verb's first argument names, for what is said when that is refused. */
static enum addressee addressee;
static __u32 address;

void set_addressee(enum addressee kind, __u32 id)
{
	addressee = kind;
	address = id;
}

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
