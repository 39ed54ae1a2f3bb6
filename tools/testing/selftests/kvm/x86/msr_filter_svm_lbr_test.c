// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify, on SVM, that an MSR filter applies to LBR MSRs, whether it is
 * installed before or after KVM begins to pass them through, which it does while
 * the guest has set DEBUGCTL.LBR, and while an L2 runs whose LBRs L1 virtualizes.
 *
 * What the MSRs hold is of no interest, nor whether they can be written: KVM
 * does not let a guest do so, and nor do CPUs.  It is who deals with an access
 * that counts.
 *
 * Each scenario runs in a process and a VM of its own, so that one that fails
 * does not keep the others from running.
 */
#include "msr_filter_nested.h"
#include "svm_util.h"

static const struct l2_msr lbr_msrs[] = {
	{ MSR_IA32_LASTBRANCHFROMIP, "LASTBRANCHFROMIP", MSR_VALUE_WRITTEN },
	{ MSR_IA32_LASTBRANCHTOIP, "LASTBRANCHTOIP", MSR_VALUE_WRITTEN },
	{ MSR_IA32_LASTINTFROMIP, "LASTINTFROMIP", MSR_VALUE_WRITTEN },
	{ MSR_IA32_LASTINTTOIP, "LASTINTTOIP", MSR_VALUE_WRITTEN },
};

/* What the host tells L1 and L2 */
static struct lbr_orders {
	/* L1 enters L2, and does not access MSRs itself. */
	u64 l2_runs;
	/* L2 exits to L1 without having accessed an MSR. */
	u64 l2_leaves;
	/* L2 has LBRs of its own, else it shares L1's. */
	u64 l2_has_lbrs;
} lbr_orders;

/* In the guest's memory, where the host can access it */
static struct lbr_orders *orders;

/* Whether the guest that runs uses LBRs, and whether that is in nested SVM */
static bool lbrs_used;
static bool is_nested;

static void l2_guest_code(void)
{
	for (;;) {
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(lbr_orders.l2_leaves))
			vmmcall();
		else
			guest_do_msr_work(&guest_msr_work[0]);
	}
}

/* @svm is NULL where there is no L2. */
static void l1_guest_code(struct svm_test_data *svm)
{
	struct vmcb *vmcb = NULL;

	if (svm) {
		vmcb = svm->vmcb;
		generic_svm_setup(svm, l2_guest_code);
		/* Have KVM merge L1's MSRPM, which intercepts none of these. */
		vmcb->control.intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
		if (READ_ONCE(lbr_orders.l2_has_lbrs))
			vmcb->control.misc_ctl2 |= SVM_MISC2_ENABLE_V_LBR;
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (!READ_ONCE(lbr_orders.l2_runs)) {
			guest_do_msr_work(&guest_msr_work[0]);
			continue;
		}
		run_guest(vmcb, svm->vmcb_gpa);
		GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_VMMCALL);
		vmcb->save.rip += 3;			/* VMMCALL */
	}
}

static void create_vm(struct nested_vm *n, bool nested, bool l2_has_lbrs)
{
	gva_t svm = 0;

	nested_vm_create(n, l1_guest_code);
	orders = addr_gva2hva(n->vm, (gva_t)&lbr_orders);
	orders->l2_has_lbrs = l2_has_lbrs;
	if (nested)
		vcpu_alloc_svm(n->vm, &svm);
	vcpu_args_set(n->vcpu, 1, svm);
	is_nested = nested;

	nested_expect_stage(n, SYNC_IN_L1);
}

/* By L2, if it runs, or by L1; whoever it is will be as before. */
static void expect(struct nested_vm *n, u32 index, bool write, u64 value,
		   enum msr_handler expected, const char *when)
{
	struct msr_outcome outcome;

	outcome = vcpu_access_msr(n->vcpu, 0, index, write, value, -1ull);
	nested_assert_outcome(&outcome, expected, index, write, when);
	nested_expect_stage(n, orders->l2_runs ? SYNC_IN_L2 : SYNC_IN_L1);
}

static void use_lbrs(struct nested_vm *n, bool use)
{
	expect(n, MSR_IA32_DEBUGCTLMSR, true, use ? DEBUGCTLMSR_LBR : 0,
	       MSR_BY_KVM, "DEBUGCTL");
	lbrs_used = use;
}

static void enter_l2(struct nested_vm *n)
{
	orders->l2_runs = true;
	nested_expect_stage(n, SYNC_IN_L2);
	if (orders->l2_has_lbrs)
		lbrs_used = true;
}

static void leave_l2(struct nested_vm *n)
{
	orders->l2_leaves = true;
	nested_expect_stage(n, SYNC_IN_L1);
	orders->l2_leaves = false;
	orders->l2_runs = false;
	if (orders->l2_has_lbrs)
		lbrs_used = false;
}

/*
 * All accesses to all LBR MSRs, where the filter denies @flags of @denied and
 * nothing else.
 */
