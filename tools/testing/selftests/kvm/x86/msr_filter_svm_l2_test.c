// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify, on SVM, that an MSR filter that userspace installs while a nested
 * guest, L2, is active applies to that very L2 from its next entry on, to L1,
 * and to L2 when L1 resumes it, and that it does not cost L1 its own intercepts.
 *
 * Each scenario runs in a process and a VM of its own, so that one that fails
 * does not keep the others from running.
 */
#include "msr_filter_nested.h"
#include "hyperv.h"
#include "svm_util.h"

/* Out of the way of what the VM's memory is allocated from */
#define MSRPM_SLOT	10
#define MSRPM_GPA	0xc0000000ul
#define MSRPM_PAGES	2

static const struct l2_msr l2_msrs[] = {
	{ MSR_FS_BASE, "FS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_GS_BASE, "GS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_LSTAR, "LSTAR", MSR_VALUE_WRITTEN },
	{ MSR_STAR, "STAR", MSR_VALUE_WRITTEN },
};

static const struct l2_msr * const lstar = &l2_msrs[3];
static const struct l2_msr * const star = &l2_msrs[4];

/* What the host tells L1 and L2, and L1 the host */
static struct svm_orders {
	/* L1 tells KVM whether its MSRPM has changed, as Hyper-V does. */
	u64 l1_is_enlightened;
	u64 l1_msrpm_changed;
	/* Not L2 is to access the MSR, but L1 itself. */
	u64 l1_accesses;
	/* L1 does not intercept any MSR, whatever its MSRPM says. */
	u64 l1_ignores_msrs;
	/* L1 reports where it is before it resumes L2 after an MSR access. */
	u64 l1_reports;
	/* L2 exits to L1 without having accessed the MSR. */
	u64 l2_leaves;
	/* How many of L2's accesses L1 got to see; it skips them. */
	u64 nr_by_l1;
} svm_orders;

/* These are in the guest's memory, where the host can access them. */
static struct svm_orders *orders;
static u8 *l1_msrpm;

static void l2_guest_code(void)
{
	for (;;) {
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(svm_orders.l2_leaves))
			vmmcall();
		else
			guest_do_msr_work(&guest_msr_work[0]);
	}
}

static void l1_guest_code(struct svm_test_data *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct hv_vmcb_enlightenments *hve = (void *)control->reserved_sw;

	generic_svm_setup(svm, l2_guest_code);
	control->msrpm_base_pa = MSRPM_GPA;
	if (READ_ONCE(svm_orders.l1_is_enlightened)) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		hve->hv_enlightenments_control.msr_bitmap = 1;
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(svm_orders.l1_accesses)) {
			guest_do_msr_work(&guest_msr_work[0]);
			continue;
		}

		control->intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
		if (READ_ONCE(svm_orders.l1_ignores_msrs))
			control->intercept &= ~BIT_ULL(INTERCEPT_MSR_PROT);
		control->clean |= HV_VMCB_NESTED_ENLIGHTENMENTS;
		if (READ_ONCE(svm_orders.l1_msrpm_changed))
			control->clean &= ~HV_VMCB_NESTED_ENLIGHTENMENTS;
		svm_orders.l1_msrpm_changed = false;

		for (;;) {
			run_guest(svm->vmcb, svm->vmcb_gpa);
			if (control->exit_code != SVM_EXIT_MSR)
				break;
			svm_orders.nr_by_l1++;
			svm->vmcb->save.rip += 2;	/* RDMSR or WRMSR */
			if (READ_ONCE(svm_orders.l1_reports))
				GUEST_SYNC(SYNC_IN_L1);
		}
		GUEST_ASSERT_EQ(control->exit_code, SVM_EXIT_VMMCALL);
		svm->vmcb->save.rip += 3;		/* VMMCALL */
	}
}

static void add_l1_msrpm(struct nested_vm *n)
{
	vm_userspace_mem_region_add(n->vm, VM_MEM_SRC_ANONYMOUS, MSRPM_GPA,
				    MSRPM_SLOT, MSRPM_PAGES, 0);
	l1_msrpm = addr_gpa2hva(n->vm, MSRPM_GPA);
}

/* L2 has been entered, and is about to do as it is told. */
static void create_vm(struct nested_vm *n, bool enlightened)
{
	gva_t svm;

	nested_vm_create(n, l1_guest_code);
	orders = addr_gva2hva(n->vm, (gva_t)&svm_orders);
	add_l1_msrpm(n);
	vcpu_alloc_svm(n->vm, &svm);
	vcpu_args_set(n->vcpu, 1, svm);
	orders->l1_is_enlightened = enlightened;
	if (enlightened) {
		n->init_vcpu = vcpu_set_hv_cpuid;
		n->init_vcpu(n->vcpu);
	}

	nested_expect_stage(n, SYNC_IN_L1);
	nested_expect_stage(n, SYNC_IN_L2);
}

