// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify who deals with a guest's MSR accesses while userspace changes the MSR
 * filter: the CPU (KVM passes the MSR through), KVM (the MSR is intercepted),
 * or userspace (the filter denies the access).
 *
 * The guest can't tell an MSR that is passed through from one that KVM
 * intercepts and emulates, and neither can a test that looks at values only.
 * What differs is the number of VM-Exits, so count them for each MSR, for reads
 * and writes apart, under every filter in a sequence of filters.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

/*
 * VM-Exits that are not due to the access, e.g. for the host's interrupts, are
 * few: tolerate less than one per two accesses.
 */
#define NR_ACCESSES	128
#define MAX_NOISE	(NR_ACCESSES / 2)

/* Canonical, and all different, so that no value is taken for another. */
#define VALUE_WRITTEN	0x00005a5a00001000ull
#define VALUE_IN_MSR	0x00001234abcd0000ull
#define VALUE_FROM_USER	0x0000777711112222ull

enum handler {
	CPU,
	KVM,
	USERSPACE,
};

static const char * const handler_names[] = {
	[CPU] = "the CPU",
	[KVM] = "KVM",
	[USERSPACE] = "userspace",
};

/* The MSRs, and who deals with accesses that the filter allows. */
static const struct test_msr {
	u32 index;
	const char *name;
	enum handler reader;
	enum handler writer;
	bool is_volatile;
} test_msrs[] = {
	/* KVM passes these through, reads and writes. */
	{ MSR_FS_BASE, "FS_BASE", CPU, CPU },
	{ MSR_GS_BASE, "GS_BASE", CPU, CPU },
	{ MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE", CPU, CPU },
	/* Possible-passthrough as well, but KVM itself intercepts writes. */
	{ MSR_IA32_TSC, "IA32_TSC", CPU, KVM, .is_volatile = true },
	/* KVM never passes this one through. */
	{ MSR_LSTAR, "LSTAR", KVM, KVM },
};

/* The filters, in the order in which they are installed. */
static const struct test_filter {
	const char *name;
	/* The flags of a range for FS_BASE alone; 0 for no such range. */
	u32 range_flags;
	/* Does that range allow the accesses, or deny them? */
	bool allow;
} test_filters[] = {
	{ "no filter yet" },
	{ "FS_BASE denied", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE },
	{ "FS_BASE allowed", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, true },
	{ "FS_BASE reads denied", KVM_MSR_FILTER_READ },
	{ "FS_BASE writes denied", KVM_MSR_FILTER_WRITE },
	{ "no ranges" },
	{ "FS_BASE denied again", KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE },
	{ "no ranges again" },
};

/* What the guest is to do, set by the host, and the last value it read. */
static struct {
	u32 index;
	u32 write;
	u64 value;
} guest_access;

static u64 guest_read;

static void guest_code(void)
{
	int i;

	for (;;) {
		for (i = 0; i < NR_ACCESSES; i++) {
			if (guest_access.write)
				wrmsr(guest_access.index, guest_access.value);
			else
				guest_read = rdmsr(guest_access.index);
		}
		GUEST_SYNC(0);
	}
}

static void set_filter(struct kvm_vm *vm, const struct test_filter *test)
{
	/*
	 * The second range is for an index that no MSR has.  It makes allowing
	 * filters more than an empty list, and is never looked at for FS_BASE.
	 */
	u8 fs_base_bitmap = test->allow, unused_bitmap = 1;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
	};

	if (test->range_flags) {
		filter.ranges[0].flags = test->range_flags;
		filter.ranges[0].base = MSR_FS_BASE;
		filter.ranges[0].nmsrs = 1;
		filter.ranges[0].bitmap = &fs_base_bitmap;

		filter.ranges[1].flags = KVM_MSR_FILTER_READ |
					 KVM_MSR_FILTER_WRITE;
		filter.ranges[1].base = 0x4f000000;
		filter.ranges[1].nmsrs = 1;
		filter.ranges[1].bitmap = &unused_bitmap;
	}

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static enum handler expected_handler(const struct test_msr *msr, bool write,
				     const struct test_filter *filter)
{
	u32 flag = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;

	if (msr->index == MSR_FS_BASE && !filter->allow &&
	    (filter->range_flags & flag))
		return USERSPACE;

	return write ? msr->writer : msr->reader;
}

/* Deal with one access that the filter denies. */
static void handle_denied_access(struct kvm_run *run,
				 const struct test_msr *msr, bool write)
{
	TEST_ASSERT(run->exit_reason ==
		    (write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR),
		    "Exit reason %u on a %s of %s", run->exit_reason,
		    write ? "write" : "read", msr->name);
	TEST_ASSERT(run->msr.index == msr->index,
		    "Userspace got MSR 0x%x, the guest accessed 0x%x (%s)",
		    run->msr.index, msr->index, msr->name);
	TEST_ASSERT(run->msr.reason == KVM_MSR_EXIT_REASON_FILTER,
		    "Exit for reason %u, expected KVM_MSR_EXIT_REASON_FILTER",
		    run->msr.reason);

	if (write)
		TEST_ASSERT(run->msr.data == VALUE_WRITTEN,
			    "Userspace got 0x%llx, the guest wrote 0x%llx",
			    (unsigned long long)run->msr.data, VALUE_WRITTEN);
	else
		run->msr.data = VALUE_FROM_USER;
	run->msr.error = 0;
}

/* The value has to come from, or end up at, whoever dealt with the access. */
static void check_value(struct kvm_vcpu *vcpu, const struct test_msr *msr,
			bool write, enum handler handler)
{
	u64 value, expected;

	if (msr->is_volatile)
		return;

	if (write) {
		value = vcpu_get_msr(vcpu, msr->index);
		expected = handler == USERSPACE ? VALUE_IN_MSR : VALUE_WRITTEN;
	} else {
		sync_global_from_guest(vcpu->vm, guest_read);
		value = guest_read;
		expected = handler == USERSPACE ? VALUE_FROM_USER : VALUE_IN_MSR;
	}

	TEST_ASSERT(value == expected,
		    "%s %s 0x%llx, expected 0x%llx",
		    msr->name, write ? "holds" : "reads as",
		    (unsigned long long)value, (unsigned long long)expected);
}

static void test_access(struct kvm_vcpu *vcpu, const struct test_msr *msr,
			bool write, const struct test_filter *filter)
{
	enum handler handler, expected = expected_handler(msr, write, filter);
	u64 exits, to_userspace = 0;
	struct ucall uc;

	if (!msr->is_volatile)
		vcpu_set_msr(vcpu, msr->index, VALUE_IN_MSR);

	guest_access.index = msr->index;
	guest_access.write = write;
	guest_access.value = msr->is_volatile ? vcpu_get_msr(vcpu, msr->index) :
						VALUE_WRITTEN;
	sync_global_to_guest(vcpu->vm, guest_access);

	exits = vcpu_get_stat(vcpu, exits);
	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_IO)
			break;
		handle_denied_access(vcpu->run, msr, write);
		to_userspace++;
	}
	exits = vcpu_get_stat(vcpu, exits) - exits;

	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC,
		    "Unexpected ucall %lu", (unsigned long)uc.cmd);

	if (to_userspace)
		handler = USERSPACE;
	else if (exits <= MAX_NOISE)
		handler = CPU;
	else
		handler = KVM;

	printf("%-22s %-5s %-14s: %4llu VM-Exits, %3llu to userspace: %s\n",
	       filter->name, write ? "write" : "read", msr->name,
	       (unsigned long long)exits, (unsigned long long)to_userspace,
	       handler_names[handler]);

	TEST_ASSERT(handler == expected,
		    "%s: %d %ss of %s: %llu VM-Exits, %llu of them to userspace, i.e. dealt with by %s, expected %s",
		    filter->name, NR_ACCESSES, write ? "write" : "read",
		    msr->name, (unsigned long long)exits,
		    (unsigned long long)to_userspace, handler_names[handler],
		    handler_names[expected]);

	/* All of them, not some. */
	TEST_ASSERT(handler == CPU || exits >= NR_ACCESSES,
		    "%s: only %llu VM-Exits for %d accesses to %s",
		    filter->name, (unsigned long long)exits, NR_ACCESSES,
		    msr->name);
	TEST_ASSERT(handler != USERSPACE || to_userspace == NR_ACCESSES,
		    "%s: only %llu exits to userspace for %d accesses to %s",
		    filter->name, (unsigned long long)to_userspace,
		    NR_ACCESSES, msr->name);

	check_value(vcpu, msr, write, handler);
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	unsigned int i, j;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);

	for (i = 0; i < ARRAY_SIZE(test_filters); i++) {
		/* The first one is what a VM has before it gets a filter. */
		if (i)
			set_filter(vm, &test_filters[i]);

		for (j = 0; j < ARRAY_SIZE(test_msrs); j++) {
			test_access(vcpu, &test_msrs[j], false,
				    &test_filters[i]);
			test_access(vcpu, &test_msrs[j], true,
				    &test_filters[i]);
		}
	}

	kvm_vm_free(vm);
	return 0;
}
