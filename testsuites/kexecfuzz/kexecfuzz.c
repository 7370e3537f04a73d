// SPDX-License-Identifier: GPL-2.0-only
/*
 * kexecfuzz: malformed kernels for kexec_load() with KEXEC_POPCORN.
 *
 * A small well-formed image, of which some fields are spoiled by a seed, is
 * loaded and, where that is allowed, unloaded: nothing is ever started.  Each
 * line of the output is an attempt: its number, the errno (0 if it was
 * loaded), and what the kernel said of it.
 *
 *   kexecfuzz SEED COUNT ID START SIZE	a kernel's place that is free
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/popcorn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEXEC_POPCORN	0x00000100
#define KEXEC_ARCH	(62 << 16)
#define MAX_SEGMENTS	16
#define PAGE		4096ULL
#define IMAGE_BYTES	(16 * PAGE)
#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))

struct segment {
	const void *buf;
	size_t bufsz;
	uint64_t mem;
	size_t memsz;
};

struct setup {
	struct setup_data node;
	struct popcorn_boot_record record;
};

struct attempt {
	uint64_t entry;
	unsigned long nr;
	struct segment segment[MAX_SEGMENTS];
	struct setup setup;
	uint8_t setup_room[PAGE * 4];	/* more than any length that is asked for */
	struct boot_params boot_params;
	uint8_t image[IMAGE_BYTES];
};

static uint64_t state;

/* xorshift64*, so that a seed gives the same attempts everywhere. */
static uint64_t any(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t end)
{
	return any() % end;
}

static uint64_t nasty(uint64_t was)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 4095, 4096, 4097, 1 << 20, 2 << 20, 1ULL << 31, 1ULL << 32, 1ULL << 40, 1ULL << 52,
		1ULL << 63, ~0ULL, ~0ULL - 4095, 0x7fffffff, 0xffffffff, 128, 129, 512, 513, 0x1000000,
	};

	switch (below(5)) {
	case 0:
		return values[below(COUNT(values))];
	case 1:
		return was + values[below(COUNT(values))];
	case 2:
		return was - values[below(COUNT(values))];
	case 3:
		return was ^ 1ULL << below(64);
	default:
		return any() >> below(64);
	}
}

static void make(struct attempt *a, uint32_t id, uint64_t start, uint64_t size)
{
	struct popcorn_boot_record *r = &a->setup.record;
	struct boot_params *bp = &a->boot_params;
	uint64_t params = start + PAGE * 4, image = start + (2 << 20);

	memset(a, 0, sizeof(*a));
	a->setup.node.type = POPCORN_SETUP_DATA;
	a->setup.node.len = sizeof(*r);
	r->magic = POPCORN_MAGIC;
	r->version = POPCORN_VERSION;
	r->id = id;
	r->nr_cpus = 1;
	r->cpus[id / 64] = 1ULL << id % 64;
	r->nr_ranges = 1;
	r->range[0].start = start;
	r->range[0].size = size;

	bp->hdr.setup_data = start;
	bp->e820_entries = 2;
	bp->e820_table[0].addr = start;
	bp->e820_table[0].size = size;
	bp->e820_table[0].type = 1;
	bp->e820_table[1].addr = 0xfee00000;
	bp->e820_table[1].size = PAGE;
	bp->e820_table[1].type = 2;
	bp->hdr.cmd_line_ptr = image + PAGE;
	bp->ext_cmd_line_ptr = (image + PAGE) >> 32;

	a->entry = image;
	a->nr = 3;
	a->segment[0] = (struct segment){ &a->setup, sizeof(a->setup), start, PAGE * 4 };
	a->segment[1] = (struct segment){ bp, sizeof(*bp), params, PAGE };
	a->segment[2] = (struct segment){ a->image, sizeof(a->image), image, sizeof(a->image) };
}

#define SPOIL(field)	((field) = nasty(field))

static void spoil_segment(struct attempt *a)
{
	struct segment *s = &a->segment[below(a->nr + 1) % MAX_SEGMENTS];

	switch (below(4)) {
	case 0:
		SPOIL(s->mem);
		break;
	case 1:
		SPOIL(s->memsz);
		break;
	case 2:
		/* Never more than is there: what the kernel reads is ours. */
		s->bufsz = below(s->bufsz + 1);
		break;
	default:
		a->nr = 1 + below(MAX_SEGMENTS);
		break;
	}
}

