// SPDX-License-Identifier: GPL-2.0-only
/* Frames on a virtual TTY line: see vty-line.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "vty-line.h"

#define STX	'\002'
#define ETX	'\003'

static const char alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Raw, and 8 bits: the line's data must not be interpreted on its way. */
void set_raw(int fd)
{
	struct termios tio;

	if (tcgetattr(fd, &tio))
		return;
	tio.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR |
			 ICRNL | IXON | IXOFF);
	tio.c_oflag &= ~OPOST;
	tio.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	tio.c_cflag &= ~(CSIZE | PARENB);
	tio.c_cflag |= CS8;
	tio.c_cc[VMIN] = 1;
	tio.c_cc[VTIME] = 0;
	tcsetattr(fd, TCSANOW, &tio);
}

/* Start a session: what was queued for another one is dropped. */
void line_begin(struct line *line, const char *token)
{
	memcpy(line->token, token, TOKEN_LEN);
	line->token[TOKEN_LEN] = '\0';
	line->tx_seq = 0;
	line->rx_seq = 0;
	line->tx_start = 0;
	line->tx_end = 0;
}

bool line_idle(const struct line *line)
{
	return line->tx_start == line->tx_end;
}

/* Room for a frame, and after it for the few short ones that end a session. */
bool line_can_queue(const struct line *line)
{
	return sizeof(line->tx) - (line->tx_end - line->tx_start) >=
	       2 * FRAME_TEXT;
}

static uint32_t crc32(const char *text, size_t len)
{
	uint32_t crc = 0xffffffff;

	while (len--) {
		crc ^= (unsigned char)*text++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static char *put_hex(char *to, uint32_t value)
{
	for (int shift = 28; shift >= 0; shift -= 4)
		*to++ = "0123456789abcdef"[value >> shift & 15];
	return to;
}

static char *put_base64(char *to, const unsigned char *from, size_t len)
{
	for (; len; from += 3) {
		uint32_t v = from[0] << 16;

		if (len > 1)
			v |= from[1] << 8;
		if (len > 2)
			v |= from[2];
		*to++ = alphabet[v >> 18];
		*to++ = alphabet[v >> 12 & 63];
		*to++ = len > 1 ? alphabet[v >> 6 & 63] : '=';
		*to++ = len > 2 ? alphabet[v & 63] : '=';
		len -= len > 3 ? 3 : len;
	}
	return to;
}

static int digit(char c)
{
	const char *found = c ? strchr(alphabet, c) : NULL;

	return found ? found - alphabet : -1;
}

/* Return the number of bytes decoded, or -1 for what is not base64. */
static int get_base64(unsigned char *to, const char *from, size_t len)
{
	unsigned char *start = to;

	if (len % 4 || len / 4 * 3 > FRAME_DATA)
		return -1;
	for (; len; from += 4, len -= 4) {
		int a = digit(from[0]), b = digit(from[1]);
		int c = digit(from[2]), d = digit(from[3]);

		if (len == 4 && from[3] == '=') {
			d = 0;
			if (from[2] == '=')
				c = 0;
		}
		if (a < 0 || b < 0 || c < 0 || d < 0)
			return -1;
		*to++ = a << 2 | b >> 4;
		*to++ = b << 4 | c >> 2;
		*to++ = c << 6 | d;
		if (len == 4 && from[3] == '=')
			to -= 1 + (from[2] == '=');
	}
	return to - start;
}

static char *reserve(struct line *line)
{
	if (line->tx_start) {
		memmove(line->tx, line->tx + line->tx_start,
			line->tx_end - line->tx_start);
		line->tx_end -= line->tx_start;
		line->tx_start = 0;
	}
	return line->tx + line->tx_end;
}

/*
 * Queue one frame; the caller has asked line_can_queue() before, unless it is
 * one of those that end a session.
 */
void line_queue(struct line *line, char type, const void *data, size_t len)
{
	char *start = reserve(line), *to = start;

	*to++ = STX;
	memcpy(to, line->token, TOKEN_LEN);
	to += TOKEN_LEN;
	*to++ = ' ';
	to = put_hex(to, line->tx_seq++);
	*to++ = ' ';
	*to++ = type;
	*to++ = ' ';
	to = put_base64(to, data, len);
	*to++ = ' ';
	to = put_hex(to, crc32(start + 1, to - start - 1));
	*to++ = '\n';
	line->tx_end = to - line->tx;
}

void line_queue_text(struct line *line, const char *text)
{
	size_t len = strlen(text);
	char *to = reserve(line);

	if (len > sizeof(line->tx) - line->tx_end)
		return;
	memcpy(to, text, len);
	line->tx_end += len;
}

/* Write what the line takes now; -1 when it is gone. */
int line_flush(struct line *line)
{
	while (!line_idle(line)) {
		ssize_t n = write(line->fd, line->tx + line->tx_start,
				  line->tx_end - line->tx_start);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		if (!n)
			return 0;
		line->tx_start += n;
	}
	return 0;
}

/* Give the line some time to take the last words, and no more. */
void line_drain(struct line *line)
{
	long long deadline = now_ms() + DRAIN_MS;

	while (!line_flush(line) && !line_idle(line) && now_ms() < deadline) {
		struct pollfd pfd = { line->fd, POLLOUT, 0 };

		poll(&pfd, 1, RETRY_MS);
	}
}

/* Read what is there: bytes read, 0 if none, -1 when the line is gone. */
int line_fill(struct line *line)
{
	ssize_t n;

	if (line->input_start < line->input_end)
		return line->input_end - line->input_start;
	n = read(line->fd, line->input, sizeof(line->input));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	line->input_start = 0;
	line->input_end = n;
	return n ? n : -1;
}

static enum line_event parse(struct line *line, struct frame *frame)
{
	const char *text = strrchr(line->text, STX);
	const char *type, *end;
	int len;

	if (!text)
		return LINE_TEXT;
	text++;
	if (strncmp(text, line->token, TOKEN_LEN) || text[TOKEN_LEN] != ' ')
		return LINE_TEXT;
	end = strrchr(text, ' ');
	if (end - text < TOKEN_LEN + 12 ||
	    strtoul(end + 1, NULL, 16) != crc32(text, end + 1 - text))
		return LINE_DAMAGED;
	type = text + TOKEN_LEN + 10;
	if (strtoul(text + TOKEN_LEN + 1, NULL, 16) != line->rx_seq)
		return LINE_DAMAGED;
	line->rx_seq++;
	len = get_base64(frame->data, type + 2, end - type - 2);
	if (len < 0)
		return LINE_DAMAGED;
	frame->type = *type;
	frame->len = len;
	frame->data[len] = '\0';
	return LINE_FRAME;
}

/* Take the next event out of what line_fill() read. */
enum line_event line_next(struct line *line, struct frame *frame)
{
	while (line->input_start < line->input_end) {
		char c = line->input[line->input_start++];

		if (c == ETX) {
			line->text_len = 0;
			return LINE_BREAK;
		}
		if (c == '\n') {
			line->text[line->text_len] = '\0';
			line->text_len = 0;
			return parse(line, frame);
		}
		/* No frame is that long: keep its end, where one may start. */
		if (line->text_len == sizeof(line->text) - 1) {
			line->text_len -= FRAME_TEXT;
			memmove(line->text, line->text + FRAME_TEXT,
				line->text_len);
		}
		if (c)
			line->text[line->text_len++] = c;
	}
	return LINE_NOTHING;
}