static void expect_all(struct nested_vm *n, const struct l2_msr *denied,
		       u32 flags, const char *when)
{
	const struct l2_msr *msr;
	enum msr_handler expected;
	int write;

	for (msr = lbr_msrs; msr < lbr_msrs + ARRAY_SIZE(lbr_msrs); msr++) {
		for (write = 0; write < 2; write++) {
			if (msr == denied && (flags & msr_filter_flag(write)))
				expected = MSR_BY_USER;
			else if (lbrs_used)
				expected = MSR_BY_CPU;
			else
				expected = write ? MSR_BY_GP : MSR_BY_KVM;

			/*
			 * The CPU may refuse writes, and KVM may intercept #GPs
			 * where SVM is enabled: that exit is not for the MSR.
			 */
			if (is_nested && write && expected == MSR_BY_CPU)
				continue;
			expect(n, msr->index, write, msr->value, expected, when);
		}
	}
}

/* Deny @flags of @msr and nothing else; no flags are for no filter. */
static void deny(struct nested_vm *n, const struct l2_msr *msr, u32 flags,
		 const char *when)
{
	vm_deny_msr(n->vm, msr->index, flags);
	expect_all(n, msr, flags, when);
}

static void test_used(struct nested_vm *n, const struct l2_msr *msr, u32 flag)
{
	use_lbrs(n, true);
	expect_all(n, msr, 0, "no filter");
	deny(n, msr, flag, "denied");
	deny(n, msr, flag ^ FILTER_RW, "the other access denied");
	deny(n, msr, FILTER_RW, "all denied");
	deny(n, msr, 0, "filter removed");
}

static void test_used_later(struct nested_vm *n, const struct l2_msr *msr,
			    u32 flag)
{
	expect_all(n, msr, 0, "LBRs not used, no filter");
	deny(n, msr, flag, "LBRs not used, denied");
	use_lbrs(n, true);
	expect_all(n, msr, flag, "LBRs used, denied before");
	use_lbrs(n, false);
	expect_all(n, msr, flag, "LBRs no longer used, denied before");
	use_lbrs(n, true);
	expect_all(n, msr, flag, "LBRs used again, denied before");
	deny(n, msr, 0, "LBRs used, filter removed");
	use_lbrs(n, false);
	expect_all(n, msr, 0, "LBRs no longer used, no filter");
	deny(n, msr, flag, "LBRs no longer used, denied");
	deny(n, msr, 0, "LBRs no longer used, filter removed");
	use_lbrs(n, true);
	expect_all(n, msr, 0, "LBRs used, filter removed before");
}

/* L2's own LBRs are not those that L1 uses, which here is none. */
static void test_l2(struct nested_vm *n, const struct l2_msr *msr, u32 flag)
{
	if (!orders->l2_has_lbrs)
		use_lbrs(n, true);

	enter_l2(n);
	expect_all(n, msr, 0, "L2, no filter");
	deny(n, msr, flag, "L2, denied");
	leave_l2(n);
	expect_all(n, msr, flag, "L1, denied while L2 was active");
	enter_l2(n);
	expect_all(n, msr, flag, "L2 resumed, denied before");
	deny(n, msr, 0, "L2, filter removed");
	leave_l2(n);
	expect_all(n, msr, 0, "L1, filter removed while L2 was active");
	deny(n, msr, flag, "L1, denied");
	enter_l2(n);
	expect_all(n, msr, flag, "L2 resumed, denied in between");
	deny(n, msr, flag ^ FILTER_RW, "L2, the other access denied");
	leave_l2(n);
	deny(n, msr, 0, "L1, filter removed");
	enter_l2(n);
	expect_all(n, msr, 0, "L2 resumed, filter removed in between");
}

static const struct scenario {
	void (*run)(struct nested_vm *n, const struct l2_msr *msr, u32 flag);
	bool nested;
	bool l2_has_lbrs;
	const char *name;
} scenarios[] = {
	{ test_used, false, false, "denied while LBRs are used" },
	{ test_used_later, false, false, "LBRs used later" },
	{ test_l2, true, false, "L2 shares L1's LBRs" },
	{ test_l2, true, true, "L2 has LBRs of its own" },
};

/* What is run, for run_scenario() */
static const struct scenario *scenario;

static void run_scenario(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n, scenario->nested, scenario->l2_has_lbrs);
	scenario->run(&n, msr, msr_filter_flag(write));
	kvm_vm_free(n.vm);
}

int main(int argc, char *argv[])
{
	unsigned int s, msr, nr_failed = 0;
	int write;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE(kvm_is_lbrv_enabled());

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	for (s = 0; s < ARRAY_SIZE(scenarios); s++) {
		scenario = &scenarios[s];
		for (msr = 0; msr < ARRAY_SIZE(lbr_msrs); msr++)
			for (write = 0; write < 2; write++)
				nr_failed += nested_run_scenario(run_scenario,
								 &lbr_msrs[msr],
								 write,
								 scenario->name);
	}

	printf("failed: %u\n", nr_failed);
	return nr_failed ? 1 : 0;
}
