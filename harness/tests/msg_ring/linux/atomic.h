/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's atomic accesses as the compiler's, so that a header of the kernel
 * compiles in user space and the sanitizers understand it.
 */
#ifndef _SHIM_LINUX_ATOMIC_H
#define _SHIM_LINUX_ATOMIC_H

#define READ_ONCE(x)			__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, value)		__atomic_store_n(&(x), value, __ATOMIC_RELAXED)
#define smp_load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)

/* Of x86: loads are not reordered, but for the compiler. */
#define smp_rmb()			__atomic_signal_fence(__ATOMIC_SEQ_CST)

#define shim_cmpxchg(p, old, new, order)					\
({										\
	__typeof__(*(p)) shim_old = (old);					\
	__atomic_compare_exchange_n(p, &shim_old, new, 0, order, __ATOMIC_RELAXED); \
	shim_old;								\
})

#define cmpxchg(p, old, new)		shim_cmpxchg(p, old, new, __ATOMIC_SEQ_CST)
#define cmpxchg_relaxed(p, old, new)	shim_cmpxchg(p, old, new, __ATOMIC_RELAXED)
#define cmpxchg_acquire(p, old, new)	shim_cmpxchg(p, old, new, __ATOMIC_ACQUIRE)
#define cmpxchg_release(p, old, new)	shim_cmpxchg(p, old, new, __ATOMIC_RELEASE)
#define xchg(p, new)			__atomic_exchange_n(p, new, __ATOMIC_SEQ_CST)

#endif /* _SHIM_LINUX_ATOMIC_H */
