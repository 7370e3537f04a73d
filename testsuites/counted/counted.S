/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A kernel after the Multiboot specification that executes instructions of
 * known number between marks of tools/instruction-counter, and then halts.
 * test_instructions.py knows the numbers.
 */
#define MARK	.byte 0x0f, 0x1f, 0x84, 0x00; .ascii "POPC"
#define MAGIC	0x1badb002

	.text
	.long MAGIC, 0, -MAGIC
	.globl _start
_start:
	MARK
	mov $LOOPS, %ecx		/* 1 */
1:	dec %ecx			/* twice LOOPS */
	jnz 1b
	MARK				/* 1 */
	cld				/* 4 */
	mov $_start + 0x10000, %edi
	mov $0x1000, %ecx
	xor %eax, %eax
	rep stosb			/* 1, however often it repeats */
	MARK				/* 1 */
	xor %ecx, %ecx			/* 1 */
	rep stosb			/* 1, though it does nothing */
	MARK				/* 1 */
1:	cli
	hlt
	jmp 1b
