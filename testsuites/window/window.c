// SPDX-License-Identifier: Apache-2.0
/*
 * window read | write TEXT: the first bytes of the memory that virtual machines
 * share by an ivshmem device.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TEXT_BYTES	256

static int is_ivshmem(const char *folder)
{
	static const char *const names[] = { "vendor", "device" };
	static const char *const ids[] = { "0x1af4", "0x1110" };
	char path[512], text[16] = "";
	FILE *file;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		file = fopen(path, "r");
		if (!file)
			return 0;
		if (!fgets(text, sizeof(text), file))
			text[0] = 0;
		fclose(file);
		if (strncmp(text, ids[i], 6))
			return 0;
	}
	return 1;
}

static char *map_window(const char *folder)
{
	char path[512];
	void *window;
	int fd;

	/* No driver has told the device to answer. */
	snprintf(path, sizeof(path), "%s/enable", folder);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1)
		return NULL;
	close(fd);
	snprintf(path, sizeof(path), "%s/resource2", folder);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return NULL;
	window = mmap(NULL, TEXT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return window == MAP_FAILED ? NULL : window;
}

int main(int argc, char **argv)
{
	char *window = NULL;
	glob_t found;

	if (argc < 2 || (strcmp(argv[1], "read") && (strcmp(argv[1], "write") || argc != 3))) {
		fprintf(stderr, "usage: window read | write TEXT\n");
		return 2;
	}
	if (glob("/sys/bus/pci/devices/*", 0, NULL, &found))
		found.gl_pathc = 0;
	for (size_t i = 0; i < found.gl_pathc && !window; i++)
		if (is_ivshmem(found.gl_pathv[i]))
			window = map_window(found.gl_pathv[i]);
	if (!window) {
		perror("window: no shared memory");
		return 1;
	}
	if (!strcmp(argv[1], "write"))
		snprintf(window, TEXT_BYTES, "%s", argv[2]);
	else
		printf("%.*s\n", TEXT_BYTES - 1, window);
	return 0;
}
