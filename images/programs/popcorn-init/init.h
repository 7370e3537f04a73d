/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_INIT_H
#define POPCORN_INIT_H

/* identity.c */
struct identity {
	long id;	/* of this kernel; -1 if it has none */
	long kernels;	/* all ids are less */
};

struct identity who_am_i(void);

/* network.c */
void raise_network(const struct identity *self);

/* sshd.c */
int listen_for_ssh(void);
void serve_ssh(int listener);

/* settle.c */
void flush_tlb(void);

#endif /* POPCORN_INIT_H */
