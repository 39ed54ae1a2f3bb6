// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host kernel checks, and whether it still does: the last test on a kernel
 * that is built to complain.
 *
 * Lockdep stops at its first report, whoever made it give one, and KCSAN may look at
 * nothing at all: then that nothing was reported says nothing.  Kmemleak tells what
 * has leaked when it is asked to look, twice, as an object is not called leaked
 * unless it is five seconds old.
 *
 * One line for each of them: "lockdep: on", "kcsan: N accesses were looked at, R
 * races", "kmemleak: N leaks", and the leaks as kmemleak has them.
 *
 * Exit status: 0 whatever there is of them is on, and nothing leaks; 1 otherwise, or
 * there is none of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCKDEP		"/proc/lockdep_stats"
#define KCSAN		"/sys/kernel/debug/kcsan"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"

/* Seconds; kmemleak's own limit is 5. */
#define OLD_ENOUGH	6

/* What a line of @file has after @key; -1: there is no such line, or file. */
static long value_of(const char *file, const char *key)
{
	char line[512];
	long value = -1;
	char *at;
	FILE *f;

	f = fopen(file, "re");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f)) {
		at = line + strspn(line, " \t");
		if (!strncmp(at, key, strlen(key)))
			value = strtol(at + strlen(key), NULL, 10);
	}
	fclose(f);
	return value;
}

static bool tell_kmemleak(const char *what)
{
	int fd = open(KMEMLEAK, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, what, strlen(what)) > 0;

	if (!ok)
		printf("kmemleak: \"%s\": %s\n", what, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool leaks_nothing(void)
{
	unsigned int nr_leaks = 0;
	char line[512];
	FILE *f;
	int i;

	for (i = 0; i < 2; i++) {
		sleep(OLD_ENOUGH);
		if (!tell_kmemleak("scan"))
			return false;
	}
	f = fopen(KMEMLEAK, "re");
	if (!f) {
		printf("kmemleak: %s\n", strerror(errno));
		return false;
	}
	while (fgets(line, sizeof(line), f)) {
		nr_leaks += !strncmp(line, "unreferenced object", 19);
		fputs(line, stdout);
	}
	fclose(f);
	printf("kmemleak: %u leaks\n", nr_leaks);
	return !nr_leaks && tell_kmemleak("clear");
}

int main(void)
{
	bool ok = true, any = false;
	long looked_at;

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	if (!access(LOCKDEP, F_OK)) {
		any = true;
		if (value_of(LOCKDEP, "debug_locks:") == 1) {
			printf("lockdep: on\n");
		} else {
			printf("lockdep: it has turned itself off\n");
			ok = false;
		}
	}
	if (!access(KCSAN, F_OK)) {
		any = true;
		looked_at = value_of(KCSAN, "setup_watchpoints:");
		printf("kcsan: %ld accesses were looked at, %ld races\n",
		       looked_at, value_of(KCSAN, "data_races:"));
		ok &= value_of(KCSAN, "enabled:") == 1 && looked_at > 0;
	}
	if (!access(KMEMLEAK, F_OK)) {
		any = true;
		ok &= leaks_nothing();
	}
	if (!any)
		printf("this kernel checks nothing that is known here\n");
	return any && ok ? 0 : 1;
}