static void spoil_record(struct setup *s)
{
	struct popcorn_boot_record *r = &s->record;
	struct popcorn_range *range = &r->range[below(4) ? 0 : below(POPCORN_MAX_RANGES)];

	switch (below(11)) {
	case 0:
		SPOIL(r->magic);
		break;
	case 1:
		SPOIL(r->version);
		break;
	case 2:
		SPOIL(r->id);
		break;
	case 3:
		SPOIL(r->nr_cpus);
		break;
	case 4:
		SPOIL(r->nr_ranges);
		break;
	case 5:
		SPOIL(range->start);
		break;
	case 6:
		SPOIL(range->size);
		break;
	case 7:
		SPOIL(r->cpus[below(POPCORN_MASK_WORDS)]);
		break;
	case 8:
		SPOIL(s->node.next);
		break;
	case 9:
		SPOIL(s->node.type);
		break;
	default:
		SPOIL(s->node.len);
		break;
	}
}

static void spoil_boot_params(struct boot_params *bp)
{
	struct boot_e820_entry *e = &bp->e820_table[below(4)];

	switch (below(10)) {
	case 0:
		SPOIL(bp->hdr.setup_data);
		break;
	case 1:
		SPOIL(bp->e820_entries);
		break;
	case 2:
		SPOIL(e->addr);
		break;
	case 3:
		SPOIL(e->size);
		break;
	case 4:
		e->type = 1;
		break;
	case 5:
		SPOIL(bp->hdr.cmd_line_ptr);
		break;
	case 6:
		SPOIL(bp->ext_cmd_line_ptr);
		break;
	case 7:
		SPOIL(bp->hdr.ramdisk_size);
		break;
	case 8:
		SPOIL(bp->hdr.ramdisk_image);
		break;
	default:
		SPOIL(bp->ext_ramdisk_size);
		break;
	}
}

static void spoil(struct attempt *a)
{
	unsigned int n;

	for (n = 1 + below(3); n; n--) {
		switch (below(4)) {
		case 0:
			spoil_segment(a);
			break;
		case 1:
			spoil_record(&a->setup);
			break;
		case 2:
			spoil_boot_params(&a->boot_params);
			break;
		default:
			SPOIL(a->entry);
			break;
		}
	}
}

/* The last thing that the kernel logged as an error since the last look. */
static void reason(int log, char *said, size_t size)
{
	char record[8192];
	ssize_t length;
	char *text;

	*said = '\0';
	while ((length = read(log, record, sizeof(record) - 1)) > 0 || (length < 0 && errno == EPIPE)) {
		if (length < 0)
			continue;
		record[length] = '\0';
		text = strchr(record, ';');
		if (!text || (strtoul(record, NULL, 10) & 7) > 3)
			continue;
		text[strcspn(text, "\n")] = '\0';
		snprintf(said, size, "%s", text + 1);
	}
}

static long load(uint64_t entry, unsigned long nr, const struct segment *segments)
{
	return syscall(SYS_kexec_load, entry, nr, segments, KEXEC_POPCORN | KEXEC_ARCH);
}

int main(int argc, char **argv)
{
	static struct attempt attempt;
	uint64_t start, size;
	long number, count;
	char said[1024];
	uint32_t id;
	int log, failed;

	if (argc != 6) {
		fprintf(stderr, "usage: kexecfuzz SEED COUNT ID START SIZE\n");
		return 2;
	}
	count = strtol(argv[2], NULL, 0);
	id = strtoul(argv[3], NULL, 0);
	start = strtoull(argv[4], NULL, 0);
	size = strtoull(argv[5], NULL, 0);
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log < 0) {
		perror("/dev/kmsg");
		return 1;
	}
	lseek(log, 0, SEEK_END);
	/* The first is well-formed: that it is loaded shows that the others fail for what was spoiled. */
	for (number = 0; number <= count; number++) {
		state = strtoull(argv[1], NULL, 0) * 1000003 + number + 1;
		make(&attempt, id, start, size);
		if (number)
			spoil(&attempt);
		failed = load(attempt.entry, attempt.nr, attempt.segment) ? errno : 0;
		reason(log, said, sizeof(said));
		printf("%ld %d %s\n", number, failed, said);
		if (!failed && load(attempt.setup.record.id, 0, NULL)) {
			perror("what was loaded cannot be unloaded");
			return 1;
		}
	}
	return 0;
}
