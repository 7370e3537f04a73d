// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long a round trip takes, by stage; and what it is compared with, a
 * function call on another CPU of the same kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "msg-failed.h"
#include "msg.h"

#define TIMEOUT_S	60

/* Between two of the stamps of struct popcorn_ping. */
enum stage { SEND, IPI, HANDLER, ANSWER, WAKE_UP, ROUND_TRIP, NR_STAGES };

static const char * const stage_names[NR_STAGES] = {
	"send", "ipi", "handler", "answer", "wake_up", "round_trip"
};

static uint64_t span(uint64_t begin, uint64_t end)
{
	return end > begin ? end - begin : 0;
}

/* For whoever compares them with those of other kernels. */
static void print_stamps(const struct popcorn_ping *p)
{
	printf("{\"verb\": \"stamps\", \"begin\": %llu, \"sent\": %llu, \"handled\": %llu, "
	       "\"answered\": %llu, \"end\": %llu}\n", (unsigned long long)p->begin,
	       (unsigned long long)p->sent, (unsigned long long)p->handled,
	       (unsigned long long)p->answered, (unsigned long long)p->end);
}

static void pause_between(const struct options *o)
{
	if (o->pause_us)
		usleep(o->pause_us);
}

static void add_stages(struct series *series, const struct popcorn_ping *p)
{
	series_add(&series[SEND], span(p->begin, p->sent));
	if (p->doorbell > p->sent) {
		series_add(&series[IPI], span(p->sent, p->doorbell));
		series_add(&series[HANDLER], span(p->doorbell, p->handled));
	} else {
		/* It was awake: no IPI was sent for this one. */
		series_add(&series[HANDLER], span(p->sent, p->handled));
	}
	series_add(&series[ANSWER], span(p->handled, p->answered));
	series_add(&series[WAKE_UP], span(p->answered, p->end));
	series_add(&series[ROUND_TRIP], span(p->begin, p->end));
}

int ping(int fd, const struct options *o)
{
	struct series series[NR_STAGES];
	uint64_t begin_tsc, begin_ns;
	double ns_per_cycle;
	uint32_t i;
	int s;

	for (s = 0; s < NR_STAGES; s++)
		series_init(&series[s], o->count);
	begin_ns = now_ns();
	begin_tsc = tsc();
	for (i = 0; i < o->count; i++) {
		struct popcorn_ping p = {
			.kernel = o->to,
			.len = o->len,
			.flags = o->high ? POPCORN_PACKET_HIGH : 0,
			.timeout_ms = (o->timeout_s ? o->timeout_s : TIMEOUT_S) * 1000,
			.type = o->type,
		};

		pause_between(o);
		if (ioctl(fd, POPCORN_IOC_PING, &p))
			failed_after("ping", i, "round trips");
		add_stages(series, &p);
		if (o->verbose)
			print_stamps(&p);
	}
	ns_per_cycle = (double)(now_ns() - begin_ns) / (tsc() - begin_tsc);
	printf("{\"verb\": \"ping\", \"kernel\": %u, \"bytes\": %u, \"high\": %s, \"pause_us\": %u",
	       o->to, o->len, o->high ? "true" : "false", o->pause_us);
	for (s = 0; s < NR_STAGES; s++) {
		printf(", ");
		series_print(stage_names[s], &series[s], ns_per_cycle);
	}
	puts("}");
	return 0;
}

/* Leave the CPU that shall be called to others; returns the one taken instead. */
static int avoid_cpu(int callee)
{
	cpu_set_t allowed, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		failed("CPUs of this process");
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (cpu == callee || !CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			failed("CPUs of this process");
		return cpu;
	}
	errno = ENODEV;
	failed("call: this kernel has no second CPU");
}

int call(int fd, const struct options *o)
{
	int caller = avoid_cpu(o->to);
	struct series calls;
	uint32_t i;

	series_init(&calls, o->count);
	for (i = 0; i < o->count; i++) {
		/* One at a time, for the distribution. */
		struct popcorn_measure m = {
			.what = POPCORN_MEASURE_CALL, .kernel = o->to, .count = 1,
		};

		pause_between(o);
		if (ioctl(fd, POPCORN_IOC_MEASURE, &m))
			failed_after("call", i, "calls");
		series_add(&calls, m.ns);
	}
	printf("{\"verb\": \"call\", \"cpu\": %u, \"from_cpu\": %d, \"pause_us\": %u, ", o->to,
	       caller, o->pause_us);
	series_print("round_trip", &calls, 1);
	puts("}");
	return 0;
}
