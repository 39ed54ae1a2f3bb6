// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify, on SVM, that an MSR filter that userspace installs while a nested
 * guest, L2, is active applies to that very L2 from its next entry on, to L1,
 * and to L2 when L1 resumes it, and that it does not cost L1 its own intercepts.
 *
 * Each scenario runs in a process and a VM of its own, so that one that fails
 * does not keep the others from running.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "msr_filter.h"
#include "hyperv.h"
#include "svm_util.h"

/* Stages that L1 and L2 report, next to those of msr_filter.h */
#define SYNC_IN_L1	0x70
#define SYNC_IN_L2	0x71

/* Out of the way of what the VM's memory is allocated from */
#define MSRPM_SLOT	10
#define MSRPM_GPA	0xc0000000ul
#define MSRPM_PAGES	2

static const struct {
	u32 index;
	const char *name;
} l2_msrs[] = {
	{ MSR_FS_BASE, "FS_BASE" },
	{ MSR_GS_BASE, "GS_BASE" },
	{ MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE" },
	{ MSR_LSTAR, "LSTAR" },
	{ MSR_STAR, "STAR" },
};

/* What the host tells L1 and L2, and L1 the host */
static struct guest_orders {
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
} guest_orders;

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct guest_orders *orders;
static u8 *l1_msrpm;

static void l2_guest_code(void)
{
	for (;;) {
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(guest_orders.l2_leaves))
			vmmcall();
		else
			guest_do_msr_work(&guest_msr_work[0]);
	}
}

static void l1_guest_code(struct svm_test_data *svm)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct hv_vmcb_enlightenments *hve = &control->hv_enlightenments;

	generic_svm_setup(svm, l2_guest_code);
	control->msrpm_base_pa = MSRPM_GPA;
	if (READ_ONCE(guest_orders.l1_is_enlightened)) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		hve->hv_enlightenments_control.msr_bitmap = 1;
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(guest_orders.l1_accesses)) {
			guest_do_msr_work(&guest_msr_work[0]);
			continue;
		}

		control->intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
		if (READ_ONCE(guest_orders.l1_ignores_msrs))
			control->intercept &= ~BIT_ULL(INTERCEPT_MSR_PROT);
		control->clean |= HV_VMCB_NESTED_ENLIGHTENMENTS;
		if (READ_ONCE(guest_orders.l1_msrpm_changed))
			control->clean &= ~HV_VMCB_NESTED_ENLIGHTENMENTS;
		guest_orders.l1_msrpm_changed = false;

		for (;;) {
			run_guest(svm->vmcb, svm->vmcb_gpa);
			if (control->exit_code != SVM_EXIT_MSR)
				break;
			guest_orders.nr_by_l1++;
			svm->vmcb->save.rip += 2;	/* RDMSR or WRMSR */
			if (READ_ONCE(guest_orders.l1_reports))
				GUEST_SYNC(SYNC_IN_L1);
		}
		GUEST_ASSERT_EQ(control->exit_code, SVM_EXIT_VMMCALL);
		svm->vmcb->save.rip += 3;		/* VMMCALL */
	}
}

static void expect_stage(u64 expected)
{
	u64 nr_user = 0, stage;
	u32 reason = 0;

	stage = vcpu_run_msr_work(vcpu, vcpu_msr_work(vcpu, 0), 0, &nr_user,
				  &reason);
	TEST_ASSERT(stage == expected && !nr_user,
		    "Stage 0x%lx after %lu exits to userspace, expected 0x%lx after none",
		    stage, nr_user, expected);
}

static void add_l1_msrpm(void)
{
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, MSRPM_GPA,
				    MSRPM_SLOT, MSRPM_PAGES, 0);
	l1_msrpm = addr_gpa2hva(vm, MSRPM_GPA);
}

/* L2 has been entered, and is about to do as it is told. */
static void create_vm(bool enlightened)
{
	gva_t svm;

	vm = vm_create_with_one_vcpu(&vcpu, l1_guest_code);
	vm_init_msr_test(vm);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	orders = addr_gva2hva(vm, (gva_t)&guest_orders);
	add_l1_msrpm();
	vcpu_alloc_svm(vm, &svm);
	vcpu_args_set(vcpu, 1, svm);
	orders->l1_is_enlightened = enlightened;
	if (enlightened)
		vcpu_set_hv_cpuid(vcpu);

	expect_stage(SYNC_IN_L1);
	expect_stage(SYNC_IN_L2);
}

