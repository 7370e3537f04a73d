/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef POPCORN_INIT_H
#define POPCORN_INIT_H

/* network.c */
void raise_network(long id);

/* sshd.c */
int listen_for_ssh(void);
void serve_ssh(int listener);

/* settle.c */
void flush_tlb(void);

#endif /* POPCORN_INIT_H */
