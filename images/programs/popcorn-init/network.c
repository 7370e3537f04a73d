// SPDX-License-Identifier: GPL-2.0-only
/*
 * The loopback interface and pcn0, by ioctl: what ifconfig, route and arp would
 * do in as many processes.
 *
 * Addresses follow from the kernel's id, as harness/popcorn/plan/address.py
 * says.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "complain.h"
#include "init.h"

#define INTERFACE	"pcn0"
#define MTU		65535
#define NETWORK		0x0a500000u	/* 10.80.0.0 */
#define NETMASK		0xffff0000u
#define NETWORK6	"fd50:4f50:434e::"
#define PREFIX6		64
#define ARP_TRIES	"/proc/sys/net/ipv4/neigh/" INTERFACE "/mcast_solicit"
#define IPV6_CONF	"/proc/sys/net/ipv6/conf/" INTERFACE "/"

/* The primary runs on the CPU that the firmware boots, and that is number 0. */
#define GATEWAY_ID	0

static in_addr_t address_of(long id)
{
	return htonl(NETWORK + id + 1);
}

static void set_address(struct sockaddr *sa, in_addr_t address)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)sa;

	memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = address;
}

static int ask(int fd, unsigned long request, void *argument, const char *what)
{
	if (!ioctl(fd, request, argument))
		return 0;
	complain(what);
	return -1;
}

/*
 * The others' hardware addresses follow from their ids too.  Asking for them, as
 * IPv6 does, is a broadcast from each kernel for each other one, which all
 * kernels have to look at.
 */
static void add_neighbours(int fd, const struct identity *self)
{
	struct arpreq request = { .arp_flags = ATF_PERM, .arp_dev = INTERFACE };
	struct ifreq own = { .ifr_name = INTERFACE };
	long id;

	if (ask(fd, SIOCGIFHWADDR, &own, "hardware address"))
		return;
	request.arp_ha = own.ifr_hwaddr;
	for (id = 0; id < self->kernels; id++) {
		if (id == self->id)
			continue;
		set_address(&request.arp_pa, address_of(id));
		request.arp_ha.sa_data[4] = id >> 8;
		request.arp_ha.sa_data[5] = id;
		if (ask(fd, SIOCSARP, &request, "neighbour"))
			return;
	}
}

static void raise_interface(int fd, const char *name)
{
	struct ifreq request = {};

	strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
	if (ask(fd, SIOCGIFFLAGS, &request, name))
		return;
	request.ifr_flags |= IFF_UP;
	ask(fd, SIOCSIFFLAGS, &request, name);
}

static void add_ipv4(int fd, const struct identity *self)
{
	struct ifreq request = { .ifr_name = INTERFACE };
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	set_address(&request.ifr_addr, address_of(self->id));
	ask(fd, SIOCSIFADDR, &request, "IPv4 address");
	set_address(&request.ifr_netmask, htonl(NETMASK));
	ask(fd, SIOCSIFNETMASK, &request, "IPv4 netmask");
	add_neighbours(fd, self);
	if (self->id == GATEWAY_ID)
		return;
	set_address(&route.rt_dst, INADDR_ANY);
	set_address(&route.rt_genmask, INADDR_ANY);
	set_address(&route.rt_gateway, address_of(GATEWAY_ID));
	ask(fd, SIOCADDRT, &route, "IPv4 route");
}

static void add_ipv6(unsigned int index, const struct identity *self)
{
	struct in6_ifreq request = { .ifr6_prefixlen = PREFIX6, .ifr6_ifindex = index };
	uint16_t host = htons(self->id + 1);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Without IPv6 in the kernel. */
	if (fd < 0)
		return;
	inet_pton(AF_INET6, NETWORK6, &request.ifr6_addr);
	memcpy(&request.ifr6_addr.s6_addr[14], &host, sizeof(host));
	ask(fd, SIOCSIFADDR, &request, "IPv6 address");
	close(fd);
}

/* Addresses are unique by construction, and there is no router to ask for. */
static void quiet_ipv6(void)
{
	write_to(IPV6_CONF "accept_dad", "0");
	write_to(IPV6_CONF "accept_ra", "0");
	write_to(IPV6_CONF "router_solicitations", "0");
}

/* Configure lo, and pcn0 if the kernel has one and knows who it is. */
void raise_network(const struct identity *self)
{
	struct ifreq request = { .ifr_name = INTERFACE };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned int index;

	if (fd < 0)
		return;
	raise_interface(fd, "lo");
	index = if_nametoindex(INTERFACE);
	if (index && self->id >= 0) {
		quiet_ipv6();
		/*
		 * For when somebody took the interface down, which forgets the
		 * neighbours.  A second each: emulated kernels may be that slow.
		 */
		write_to(ARP_TRIES, "10");
		request.ifr_mtu = MTU;
		ask(fd, SIOCSIFMTU, &request, "MTU");
		raise_interface(fd, INTERFACE);
		add_ipv4(fd, self);
		add_ipv6(index, self);
	}
	close(fd);
}