/* Deny @flags of an MSR and nothing else; no flags are for no filter. */
static void set_filter(u32 index, u32 flags)
{
	u8 deny = 0;
	struct kvm_msr_filter filter = {
		.ranges = { MSR_RANGE(flags, index, 1, &deny) },
	};

	vm_set_msr_filter(vm, flags ? &filter : &msr_filter_none);
}

static void l1_intercept(u32 index, bool write)
{
	u32 bit = 0x4000 + (index & 0x1fff) * 2 + write;

	l1_msrpm[bit / 8] |= 1 << (bit % 8);
	orders->l1_msrpm_changed = true;
}

/* By L2, which is active, or by L1; whoever it is will be as before. */
static void expect(u32 index, bool write, enum msr_handler expected,
		   const char *when)
{
	struct msr_outcome outcome;

	orders->nr_by_l1 = 0;
	outcome = vcpu_access_msr(vcpu, 0, index, write, MSR_VALUE_WRITTEN, -1);
	if (orders->nr_by_l1) {
		TEST_ASSERT(orders->nr_by_l1 == MSR_NR_ACCESSES + 1 &&
			    outcome.handler == MSR_BY_KVM,
			    "%s: L1 got %lu of %u accesses to MSR 0x%x", when,
			    orders->nr_by_l1, MSR_NR_ACCESSES + 1, index);
		outcome.handler = MSR_BY_L1;
	}
	assert_msr_handler(&outcome, expected, index, write, when);
	if (expected == MSR_BY_USER)
		TEST_ASSERT(outcome.reason == KVM_MSR_EXIT_REASON_FILTER &&
			    (write || outcome.read == MSR_VALUE_FROM_USER),
			    "%s: exit for reason %u, read 0x%lx", when,
			    outcome.reason, outcome.read);

	expect_stage(orders->l1_accesses ? SYNC_IN_L1 : SYNC_IN_L2);
}

/* L2 exits to L1, which obeys the filter, too, and then resumes L2. */
static void resume_l2(u32 index, bool write, enum msr_handler expected)
{
	orders->l2_leaves = true;
	expect_stage(SYNC_IN_L1);
	orders->l2_leaves = false;

	orders->l1_accesses = true;
	expect(index, write, expected, "L1");
	orders->l1_accesses = false;
	expect_stage(SYNC_IN_L2);
}

static void test_filter(u32 index, bool write)
{
	u32 flag = write ? FILTER_W : FILTER_R;

	expect(index, write, MSR_BY_CPU, "no filter");
	set_filter(index, flag);
	expect(index, write, MSR_BY_USER, "denied");
	expect(index, !write, MSR_BY_CPU, "the other access denied");
	set_filter(index, flag ^ FILTER_RW);
	expect(index, write, MSR_BY_CPU, "the other access denied");
	expect(index, !write, MSR_BY_USER, "denied");
	set_filter(index, 0);
	expect(index, write, MSR_BY_CPU, "filter removed");
}

/* L1 resumes L2 before L2 has accessed the MSR. */
static void test_resumed(u32 index, bool write)
{
	set_filter(index, write ? FILTER_W : FILTER_R);
	resume_l2(index, write, MSR_BY_USER);
	expect(index, write, MSR_BY_USER, "denied, L2 resumed");
	set_filter(index, 0);
	resume_l2(index, write, MSR_BY_CPU);
	expect(index, write, MSR_BY_CPU, "filter removed, L2 resumed");
}

static void test_l1_intercepts(u32 index, bool write)
{
	u32 other = index == MSR_STAR ? MSR_LSTAR : MSR_STAR;

	l1_intercept(index, write);
	resume_l2(index, write, MSR_BY_CPU);
	expect(index, write, MSR_BY_L1, "L1 intercepts");
	expect(index, !write, MSR_BY_CPU, "L1 intercepts the other access");
	set_filter(index, FILTER_RW);
	expect(index, write, MSR_BY_L1, "L1 intercepts, denied");
	expect(index, !write, MSR_BY_USER, "L1 intercepts the other access");
	set_filter(other, FILTER_RW);
	expect(other, write, MSR_BY_USER, "another MSR denied");
	expect(index, write, MSR_BY_L1, "L1 intercepts, another MSR denied");
	set_filter(index, 0);
	expect(index, write, MSR_BY_L1, "L1 intercepts, filter removed");
}

