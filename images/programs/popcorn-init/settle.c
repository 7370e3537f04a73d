// SPDX-License-Identifier: GPL-2.0-only
/*
 * Make the CPU of a kernel at rest cheap for the host.
 *
 * QEMU's TCG keeps a software TLB for each mode of each CPU. It resizes one
 * only when the guest flushes it, by what was used in windows of 100 ms
 * (accel/tcg/cputlb.c, tlb_mmu_resize_locked()). And it walks the TLBs of all
 * CPUs whenever any of them runs code from a page for the first time. A kernel
 * that has booted does not flush any more: its large TLBs would slow the boot
 * of all kernels after it. Some flushes without use between them shrink them,
 * on the CPU where this runs.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>

#include "init.h"

#define PAGE		4096
/* More than the 33 pages that Linux invalidates singly (arch/x86/mm/tlb.c). */
#define SPAN		(64 * PAGE)

void flush_tlb(void)
{
	static volatile char *span;

	if (!span) {
		void *mapped = mmap(NULL, SPAN, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mapped == MAP_FAILED)
			return;
		span = mapped;
	}
	/* What lies between these two is invalidated with them. */
	span[0] = 1;
	span[SPAN - 1] = 1;
	madvise((void *)span, SPAN, MADV_DONTNEED);
}
