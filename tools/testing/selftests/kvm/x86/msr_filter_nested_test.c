// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify who deals with the MSR accesses of a nested guest, L2, while userspace
 * changes the MSR filter and L1 its MSR bitmap, both while L1 runs: L1 if it
 * intercepts the access; else userspace if the filter denies it; else the CPU,
 * or KVM if it does not pass the MSR through.
 */
#include "msr_filter_nested.h"

static u8 deny[KVM_MSR_FILTER_MAX_BITMAP_SIZE];

static const struct nested_msr {
	u32 index;
	/* Reads and writes alike, if nobody wants to intercept them */
	enum msr_handler handler;
	/* Or the CPU: a kernel may pass it through to L2, as it does to L1. */
	bool or_cpu;
	u64 value;
} nested_msrs[] = {
	{ MSR_FS_BASE, MSR_BY_CPU, .value = MSR_VALUE_WRITTEN },
	{ MSR_GS_BASE, MSR_BY_CPU, .value = MSR_VALUE_WRITTEN },
	{ MSR_KERNEL_GS_BASE, MSR_BY_CPU, .value = MSR_VALUE_WRITTEN },
	{ MSR_IA32_SYSENTER_EIP, MSR_BY_KVM, true, MSR_VALUE_WRITTEN },
	{ MSR_IA32_SYSENTER_CS, MSR_BY_KVM, true, 0x10 },
	{ MSR_LSTAR, MSR_BY_KVM, .value = MSR_VALUE_WRITTEN },
};

#define NR_MSRS		ARRAY_SIZE(nested_msrs)

/* Up to where L1 is about to enter L2 for the first time */
static void create_vm(struct nested_vm *n)
{
	gva_t vmx[NR_L2S];

	nested_vm_create_vmx(n, NULL, 1, vmx);
	nested_expect_stage(n, SYNC_IN_L1);
}

static void expect_in_l2(struct nested_vm *n, const struct nested_msr *msr,
			 bool write, enum msr_handler expected,
			 const char *when)
{
	struct msr_outcome outcome;

	nested_enter_l2(n, msr->index, write, msr->value);
	outcome = nested_access_in_l2(n);
	if (expected == MSR_BY_KVM && msr->or_cpu &&
	    outcome.handler == MSR_BY_CPU)
		return;
	nested_assert_outcome(&outcome, expected, msr->index, write, when);
}

/* One nested VM-Enter for each access */
static void check_all(struct nested_vm *n, const struct kvm_msr_filter *filter,
		      u32 l1_index, u32 l1_flags, const char *when)
{
	enum msr_handler expected;
	unsigned int i, write;

	for (i = 0; i < 2 * NR_MSRS; i++) {
		const struct nested_msr *msr = &nested_msrs[i / 2];

		write = i % 2;
		expected = msr->handler;
		if (!msr_filter_allows(filter, msr->index, write))
			expected = MSR_BY_USER;
		/* L1 comes first: it knows nothing of the filter. */
		if (msr->index == l1_index &&
		    (l1_flags & msr_filter_flag(write)))
			expected = MSR_BY_L1;

		expect_in_l2(n, msr, write, expected, when);
	}
	printf("%s: ok\n", when);
}

#define FILTER(_ranges...)	{ .ranges = { _ranges } }
#define ONE(flags, msr)		MSR_RANGE(flags, msr, 1, deny)

static const struct {
	const char *name;
	struct kvm_msr_filter filter;
} filters[] = {
	{ "FS_BASE denied", FILTER(ONE(FILTER_RW, MSR_FS_BASE)) },
	{ "filter removed", FILTER() },
	{ "reads of FS_BASE, writes of GS_BASE denied",
	  FILTER(ONE(FILTER_R, MSR_FS_BASE), ONE(FILTER_W, MSR_GS_BASE)) },
	{ "writes of FS_BASE, reads of GS_BASE denied",
	  FILTER(ONE(FILTER_W, MSR_FS_BASE), ONE(FILTER_R, MSR_GS_BASE)) },
	{ "SYSENTER_EIP, LSTAR denied",
	  FILTER(ONE(FILTER_RW, MSR_IA32_SYSENTER_EIP),
		 ONE(FILTER_RW, MSR_LSTAR)) },
	{ "all denied",
	  { .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	    .ranges = { ONE(FILTER_RW, 0x5f000000) } } },
	{ "filter removed again", FILTER() },
};

static void test_in_l1(struct nested_vm *n)
{
	unsigned int i;

	check_all(n, NULL, 0, 0, "no filter");
	for (i = 0; i < ARRAY_SIZE(filters); i++) {
		vm_set_msr_filter(n->vm, &filters[i].filter);
		check_all(n, &filters[i].filter, 0, 0, filters[i].name);
	}
}