/* Deny @flags of @msr and nothing else; no flags are for no filter. */
static void set_filter(struct nested_vm *n, const struct l2_msr *msr, u32 flags)
{
	vm_deny_msr(n->vm, msr->index, flags);
}

static void l1_intercept(const struct l2_msr *msr, bool write)
{
	u32 bit = 0x4000 + (msr->index & 0x1fff) * 2 + write;

	l1_msrpm[bit / 8] |= 1 << (bit % 8);
	orders->l1_msrpm_changed = true;
}

/* By L2, which is active, or by L1; whoever it is will be as before. */
static void expect(struct nested_vm *n, const struct l2_msr *msr, bool write,
		   enum msr_handler expected, const char *when)
{
	struct msr_outcome outcome;

	orders->nr_by_l1 = 0;
	outcome = vcpu_access_msr(n->vcpu, 0, msr->index, write, msr->value, -1);
	if (orders->nr_by_l1) {
		TEST_ASSERT(orders->nr_by_l1 == MSR_NR_ACCESSES + 1 &&
			    outcome.handler == MSR_BY_KVM,
			    "%s: L1 got %lu of %u accesses to MSR 0x%x", when,
			    orders->nr_by_l1, MSR_NR_ACCESSES + 1, msr->index);
		outcome.handler = MSR_BY_L1;
	}
	nested_assert_outcome(&outcome, expected, msr->index, write, when);

	nested_expect_stage(n, orders->l1_accesses ? SYNC_IN_L1 : SYNC_IN_L2);
}

static void leave_l2(struct nested_vm *n)
{
	orders->l2_leaves = true;
	nested_expect_stage(n, SYNC_IN_L1);
	orders->l2_leaves = false;
}

/* L1, which obeys the filter, too, accesses the MSR, and then resumes L2. */
static void enter_l2(struct nested_vm *n, const struct l2_msr *msr, bool write,
		     enum msr_handler expected)
{
	orders->l1_accesses = true;
	expect(n, msr, write, expected, "L1");
	orders->l1_accesses = false;
	nested_expect_stage(n, SYNC_IN_L2);
}

static void resume_l2(struct nested_vm *n, const struct l2_msr *msr, bool write,
		      enum msr_handler expected)
{
	leave_l2(n);
	enter_l2(n, msr, write, expected);
}

static void test_filter(struct nested_vm *n, const struct l2_msr *msr,
			bool write)
{
	u32 flag = msr_filter_flag(write);

	expect(n, msr, write, MSR_BY_CPU, "no filter");
	set_filter(n, msr, flag);
	expect(n, msr, write, MSR_BY_USER, "denied");
	expect(n, msr, !write, MSR_BY_CPU, "the other access denied");
	set_filter(n, msr, flag ^ FILTER_RW);
	expect(n, msr, write, MSR_BY_CPU, "the other access denied");
	expect(n, msr, !write, MSR_BY_USER, "denied");
	set_filter(n, msr, 0);
	expect(n, msr, write, MSR_BY_CPU, "filter removed");
}

/* L2 exits to L1, and is resumed, before it has accessed the MSR. */
static void test_resumed(struct nested_vm *n, const struct l2_msr *msr,
			 bool write)
{
	set_filter(n, msr, msr_filter_flag(write));
	resume_l2(n, msr, write, MSR_BY_USER);
	expect(n, msr, write, MSR_BY_USER, "denied, L2 resumed");
	set_filter(n, msr, 0);
	resume_l2(n, msr, write, MSR_BY_CPU);
	expect(n, msr, write, MSR_BY_CPU, "filter removed, L2 resumed");

	leave_l2(n);
	set_filter(n, msr, msr_filter_flag(write));
	enter_l2(n, msr, write, MSR_BY_USER);
	expect(n, msr, write, MSR_BY_USER, "denied while L1 was active");
	leave_l2(n);
	set_filter(n, msr, 0);
	enter_l2(n, msr, write, MSR_BY_CPU);
	expect(n, msr, write, MSR_BY_CPU, "filter removed while L1 was active");
}

static void test_l1_intercepts(struct nested_vm *n, const struct l2_msr *msr,
			       bool write)
{
	const struct l2_msr *other = msr == star ? lstar : star;

	l1_intercept(msr, write);
	resume_l2(n, msr, write, MSR_BY_CPU);
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts");
	expect(n, msr, !write, MSR_BY_CPU, "L1 intercepts the other access");
	set_filter(n, msr, FILTER_RW);
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts, denied");
	expect(n, msr, !write, MSR_BY_USER, "L1 intercepts the other access");
	set_filter(n, other, FILTER_RW);
	expect(n, other, write, MSR_BY_USER, "another MSR denied");
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts, another MSR denied");
	set_filter(n, msr, 0);
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts, filter removed");
}

