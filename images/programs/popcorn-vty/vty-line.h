/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames on a virtual TTY line.
 *
 * A frame is one line of text, so that whatever else appears on the line (a
 * prompt, an echo, the remains of a session that was killed) is told apart
 * from it and skipped:
 *
 *	STX token SP sequence SP type SP base64 SP crc32 LF
 *
 * The token names the session, and a client types it once, so that one server
 * at most has it.  Frames of another session are ignored; a frame of this one
 * that is damaged or missing ends it, because the line between two kernels does
 * not lose bytes by itself.
 */
#ifndef VTY_LINE_H
#define VTY_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_LEN	16	/* characters */
#define FRAME_DATA	768	/* bytes of payload in one frame */
#define FRAME_TEXT	(FRAME_DATA / 3 * 4 + TOKEN_LEN + 32)

#define LOOK_MS		800	/* the client looks whether the kernel lives */
#define PING_MS		5000	/* the client says that it is alive */
#define SERVE_SILENCE_MS 30000	/* the server gives a silent client up */
#define CLIENT_SILENCE_MS 60000	/* the client gives a silent server up */
#define RETRY_MS	100	/* a full line is tried again */
#define DRAIN_MS	2000	/* the line has that long to take last words */

/* What the two ends say to each other. */
enum frame_type {
	FRAME_HELLO = 'h',	/* server: ready for a command */
	FRAME_ARGV = 'a',	/* client: a piece of NUL-terminated argv */
	FRAME_RUN = 'r',	/* client: decimal length of the whole argv */
	FRAME_STDOUT = 'o',
	FRAME_STDERR = 'e',
	FRAME_EXITED = 'x',	/* server: decimal exit status */
	FRAME_SIGNALED = 's',	/* server: decimal signal number */
	FRAME_REFUSED = 'f',	/* server: why no command was run */
	FRAME_LEFT = 'l',	/* server: gone, and no command was run */
	FRAME_PING = 'k',
	FRAME_PONG = 'p',
	FRAME_QUIT = 'q',	/* client: kill the command */
	FRAME_BYE = 'b',	/* client: got the status, end the session */
};

enum line_event {
	LINE_NOTHING,		/* needs more input */
	LINE_FRAME,		/* a frame of this session */
	LINE_TEXT,		/* a line that is no frame: line.text */
	LINE_BREAK,		/* ^C outside a frame */
	LINE_DAMAGED,		/* a frame of this session, lost or garbled */
};

struct frame {
	char type;
	size_t len;
	unsigned char data[FRAME_DATA + 1];	/* NUL after the payload */
};

struct line {
	int fd;
	char token[TOKEN_LEN + 1];
	uint32_t tx_seq, rx_seq;
	char tx[3 * FRAME_TEXT];	/* the last third is for last words */
	size_t tx_start, tx_end;
	char input[1024];
	size_t input_start, input_end;
	char text[2 * FRAME_TEXT];
	size_t text_len;
};

long long now_ms(void);
void set_raw(int fd);

void line_begin(struct line *line, const char *token);
bool line_can_queue(const struct line *line);
bool line_idle(const struct line *line);
void line_queue(struct line *line, char type, const void *data, size_t len);
void line_queue_text(struct line *line, const char *text);
int line_flush(struct line *line);
void line_drain(struct line *line);
int line_fill(struct line *line);
enum line_event line_next(struct line *line, struct frame *frame);

int vty_exec(int argc, char **argv);
int vty_serve(const char *token);
int vty_connect(int argc, char **argv);
const char *kernel_ended(const char *id);
int open_vty(const char *id, const char *device, int wait_s);

/* Who would run it again must know: the harness looks for these words. */
#define MAY_HAVE_RUN	"the command may have run"

#define EXIT_TIMED_OUT	124
#define EXIT_PROTOCOL	125

#endif /* VTY_LINE_H */