/* L1 intercepts one access from the beginning, and lets go of it at the end. */
static void test_l1_intercepts(struct nested_vm *n, bool write)
{
	struct kvm_msr_filter filter = FILTER(ONE(FILTER_RW, MSR_FS_BASE));
	u32 l1_flags = msr_filter_flag(write);

	nested_l1_intercept(n, MSR_FS_BASE, write, true);
	check_all(n, NULL, MSR_FS_BASE, l1_flags,
		  write ? "L1 intercepts writes" : "L1 intercepts reads");
	vm_set_msr_filter(n->vm, &filter);
	check_all(n, &filter, MSR_FS_BASE, l1_flags, "FS_BASE denied");
	vm_set_msr_filter(n->vm, &msr_filter_none);
	check_all(n, NULL, MSR_FS_BASE, l1_flags, "filter removed");
	nested_l1_intercept(n, MSR_FS_BASE, write, false);
	check_all(n, NULL, 0, 0, "L1 intercepts nothing");

	/* What has been passed through to L2 is not so for ever. */
	nested_l1_intercept(n, MSR_FS_BASE, write, true);
	check_all(n, NULL, MSR_FS_BASE, l1_flags, "L1 intercepts again");
	nested_l1_intercept(n, MSR_FS_BASE, write, false);
}

/* Without a bitmap all accesses are L1's, also what was passed through. */
static void test_l1_has_no_bitmap(struct nested_vm *n)
{
	struct kvm_msr_filter filter = FILTER(ONE(FILTER_RW, MSR_FS_BASE));
	unsigned int i;

	n->orders->l1_has_no_bitmap = true;
	vm_set_msr_filter(n->vm, &filter);
	for (i = 0; i < 2 * NR_MSRS; i++) {
		expect_in_l2(n, &nested_msrs[i / 2], i % 2, MSR_BY_L1,
			     "L1 has no bitmap, FS_BASE denied");
	}
	printf("L1 has no bitmap: ok\n");

	n->orders->l1_has_no_bitmap = false;
	check_all(n, &filter, 0, 0, "L1 has a bitmap again, FS_BASE denied");
	vm_set_msr_filter(n->vm, &msr_filter_none);
	check_all(n, NULL, 0, 0, "L1 has a bitmap again, filter removed");
}

/* KVM passes SPEC_CTRL through once it has been used, and the filter allows. */
static void test_spec_ctrl(void)
{
	struct kvm_msr_filter denied =
		FILTER(ONE(FILTER_RW, MSR_IA32_SPEC_CTRL));
	struct kvm_msr_filter allowed =
		FILTER(ONE(FILTER_RW, MSR_IA32_SPEC_CTRL - 1),
		       ONE(FILTER_RW, MSR_IA32_SPEC_CTRL + 1));
	const struct nested_msr spec_ctrl = {
		MSR_IA32_SPEC_CTRL, MSR_BY_CPU, .value = 1
	};
	struct nested_vm n;
	gva_t vmx[NR_L2S];

	nested_vm_create_vmx(&n, NULL, 1, vmx);
	if (!vcpu_enable_spec_ctrl(n.vcpu)) {
		skip_by_name("SPEC_CTRL in L2: the CPU does not have it");
		kvm_vm_free(n.vm);
		return;
	}

	/* KVM wants to pass it through from here on, but the filter denies it. */
	vm_set_msr_filter(n.vm, &denied);
	vcpu_set_msr(n.vcpu, MSR_IA32_SPEC_CTRL, 1);
	nested_expect_stage(&n, SYNC_IN_L1);
	expect_in_l2(&n, &spec_ctrl, true, MSR_BY_USER, "SPEC_CTRL denied");
	vm_set_msr_filter(n.vm, &allowed);
	vm_set_msr_filter(n.vm, &denied);
	expect_in_l2(&n, &spec_ctrl, true, MSR_BY_USER,
		     "SPEC_CTRL denied, by another filter");
	vm_set_msr_filter(n.vm, &allowed);
	expect_in_l2(&n, &spec_ctrl, true, MSR_BY_CPU, "SPEC_CTRL allowed");
	vm_set_msr_filter(n.vm, &denied);
	expect_in_l2(&n, &spec_ctrl, true, MSR_BY_USER,
		     "SPEC_CTRL denied again");
	printf("SPEC_CTRL: ok\n");
	kvm_vm_free(n.vm);
}

int main(int argc, char *argv[])
{
	struct nested_vm n;
	int write;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	for (write = 0; write < 2; write++) {
		create_vm(&n);
		test_l1_intercepts(&n, write);
		test_in_l1(&n);
		test_l1_has_no_bitmap(&n);
		kvm_vm_free(n.vm);
	}
	test_spec_ctrl();

	report_skipped();
	return 0;
}