static void test_l1_ignores_msrs(struct nested_vm *n, const struct l2_msr *msr,
				 bool write)
{
	l1_intercept(msr, write);
	resume_l2(n, msr, write, MSR_BY_CPU);
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts");

	orders->l1_ignores_msrs = true;
	resume_l2(n, msr, write, MSR_BY_CPU);
	test_filter(n, msr, write);
	orders->l1_ignores_msrs = false;
	resume_l2(n, msr, write, MSR_BY_CPU);
	expect(n, msr, write, MSR_BY_L1, "L1 intercepts again");
}

/* KVM can't read L1's MSRPM: L1 gets all accesses, whatever the filter says. */
static void test_l1_msrpm_is_gone(struct nested_vm *n, const struct l2_msr *msr,
				  bool write)
{
	n->work->index = msr->index;
	n->work->write = write;
	orders->l1_reports = true;
	vm_mem_region_delete(n->vm, MSRPM_SLOT);
	set_filter(n, msr, FILTER_RW);
	nested_expect_stage(n, SYNC_IN_L1);
	TEST_ASSERT(orders->nr_by_l1 == 1, "L1 got %lu accesses, expected 1",
		    orders->nr_by_l1);

	/* L1 has its MSRPM again, and resumes L2 after that first access. */
	add_l1_msrpm(n);
	set_filter(n, msr, 0);
	nested_expect_stage(n, SYNC_ACCESSED_ONCE);
	nested_expect_stage(n, SYNC_ACCESSED_ALL);
	nested_expect_stage(n, SYNC_IN_L2);
	test_filter(n, msr, write);
}

/* Restore L2 where it is, or in a copy of the VM. */
static void __test_restored(struct nested_vm *n, const struct l2_msr *msr,
			    bool write, bool copy)
{
	static const enum nested_filter_time times[] = {
		BEFORE_LOAD, BEFORE_RUN,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(times); i++) {
		expect(n, msr, write, MSR_BY_CPU, "no filter");
		nested_save_restore(n, copy, msr->index, msr_filter_flag(write),
				    times[i]);
		expect(n, msr, write, MSR_BY_USER, "restored, denied");
		expect(n, msr, !write, MSR_BY_CPU,
		       "restored, the other access denied");
		nested_save_restore(n, copy, msr->index, 0, times[i]);
		expect(n, msr, write, MSR_BY_CPU, "restored, filter removed");
		test_resumed(n, msr, write);
	}
}

static void test_restored(struct nested_vm *n, const struct l2_msr *msr,
			  bool write)
{
	__test_restored(n, msr, write, false);
}

static void test_copied(struct nested_vm *n, const struct l2_msr *msr,
			bool write)
{
	__test_restored(n, msr, write, true);
}

static const struct scenario {
	void (*run)(struct nested_vm *n, const struct l2_msr *msr, bool write);
	const char *name;
} scenarios[] = {
	{ test_filter, "denied while L2 is active" },
	{ test_resumed, "L2 resumed later" },
	{ test_l1_intercepts, "intercepted by L1" },
	{ test_l1_ignores_msrs, "L1 does not intercept MSRs" },
	{ test_l1_msrpm_is_gone, "L1's MSRPM can't be read" },
	{ test_restored, "L2 restored" },
	{ test_copied, "L2 restored in a copy of the VM" },
};

/* What is run, for run_scenario(), and whether L1 is enlightened */
static const struct scenario *scenario;
static bool l1_is_enlightened;

static void run_scenario(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n, l1_is_enlightened);
	scenario->run(&n, msr, write);
	kvm_vm_free(n.vm);
}

static unsigned int run_scenarios(bool enlightened)
{
	unsigned int s, msr, nr_failed = 0;
	char name[64];
	int write;

	l1_is_enlightened = enlightened;
	for (s = 0; s < ARRAY_SIZE(scenarios); s++) {
		scenario = &scenarios[s];
		snprintf(name, sizeof(name), "%s%s",
			 enlightened ? "enlightened, " : "", scenario->name);
		for (msr = 0; msr < ARRAY_SIZE(l2_msrs); msr++)
			for (write = 0; write < 2; write++)
				nr_failed += nested_run_scenario(run_scenario,
								 &l2_msrs[msr],
								 write, name);
	}
	return nr_failed;
}

int main(int argc, char *argv[])
{
	unsigned int nr_failed;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_NESTED_STATE));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	nr_failed = run_scenarios(false);
	if (kvm_hv_cpu_has(HV_X64_NESTED_MSR_BITMAP))
		nr_failed += run_scenarios(true);
	else
		skip_by_name("enlightened MSRPM: KVM does not have it");

	printf("failed: %u\n", nr_failed);
	report_skipped();
	return nr_failed ? 1 : 0;
}
