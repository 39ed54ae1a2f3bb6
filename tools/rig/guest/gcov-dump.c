// SPDX-License-Identifier: GPL-2.0-only
/*
 * What gcov has counted in the host kernel, to the third serial port: the last test
 * of a boot, with the modules still loaded or not, as the kernel keeps what those
 * have counted that are gone.
 *
 *	gcov-dump FOLDER NAME...	FOLDER/NAME.o is an object, where it was built
 *
 * The port gets, and the host checks all of it:
 *
 *	gcov-dump N			so many files follow
 *	SIZE CRC NAME			of one; CRC is CRC-32, in hexadecimal
 *	SIZE bytes, and '\n'
 *	end
 *
 * Exit status: 0 all of them are there; 1 otherwise, and what is there was sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Tests have others. */
#ifndef COUNTED
#define COUNTED		"/sys/kernel/debug/gcov"
#define PORT		"/dev/ttyS2"
#endif

/* Far more than an object of KVM's has. */
#define MAX_SIZE	(8 << 20)

static unsigned char data[MAX_SIZE];

static int open_port(void)
{
	int fd = open(PORT, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	struct termios tio;

	if (fd < 0 || tcgetattr(fd, &tio))
		return -1;
	cfmakeraw(&tio);
	cfsetspeed(&tio, B115200);
	return tcsetattr(fd, TCSANOW, &tio) ? -1 : fd;
}

static bool send(int port, const void *from, size_t size)
{
	const char *at = from;
	ssize_t n;

	while (size) {
		n = write(port, at, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= n;
	}
	return true;
}

static uint32_t crc32(const unsigned char *at, size_t size)
{
	uint32_t crc = ~0U;
	int i;

	while (size--) {
		crc ^= *at++;
		for (i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* Its size; -1: it cannot be read, or is too large. */
static ssize_t read_counts(const char *folder, const char *name)
{
	ssize_t n = -1, size = 0;
	char path[1024];
	int fd;

	snprintf(path, sizeof(path), "%s%s/%s.gcda", COUNTED, folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("%s: %s\n", path, strerror(errno));
		return -1;
	}
	while (size < MAX_SIZE) {
		n = read(fd, data + size, MAX_SIZE - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		size += n;
	}
	if (n)
		printf("%s: %s\n", path, n < 0 ? strerror(errno) : "too large");
	close(fd);
	return n ? -1 : size;
}

int main(int argc, char **argv)
{
	int port = open_port(), failed = 0, i;
	char line[512];
	ssize_t size;
	bool sent;

	if (argc < 3) {
		printf("usage: gcov-dump FOLDER NAME...\n");
		return 1;
	}
	if (port < 0) {
		printf("%s: %s\n", PORT, strerror(errno));
		return 1;
	}
	snprintf(line, sizeof(line), "gcov-dump %d\n", argc - 2);
	sent = send(port, line, strlen(line));
	for (i = 2; i < argc; i++) {
		size = read_counts(argv[1], argv[i]);
		if (size < 0) {
			failed++;
			continue;
		}
		snprintf(line, sizeof(line), "%zd %08x %s\n", size,
			 crc32(data, size), argv[i]);
		sent = sent && send(port, line, strlen(line)) &&
		       send(port, data, size) && send(port, "\n", 1);
		printf("%s: %zd bytes\n", argv[i], size);
	}
	sent = sent && send(port, "end\n", 4);
	if (!sent)
		printf("%s: %s\n", PORT, strerror(errno));
	if (tcdrain(port)) {
		printf("%s: %s\n", PORT, strerror(errno));
		sent = false;
	}
	return sent && !failed ? 0 : 1;
}
