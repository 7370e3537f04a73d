// SPDX-License-Identifier: GPL-2.0-only
/*
 * popcorn-mark: tell the emulator that this moment matters.
 *
 * A "no operation" that no compiler writes; for a processor, and for an
 * emulator without tools/instruction-counter, it is just that.
 */
int main(void)
{
	__asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00\n\t.ascii \"POPC\"" ::: "memory");
	return 0;
}
