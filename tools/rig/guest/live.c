// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM whose MSR filter changes again and again while the host's KVM is patched.
 *
 *	live DIR	DIR is the livepatch's in /sys/kernel/livepatch
 *
 * The guest reads an MSR that is passed through unless the filter denies it, and then
 * writes to an I/O port.  Filters that deny it and filters that do not are installed
 * in turn, and whether the access exits has to be as the filter says, at once and at
 * the next access, too.  What a change costs is the KVM_RUN up to the first exit after
 * it minus the one after that which is the same but for the change.
 *
 * On SIGUSR1, it says what came since the last time, a line for each state of the
 * livepatch that was seen, and "end":
 *
 *	live,STATE,CHANGES,WRONG,MIN,MEDIAN,MAX
 *
 * STATE is "absent", "transition", "enabled", "disabled", or "changing" where it was
 * another one after a few changes than before.  CHANGES of the filter were seen, WRONG
 * interceptions among them, and what a change costs is in TSC cycles; under Bochs
 * these are retired instructions.
 *
 * It runs until it is killed.  Exit status 1: KVM does not do what it takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "live.h"
#include "vm.h"

#define PORT		0x10

#define MAX_COSTS	65536
#define PAUSE_US	5000

static struct seen {
	unsigned long changes, wrong;
	unsigned int costs;
	long cost[MAX_COSTS];
} seen[STATES], batch;

static int vm, vcpu;
static struct kvm_run *run;

static void __noreturn die(const char *what)
{
	fprintf(stderr, "live: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned long long read_tsc(void)
{
	unsigned int low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high));
	return (unsigned long long)high << 32 | low;
}

static void create_vm(void)
{
	static const unsigned char code[] = {
		0x66, 0xb9, 0x00, 0x01, 0x00, 0xc0,	/* mov $FS_BASE, %ecx */
		0x0f, 0x32,				/* rdmsr */
		0xe6, PORT,				/* out %al, $PORT */
		0xeb, 0xf4,				/* jmp to the start */
	};
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = { KVM_MSR_EXIT_REASON_FILTER },
	};
	int kvm;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = xioctl(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	xioctl(vm, KVM_ENABLE_CAP, &cap, "KVM_CAP_X86_USER_SPACE_MSR");
	memcpy(add_memory(vm) + GUEST_RIP, code, sizeof(code));

	vcpu = xioctl(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	run = set_up_vcpu(vcpu, xioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL,
				       "KVM_GET_VCPU_MMAP_SIZE"));
}

static void set_filter(bool deny)
{
	unsigned char bitmap = deny ? 0 : 0xff;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = {
			.flags = FILTER_RW,
			.base = MSR_FS_BASE,
			.nmsrs = 8,
			.bitmap = &bitmap,
		},
	};

	xioctl(vm, KVM_X86_SET_MSR_FILTER, &filter, "KVM_X86_SET_MSR_FILTER");
}

/* Run to the next exit that is not a signal's; how long that took, or -1. */
static long enter(void)
{
	unsigned long long start;
	bool broken = false;

	for (;;) {
		start = read_tsc();
		if (!ioctl(vcpu, KVM_RUN, NULL))
			break;
		/* A livepatch may hurry tasks along by signals that are none. */
		if (errno != EINTR && errno != EAGAIN)
			die("KVM_RUN");
		broken = true;
	}
	return broken ? -1 : (long)(read_tsc() - start);
}

static bool exited_by_msr(void)
{
	return run->exit_reason == KVM_EXIT_X86_RDMSR &&
	       run->msr.index == MSR_FS_BASE;
}

/* Once through the guest's loop; whether it exits as it should. */
static bool go_round(bool denied, long *took)
{
	bool fine = true;

	*took = enter();
	if (exited_by_msr()) {
		fine = denied && run->msr.reason == KVM_MSR_EXIT_REASON_FILTER;
		run->msr.error = 0;
		run->msr.data = 0;
		enter();
	} else {
		fine = !denied;
	}
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
		fprintf(stderr, "live: exit reason %u\n", run->exit_reason);
		exit(1);
	}
	return fine;
}

static void change(bool deny)
{
	long first, then;
	bool fine;

	set_filter(deny);
	fine = go_round(deny, &first);
	fine &= go_round(deny, &then);
	batch.changes++;
	batch.wrong += !fine;
	if (first >= 0 && then >= 0 && batch.costs < MAX_COSTS)
		batch.cost[batch.costs++] = first - then;
}

static void forget(struct seen *one)
{
	one->changes = 0;
	one->wrong = 0;
	one->costs = 0;
}

static void keep(enum state state)
{
	struct seen *in = &seen[state];
	unsigned int i;

	in->changes += batch.changes;
	in->wrong += batch.wrong;
	for (i = 0; i < batch.costs && in->costs < MAX_COSTS; i++)
		in->cost[in->costs++] = batch.cost[i];
	forget(&batch);
}

static int by_size(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

static void tell(void)
{
	struct seen *one;
	int i;

	for (i = 0; i < STATES; i++) {
		one = seen + i;
		if (!one->changes)
			continue;
		qsort(one->cost, one->costs, sizeof(one->cost[0]), by_size);
		printf("live,%s,%lu,%lu,%ld,%ld,%ld\n", state_names[i],
		       one->changes, one->wrong, one->cost[0],
		       one->cost[one->costs / 2],
		       one->cost[one->costs ? one->costs - 1 : 0]);
		forget(one);
	}
	printf("end\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct watched watched = {
		.change = change,
		.keep = keep,
		.tell = tell,
		.pause_us = PAUSE_US,
	};
	struct sigaction action = { .sa_handler = be_asked };

	if (argc != 2) {
		fprintf(stderr, "usage: live DIR\n");
		return 1;
	}
	sigaction(SIGUSR1, &action, NULL);
	create_vm();
	/* The first ones fault the guest's memory in. */
	change_batch(&watched);
	forget(&batch);
	watch(&watched, argv[1]);
}
