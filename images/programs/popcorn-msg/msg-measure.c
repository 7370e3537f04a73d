// SPDX-License-Identifier: GPL-2.0-only
/*
 * The measurements of popcorn-msg.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "msg.h"

#define TIMEOUT_MS	60000

/* Between two of the stamps of struct popcorn_ping. */
enum stage { SEND, IPI, HANDLER, ANSWER, WAKE_UP, ROUND_TRIP, NR_STAGES };

static const char * const stage_names[NR_STAGES] = {
	"send", "ipi", "handler", "answer", "wake_up", "round_trip"
};

struct series {
	uint64_t *value;
	size_t nr;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static int compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return one < other ? -1 : one > other;
}

static void add(struct series *s, uint64_t begin, uint64_t end)
{
	s->value[s->nr++] = end > begin ? end - begin : 0;
}

static void print_series(const char *name, struct series *s, double ns_per_cycle, int last)
{
	double sum = 0;
	size_t i;

	qsort(s->value, s->nr, sizeof(*s->value), compare);
	for (i = 0; i < s->nr; i++)
		sum += s->value[i];
	printf("\"%s\": {\"count\": %zu", name, s->nr);
	if (s->nr)
		printf(", \"min\": %.0f, \"median\": %.0f, \"p90\": %.0f, \"p99\": %.0f, "
		       "\"max\": %.0f, \"mean\": %.0f",
		       s->value[0] * ns_per_cycle, s->value[s->nr / 2] * ns_per_cycle,
		       s->value[s->nr * 9 / 10] * ns_per_cycle,
		       s->value[s->nr * 99 / 100] * ns_per_cycle,
		       s->value[s->nr - 1] * ns_per_cycle, sum / s->nr * ns_per_cycle);
	printf("}%s", last ? "" : ", ");
}

int ping(int fd, const struct options *o)
{
	struct series series[NR_STAGES];
	uint64_t begin_tsc, begin_ns;
	double ns_per_cycle;
	uint32_t i;
	int s;

	for (s = 0; s < NR_STAGES; s++) {
		series[s].nr = 0;
		series[s].value = calloc(o->count, sizeof(uint64_t));
		if (!series[s].value)
			failed("memory");
	}
	begin_ns = now_ns();
	begin_tsc = tsc();
	for (i = 0; i < o->count; i++) {
		struct popcorn_ping p = {
			.kernel = o->kernel,
			.len = o->len,
			.flags = o->high ? POPCORN_PACKET_HIGH : 0,
			.timeout_ms = TIMEOUT_MS,
		};

		if (ioctl(fd, POPCORN_IOC_PING, &p))
			failed("ping");
		add(&series[SEND], p.begin, p.sent);
		/* The other kernel was awake: no IPI was sent for this one. */
		if (p.doorbell > p.sent) {
			add(&series[IPI], p.sent, p.doorbell);
			add(&series[HANDLER], p.doorbell, p.handled);
		}
		add(&series[ANSWER], p.handled, p.answered);
		add(&series[WAKE_UP], p.answered, p.end);
		add(&series[ROUND_TRIP], p.begin, p.end);
	}
	ns_per_cycle = (double)(now_ns() - begin_ns) / (tsc() - begin_tsc);
	printf("{\"verb\": \"ping\", \"kernel\": %u, \"bytes\": %u, \"high\": %s, ", o->kernel,
	       o->len, o->high ? "true" : "false");
	for (s = 0; s < NR_STAGES; s++)
		print_series(stage_names[s], &series[s], ns_per_cycle, s == NR_STAGES - 1);
	puts("}");
	return 0;
}

static int run(int fd, struct popcorn_measure *m)
{
	return ioctl(fd, POPCORN_IOC_MEASURE, m) ? -errno : 0;
}

static void print_measure(const struct popcorn_measure *m)
{
	double s = m->ns / 1e9;

	printf("\"count\": %u, \"bytes\": %u, \"delivered\": %llu, \"ns\": %llu, "
	       "\"per_s\": %.0f, \"bytes_per_s\": %.0f",
	       m->count, m->len, (unsigned long long)m->delivered, (unsigned long long)m->ns,
	       s > 0 ? m->delivered / s : 0, s > 0 ? m->delivered * (double)m->len / s : 0);
}

int measure(int fd, const struct options *o, __u32 what)
{
	static const char * const names[] = { "stream", "copy", "call", "fanout" };
	struct popcorn_measure m = {
		.what = what, .kernel = o->kernel, .len = o->len, .count = o->count,
	};
	int ret = run(fd, &m);

	if (ret) {
		errno = -ret;
		failed(names[what]);
	}
	printf("{\"verb\": \"%s\", \"to\": %u, ", names[what], o->kernel);
	print_measure(&m);
	puts("}");
	return 0;
}

/* To each kernel that can be reached, one after the other. */
int stream_all(int fd, const struct options *o)
{
	char line[512];
	FILE *kernels = fopen("/proc/popcorn/messages", "r");
	unsigned int id, reachable;
	int first = 1;

	if (!kernels)
		failed("/proc/popcorn/messages");
	printf("{\"verb\": \"stream\", \"to\": [");
	while (fgets(line, sizeof(line), kernels)) {
		struct popcorn_measure m = { .what = POPCORN_MEASURE_STREAM };
		int ret;

		if (sscanf(line, "%u %u", &id, &reachable) != 2 || !reachable)
			continue;
		m.kernel = id;
		m.len = o->len;
		m.count = o->count;
		ret = run(fd, &m);
		printf("%s{\"kernel\": %u, ", first ? "" : ", ", id);
		print_measure(&m);
		if (ret)
			printf(", \"error\": \"%s\"", reason(-ret));
		putchar('}');
		first = 0;
	}
	fclose(kernels);
	puts("]}");
	return 0;
}