static void test_l1_ignores_msrs(u32 index, bool write)
{
	l1_intercept(index, write);
	resume_l2(index, write, MSR_BY_CPU);
	expect(index, write, MSR_BY_L1, "L1 intercepts");

	orders->l1_ignores_msrs = true;
	resume_l2(index, write, MSR_BY_CPU);
	test_filter(index, write);
	orders->l1_ignores_msrs = false;
	resume_l2(index, write, MSR_BY_CPU);
	expect(index, write, MSR_BY_L1, "L1 intercepts again");
}

/* KVM can't read L1's MSRPM: L1 gets all accesses, whatever the filter says. */
static void test_l1_msrpm_is_gone(u32 index, bool write)
{
	struct guest_msr_work *work = vcpu_msr_work(vcpu, 0);

	work->index = index;
	work->write = write;
	orders->l1_reports = true;
	vm_mem_region_delete(vm, MSRPM_SLOT);
	set_filter(index, FILTER_RW);
	expect_stage(SYNC_IN_L1);
	TEST_ASSERT_EQ(orders->nr_by_l1, 1);

	/* L1 has its MSRPM again, and resumes L2 after that first access. */
	add_l1_msrpm();
	set_filter(index, 0);
	expect_stage(SYNC_ACCESSED_ONCE);
	expect_stage(SYNC_ACCESSED_ALL);
	expect_stage(SYNC_IN_L2);
	test_filter(index, write);
}

/* Restore L2 where it is, or in a copy of the VM; filter before or after. */
static void save_restore(u32 index, u32 flags, bool copy, bool after)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);

	if (copy) {
		kvm_vm_release(vm);
		kvm_vm_restart(vm);
		vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
			      KVM_MSR_EXIT_REASON_FILTER);
		vcpu = vm_vcpu_recreate(vm, 0);
		if (orders->l1_is_enlightened)
			vcpu_set_hv_cpuid(vcpu);
	}
	if (!after)
		set_filter(index, flags);
	vcpu_load_state(vcpu, state);
	if (after)
		set_filter(index, flags);
	kvm_x86_state_cleanup(state);
}

static void __test_restored(u32 index, bool write, bool copy)
{
	int after;

	for (after = 0; after < 2; after++) {
		expect(index, write, MSR_BY_CPU, "no filter");
		save_restore(index, write ? FILTER_W : FILTER_R, copy, after);
		expect(index, write, MSR_BY_USER, "restored, denied");
		expect(index, !write, MSR_BY_CPU, "restored, the other access denied");
		save_restore(index, 0, copy, after);
		expect(index, write, MSR_BY_CPU, "restored, filter removed");
		test_resumed(index, write);
	}
}

static void test_restored(u32 index, bool write)
{
	__test_restored(index, write, false);
}

static void test_copied(u32 index, bool write)
{
	__test_restored(index, write, true);
}

static const struct {
	void (*run)(u32 index, bool write);
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

/* Returns whether it has failed. */
static bool run_scenario(unsigned int s, unsigned int msr, bool write,
			 bool enlightened)
{
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		create_vm(enlightened);
		scenarios[s].run(l2_msrs[msr].index, write);
		kvm_vm_free(vm);
		exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
	printf("%ss of %s, %s%s: %s\n", write ? "write" : "read",
	       l2_msrs[msr].name, enlightened ? "enlightened, " : "",
	       scenarios[s].name, status ? "FAILED" : "ok");
	return status;
}

static unsigned int run_scenarios(bool enlightened)
{
	unsigned int s, msr, nr_failed = 0;
	int write;

	for (s = 0; s < ARRAY_SIZE(scenarios); s++)
		for (msr = 0; msr < ARRAY_SIZE(l2_msrs); msr++)
			for (write = 0; write < 2; write++)
				nr_failed += run_scenario(s, msr, write,
							  enlightened);
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
