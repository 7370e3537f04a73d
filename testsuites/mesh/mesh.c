// SPDX-License-Identifier: GPL-2.0-only
/*
 * mesh: echo requests to many hosts from one process, a few under way at a
 * time, none sent twice.
 *
 *   mesh FIRST COUNT ADDRESS...
 *
 * Beginning with the FIRST address, so that not all kernels ask the same one;
 * prints "ADDRESS SENT ANSWERED" for each.  Exits 0 if all were answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define UNDER_WAY	4
#define PATIENCE_S	60	/* without any answer */
#define MAX_HOSTS	1024
#define MAX_COUNT	32

struct host {
	struct sockaddr_in address;
	unsigned int sent;
	uint32_t answered;	/* a bit for each request */
};

struct echo {
	struct icmphdr header;
	uint32_t host;
};

static struct host hosts[MAX_HOSTS];

/*
 * Each request has an id of its own: where connections are tracked, as on the
 * kernel that translates addresses, one of two with the same that are received
 * at once, before either was looked at, is dropped (nf_conntrack_confirm()).
 */
static uint16_t id_of(unsigned int sequence)
{
	return htons(getpid() * MAX_COUNT + sequence);
}

static uint16_t checksum(const void *data, size_t length)
{
	const uint16_t *words = data;
	uint32_t sum = 0;

	for (; length; length -= 2)
		sum += *words++;
	sum = (sum >> 16) + (sum & 0xffff);
	return ~(sum + (sum >> 16));
}

static bool send_request(int fd, uint32_t index)
{
	struct host *host = &hosts[index];
	struct echo echo = {
		.header.type = ICMP_ECHO,
		.header.un.echo.id = id_of(host->sent),
		.header.un.echo.sequence = htons(host->sent),
		.host = index,
	};

	echo.header.checksum = checksum(&echo, sizeof(echo));
	if (sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&host->address,
		   sizeof(host->address)) != sizeof(echo)) {
		fprintf(stderr, "mesh: %s: %s\n", inet_ntoa(host->address.sin_addr), strerror(errno));
		return false;
	}
	host->sent++;
	return true;
}

/* Whether something that was not answered before is now. */
static bool take_answer(int fd, unsigned int nr)
{
	unsigned char packet[256];
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	unsigned int sequence, header;
	struct echo echo;
	ssize_t got;
	uint32_t bit;

	got = recvfrom(fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &length);
	if (got < (ssize_t)sizeof(struct iphdr))
		return false;
	header = (packet[0] & 15) * 4;
	if (got < (ssize_t)(header + sizeof(echo)))
		return false;
	memcpy(&echo, packet + header, sizeof(echo));
	sequence = ntohs(echo.header.un.echo.sequence);
	if (echo.header.type != ICMP_ECHOREPLY || echo.header.un.echo.id != id_of(sequence) ||
	    echo.host >= nr || sequence >= hosts[echo.host].sent ||
	    from.sin_addr.s_addr != hosts[echo.host].address.sin_addr.s_addr)
		return false;
	bit = UINT32_C(1) << sequence;
	if (hosts[echo.host].answered & bit)
		return false;
	hosts[echo.host].answered |= bit;
	return true;
}

int main(int argc, char **argv)
{
	unsigned int first, count, nr, total, next = 0, answered = 0, i;
	struct pollfd polled = { .events = POLLIN };

	if (argc < 4 || argc - 3 > MAX_HOSTS || atoi(argv[2]) < 1 || atoi(argv[2]) > MAX_COUNT) {
		fprintf(stderr, "usage: mesh FIRST COUNT ADDRESS...\n");
		return 2;
	}
	first = atoi(argv[1]);
	count = atoi(argv[2]);
	nr = argc - 3;
	for (i = 0; i < nr; i++) {
		hosts[i].address.sin_family = AF_INET;
		if (!inet_aton(argv[3 + i], &hosts[i].address.sin_addr)) {
			fprintf(stderr, "mesh: %s is no address\n", argv[3 + i]);
			return 2;
		}
	}
	polled.fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (polled.fd < 0) {
		perror("mesh: socket");
		return 1;
	}
	total = nr * count;
	while (answered < total) {
		while (next < total && next - answered < UNDER_WAY) {
			if (!send_request(polled.fd, (first + next) % nr))
				return 1;
			next++;
		}
		if (poll(&polled, 1, PATIENCE_S * 1000) <= 0)
			break;
		if (take_answer(polled.fd, nr))
			answered++;
	}
	for (i = 0; i < nr; i++)
		printf("%s %u %d\n", argv[3 + i], hosts[i].sent, __builtin_popcount(hosts[i].answered));
	return answered < total;
}
