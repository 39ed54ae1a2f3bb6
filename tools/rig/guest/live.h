/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMs that run while the host's KVM is livepatched: changes of the filter, by the state
 * that the livepatch is in, until somebody wants to know what was seen.
 */
#ifndef RIG_GUEST_LIVE_H
#define RIG_GUEST_LIVE_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* Changes of the filter between two looks at the state. */
#define BATCH		16

/* CHANGING: it was another one after a batch than before. */
enum state { ABSENT, TRANSITION, ENABLED, DISABLED, CHANGING, STATES };

static const char * const state_names[] = {
	"absent", "transition", "enabled", "disabled", "changing",
};

static int asked;

/* By SIGUSR1. */
static void be_asked(int sig)
{
	(void)sig;
	__atomic_store_n(&asked, 1, __ATOMIC_RELAXED);
}

/* Has it come since the last time? */
static int was_asked(void)
{
	return __atomic_exchange_n(&asked, 0, __ATOMIC_RELAXED);
}

static int read_flag(const char *dir, const char *name)
{
	char path[256], text[8] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return text[0] == '1';
}

/* @dir is the livepatch's in /sys/kernel/livepatch. */
static enum state get_state(const char *dir)
{
	int enabled = read_flag(dir, "enabled");

	if (enabled < 0)
		return ABSENT;
	if (read_flag(dir, "transition") == 1)
		return TRANSITION;
	return enabled ? ENABLED : DISABLED;
}

struct watched {
	/* Change the filter, and look whether the guest's accesses exit as it says. */
	void (*change)(bool deny);
	/* What came of the changes since the last time, the livepatch in that state. */
	void (*keep)(enum state state);
	/* All that was kept since the last time. */
	void (*tell)(void);
	unsigned int pause_us;
};

static void change_batch(const struct watched *vm)
{
	unsigned int i;

	for (i = 0; i < BATCH; i++)
		vm->change(i & 1);
}

/* For ever. */
static void watch(const struct watched *vm, const char *dir)
{
	enum state state;

	for (;;) {
		state = get_state(dir);
		change_batch(vm);
		vm->keep(state == get_state(dir) ? state : CHANGING);
		if (was_asked())
			vm->tell();
		usleep(vm->pause_us);
	}
}

#endif
