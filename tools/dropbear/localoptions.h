/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of dropbear goes into the guest images: a server for one user with one
 * key, whose clients are the harness (paramiko) and OpenSSH.  The meaning of
 * each option is in dropbear's default_options.h.
 */

/* One process a connection, started by whoever has the connection. */
#define INETD_MODE 1
#define NON_INETD_MODE 1
#define DROPBEAR_REEXEC 0

/* Keys are given, of one kind. */
#define DROPBEAR_RSA 0
#define DROPBEAR_RSA_SHA1 0
#define DROPBEAR_ECDSA 0
#define DROPBEAR_ED25519 1
#define DROPBEAR_SK_KEYS 0
#define DROPBEAR_DELAY_HOSTKEY 0
#define DROPBEAR_SVR_PUBKEY_AUTH 1
#define DROPBEAR_SVR_PASSWORD_AUTH 0

/* paramiko has no ChaCha20; AES in software is the slower of the two. */
#define DROPBEAR_CURVE25519 1
#define DROPBEAR_ECDH 0
#define DROPBEAR_DH_GROUP14_SHA1 0
#define DROPBEAR_DH_GROUP14_SHA256 0
#define DROPBEAR_CHACHA20POLY1305 1
#define DROPBEAR_AES128 1
#define DROPBEAR_AES256 0
#define DROPBEAR_SHA1_HMAC 0
#define DROPBEAR_SHA2_256_HMAC 1
#define DROPBEAR_USER_ALGO_LIST 0
/* Tables, for speed. */
#define DROPBEAR_SMALL_CODE 0

/* The primary is the gateway to the others: "ssh -L". */
#define DROPBEAR_SVR_LOCALTCPFWD 1
#define DROPBEAR_SVR_REMOTETCPFWD 0
#define DROPBEAR_SVR_AGENTFWD 0
#define DO_MOTD 0

/* All clients of the primary come from one address. */
#define MAX_UNAUTH_PER_IP 64
#define MAX_UNAUTH_CLIENTS 64

#define SFTPSERVER_PATH "/usr/lib/sftp-server"
