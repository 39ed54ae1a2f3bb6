// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify, on SVM, that an MSR filter applies to LBR MSRs, no matter whether it is
 * installed before or after KVM starts to pass them through, i.e. before or after
 * the guest sets DEBUGCTL.LBR, or L1 enters an L2 that has LBRs of its own.
 *
 * The values of the MSRs don't matter, and neither does whether the guest can
 * write them: KVM doesn't allow that, and neither do CPUs.
 */
#include "kvm_test_harness.h"
#include "msr_filter.h"
#include "svm_util.h"

static const u32 lbr_msrs[] = {
	MSR_IA32_LASTBRANCHFROMIP,
	MSR_IA32_LASTBRANCHTOIP,
	MSR_IA32_LASTINTFROMIP,
	MSR_IA32_LASTINTTOIP,
};

/* Each test runs in a process of its own. */
static struct nested_vm n;
static u32 msr;
static bool l2_has_own_lbrs;
static bool l1_uses_lbrs;

/* Make KVM merge MSRPMs.  L1 doesn't intercept LBR MSRs. */
static void setup_l2(struct vmcb *vmcb)
{
	vmcb->control.intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
}

static void setup_l2_with_lbrs(struct vmcb *vmcb)
{
	setup_l2(vmcb);
	vmcb->control.misc_ctl2 |= SVM_MISC2_ENABLE_V_LBR;
}

static void use_lbrs(bool use)
{
	nested_vm_expect(&n, MSR_IA32_DEBUGCTLMSR, true,
			 use ? DEBUGCTLMSR_LBR : 0, MSR_BY_KVM, "DEBUGCTL");
	l1_uses_lbrs = use;
}

/* Access all LBR MSRs, with @flags of one of them denied. */
static void expect_all(u32 flags, const char *when)
{
	/* An L2 without LBRs of its own shares those of L1. */
	bool used = l1_uses_lbrs || (n.l2_is_active && l2_has_own_lbrs);
	enum msr_handler expected;
	int i, wr;

	for (i = 0; i < ARRAY_SIZE(lbr_msrs); i++) {
		for (wr = 0; wr < 2; wr++) {
			if (lbr_msrs[i] == msr && (flags & msr_filter_flag(wr)))
				expected = MSR_BY_USER;
			else if (used)
				expected = MSR_BY_CPU;
			else
				expected = wr ? MSR_BY_GP : MSR_BY_KVM;

			/*
			 * If the CPU refuses a write, and L1 has enabled SVM, KVM
			 * intercepts the #GP, which looks like an intercepted MSR.
			 */
			if (wr && expected == MSR_BY_CPU && n.l1->l2s[0])
				continue;
			nested_vm_expect(&n, lbr_msrs[i], wr, MSR_VALUE_WRITTEN,
					 expected, when);
		}
	}
}

static void deny(u32 flags, const char *when)
{
	vm_deny_msr(n.vm, msr, flags);
	expect_all(flags, when);
}

/* Run a test for each access of each MSR. */
static void test_accesses(void (*test)(u32 flag))
{
	int i;

	for (i = 0; i < 2 * ARRAY_SIZE(lbr_msrs); i++) {
		msr = lbr_msrs[i / 2];
		l1_uses_lbrs = false;
		test(msr_filter_flag(i % 2));
		kvm_vm_free(n.vm);
	}
}

static void test_denied_while_in_use(u32 flag)
{
	nested_vm_create(&n, 0, L1_NO_HYPERV, NULL);
	use_lbrs(true);
	expect_all(0, "no filter");
	deny(flag, "denied");
	deny(flag ^ FILTER_RW, "the other access denied");
	deny(FILTER_RW, "both accesses denied");
	deny(0, "filter removed");
}

static void test_denied_before_use(u32 flag)
{
	nested_vm_create(&n, 0, L1_NO_HYPERV, NULL);
	expect_all(0, "not in use, no filter");
	deny(flag, "not in use, denied");
	use_lbrs(true);
	expect_all(flag, "in use, denied before");
	use_lbrs(false);
	expect_all(flag, "no longer in use, denied before");
	use_lbrs(true);
	deny(0, "in use again, filter removed");
	use_lbrs(false);
	deny(flag, "no longer in use, denied");
	deny(0, "no longer in use, filter removed");
	use_lbrs(true);
	expect_all(0, "in use again, no filter");
}

static void test_l2(u32 flag)
{
	nested_vm_enter(&n, 0);
	expect_all(0, "L2, no filter");
	deny(flag, "L2, denied");
	nested_vm_leave(&n);
	nested_vm_enter(&n, -1);
	expect_all(flag, "L1, denied while L2 was active");
	nested_vm_enter(&n, 0);
	expect_all(flag, "L2 resumed, denied before");
	deny(0, "L2, filter removed");
	nested_vm_leave(&n);
	nested_vm_enter(&n, -1);
	expect_all(0, "L1, filter removed while L2 was active");
	deny(flag, "L1, denied");
	nested_vm_enter(&n, 0);
	expect_all(flag, "L2 resumed, denied while L1 was active");
	deny(flag ^ FILTER_RW, "L2, the other access denied");
	nested_vm_leave(&n);
	nested_vm_enter(&n, -1);
	deny(0, "L1, filter removed");
	nested_vm_enter(&n, 0);
	expect_all(0, "L2 resumed, filter removed while L1 was active");
}

static void test_l2_shares_lbrs(u32 flag)
{
	nested_vm_create(&n, 1, L1_NO_HYPERV, setup_l2);
	use_lbrs(true);
	test_l2(flag);
}

static void test_l2_has_lbrs(u32 flag)
{
	nested_vm_create(&n, 1, L1_NO_HYPERV, setup_l2_with_lbrs);
	l2_has_own_lbrs = true;
	test_l2(flag);
}

TEST(denied_while_in_use)
{
	test_accesses(test_denied_while_in_use);
}

TEST(denied_before_use)
{
	test_accesses(test_denied_before_use);
}

TEST(l2_shares_lbrs)
{
	test_accesses(test_l2_shares_lbrs);
}

TEST(l2_has_lbrs)
{
	test_accesses(test_l2_has_lbrs);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE(kvm_is_lbrv_enabled());

	return test_harness_run(argc, argv);
}
