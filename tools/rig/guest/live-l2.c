// SPDX-License-Identifier: GPL-2.0-only
/*
 * An L2 that stays active while the host's KVM is patched, and with it the MSR filter
 * changes again and again.
 *
 *	live-l2 DIR	DIR is the livepatch's in /sys/kernel/livepatch
 *
 * L2 accesses an MSR that L1 and KVM pass through unless the filter denies it, and
 * never exits to L1.  Filters that deny it and filters that do not are installed in
 * turn, and whether the accesses exit has to be as the filter says, which without the
 * livepatch it is not: the MSR bitmap of an active L2 stays what it was when L1 has
 * entered it.
 *
 * On SIGUSR1, it says what came since the last time, a line for each state of the
 * livepatch that was seen, as live.c has them, and "end":
 *
 *	live-l2,STATE,CHANGES,WRONG
 *
 * CHANGES of the filter were seen, and WRONG interceptions among them.
 *
 * It is built with the library of the kernel's selftests, and it runs until it is
 * killed.  Exit status 1: KVM does not do what it takes; 254: nor does the library.
 */
#include "msr_filter_nested.h"

#include "live.h"

/* So long that what the other VM measures is hardly disturbed. */
#define PAUSE_US	50000

static struct seen {
	unsigned long changes, wrong;
} seen[STATES], batch;

static struct nested_vm vm;

static void change(bool deny)
{
	struct msr_outcome outcome;

	vm_deny_msr(vm.vm, MSR_FS_BASE, deny ? FILTER_RW : 0);
	outcome = nested_access_in_l2(&vm);
	batch.changes++;
	batch.wrong += outcome.handler != (deny ? MSR_BY_USER : MSR_BY_CPU);
}

static void keep(enum state state)
{
	seen[state].changes += batch.changes;
	seen[state].wrong += batch.wrong;
	batch = (struct seen){};
}

static void tell(void)
{
	int i;

	for (i = 0; i < STATES; i++) {
		if (seen[i].changes)
			printf("live-l2,%s,%lu,%lu\n", state_names[i],
			       seen[i].changes, seen[i].wrong);
		seen[i] = (struct seen){};
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
	gva_t vmx[NR_L2S];

	if (argc != 2) {
		fprintf(stderr, "usage: live-l2 DIR\n");
		return 1;
	}
	sigaction(SIGUSR1, &action, NULL);

	nested_vm_create_vmx(&vm, NULL, 1, vmx);
	nested_expect_stage(&vm, SYNC_IN_L1);
	vm.orders->l2_stays = true;
	nested_enter_l2(&vm, MSR_FS_BASE, false, MSR_VALUE_WRITTEN);
	watch(&watched, argv[1]);
}
