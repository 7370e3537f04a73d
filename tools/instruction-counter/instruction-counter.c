// SPDX-License-Identifier: GPL-2.0-only
/*
 * instruction-counter: a plugin for QEMU's emulator that counts the
 * instructions of each virtual CPU, one by one, into a file that others map.
 *
 *	qemu-system-x86_64 -plugin instruction-counter.so,counts=FILE ...
 *
 * FILE is there already, full of zeros but for cpus and capacity:
 *
 *	struct head	cpus, capacity, marks
 *	struct cpu	a counter for each virtual CPU
 *	mark		capacity times: done, the CPU that marked, and the
 *			counters of all CPUs at that moment; 8 bytes each
 *
 * A guest marks a moment by an instruction that does nothing else: MARK.
 * That way what happens before and after a workload is not in its count,
 * and nobody has to stop the machine to look.
 *
 * What is counted: an instruction each time it begins.  One that faults
 * and is done again counts twice.  A string instruction with a repeat
 * prefix, which the emulator begins anew for each repetition, counts once,
 * as it does for a processor's own counters.
 *
 * Blocks of instructions would be quicker to count, and wrong wherever one
 * ends early by a fault.  A CPU's counter is written by that CPU's thread
 * alone, so that it needs no lock.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Of QEMU's plugin interface, for which Debian has no header, what is used
 * here.  API_VERSION is the one to be built for: 1 up to QEMU 8.2, 2 for
 * 9.0, 3 from 9.1 on, where data of an instruction is copied out.
 */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef void (*tb_callback)(uint64_t id, struct qemu_plugin_tb *tb);
typedef void (*cpu_callback)(unsigned int cpu, void *data);
enum { NO_REGISTERS };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, tb_callback callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    cpu_callback callback, int flags,
					    void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
#if API_VERSION >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to,
			     size_t bytes);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

#define EXPORT __attribute__((visibility("default")))
#define LONGEST 15

EXPORT int qemu_plugin_version = API_VERSION;

/* nopl 0x43504f50(%rax,%rax,1), as images/programs/popcorn-mark has it */
static const uint8_t MARK[] = { 0x0f, 0x1f, 0x84, 0x00, 'P', 'O', 'P', 'C' };

struct head {
	uint64_t cpus;
	uint64_t capacity;
	uint64_t marks;		/* begun; more than there is room for are lost */
	uint64_t unused[5];
};

/* A cache line each. */
struct cpu {
	uint64_t count;
	uint64_t repeating;	/* address of the string instruction, or 0 */
	uint64_t unused[6];
};

static struct head *head;
static struct cpu *cpus;
static uint64_t *marks;

static void count(unsigned int cpu, void *unused)
{
	(void)unused;
	cpus[cpu].repeating = 0;
	__atomic_store_n(&cpus[cpu].count, cpus[cpu].count + 1,
			 __ATOMIC_RELAXED);
}

static void count_repeated(unsigned int cpu, void *address)
{
	if (cpus[cpu].repeating == (uintptr_t)address)
		return;
	count(cpu, NULL);
	cpus[cpu].repeating = (uintptr_t)address;
}

static void mark(unsigned int cpu, void *unused)
{
	uint64_t number, other, *row;

	(void)unused;
	number = __atomic_fetch_add(&head->marks, 1, __ATOMIC_RELAXED);
	if (number >= head->capacity)
		return;
	row = marks + number * (2 + head->cpus);
	row[1] = cpu;
	for (other = 0; other < head->cpus; other++)
		row[2 + other] = __atomic_load_n(&cpus[other].count,
						 __ATOMIC_RELAXED);
	__atomic_store_n(&row[0], 1, __ATOMIC_RELEASE);
}

/* A string instruction with a repeat prefix: ins, outs, movs ... scas. */
static bool repeats(const uint8_t *bytes, size_t size)
{
	bool prefixed = false;
	size_t at;

	for (at = 0; at < size; at++) {
		switch (bytes[at]) {
		case 0xf2:
		case 0xf3:
			prefixed = true;
			continue;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64 ... 0x67:
		case 0x40 ... 0x4f:	/* REX; without it, outside long mode, no prefix follows */
			continue;
		case 0x6c ... 0x6f:
		case 0xa4 ... 0xa7:
		case 0xaa ... 0xaf:
			return prefixed;
		default:
			return false;
		}
	}
	return false;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t index, size, insns = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *insn;
	uint8_t bytes[LONGEST];

	(void)id;
	for (index = 0; index < insns; index++) {
		insn = qemu_plugin_tb_get_insn(tb, index);
		size = qemu_plugin_insn_size(insn);
		if (size > sizeof(bytes))
			size = sizeof(bytes);
#if API_VERSION >= 3
		size = qemu_plugin_insn_data(insn, bytes, size);
#else
		memcpy(bytes, qemu_plugin_insn_data(insn), size);
#endif
		if (repeats(bytes, size))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, count_repeated, NO_REGISTERS,
				(void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
		else
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, count, NO_REGISTERS, NULL);
		if (size == sizeof(MARK) && !memcmp(bytes, MARK, size))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, mark, NO_REGISTERS, NULL);
	}
}

EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info,
			       int argc, char **argv)
{
	struct stat status;
	const char *path;
	uint64_t bytes;
	void *at;
	int file;

	(void)info;
	if (argc != 1 || strncmp(argv[0], "counts=", 7)) {
		fprintf(stderr, "instruction-counter: counts=FILE is its one argument\n");
		return 1;
	}
	path = argv[0] + 7;
	file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0 || fstat(file, &status)) {
		perror(path);
		return 1;
	}
	at = status.st_size < (off_t)sizeof(*head) ? MAP_FAILED :
		mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (at == MAP_FAILED) {
		fprintf(stderr, "instruction-counter: %s cannot be mapped\n", path);
		return 1;
	}
	head = at;
	cpus = (struct cpu *)(head + 1);
	marks = (uint64_t *)(cpus + head->cpus);
	bytes = sizeof(*head) + head->cpus * sizeof(*cpus) +
		head->capacity * (2 + head->cpus) * sizeof(uint64_t);
	if ((uint64_t)status.st_size != bytes) {
		fprintf(stderr, "instruction-counter: %s has not the size that it says\n", path);
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
