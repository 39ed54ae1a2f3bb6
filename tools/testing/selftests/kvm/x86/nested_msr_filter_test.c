// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that an MSR filter applies to L2, no matter when userspace installs it:
 * before L1 enters L2, while L2 is active, i.e. after L2 exited to userspace and
 * before it is entered again, or while L2's state is saved or restored.  L1's
 * intercepts have to stay in force meanwhile.
 */
#include "kvm_test_harness.h"
#include "msr_filter.h"
#include "hyperv.h"
#include "svm_util.h"
#include "vmx.h"

/* Each test runs in a process of its own. */
static struct nested_vm n;
static u32 msr;
static u64 value;
static bool is_write;

static void deny(u32 flags)
{
	vm_deny_msr(n.vm, msr, flags);
}

static void expect(enum msr_handler handler, const char *when)
{
	nested_vm_expect(&n, msr, is_write, value, handler, when);
}

static void expect_other_access(enum msr_handler handler, const char *when)
{
	nested_vm_expect(&n, msr, !is_write, value, handler, when);
}

static void expect_in_l1(enum msr_handler handler, const char *when)
{
	nested_vm_enter(&n, -1);
	expect(handler, when);
}

/* MSRs that KVM passes through to L2 on any CPU, LSTAR on SVM, SPEC_CTRL on VMX */
FIXTURE(passed_through) {
};

FIXTURE_VARIANT(passed_through) {
	u32 msr;
	bool write;
};

FIXTURE_VARIANT_ADD(passed_through, fs_base_read) { MSR_FS_BASE, false };
FIXTURE_VARIANT_ADD(passed_through, fs_base_write) { MSR_FS_BASE, true };
FIXTURE_VARIANT_ADD(passed_through, gs_base_read) { MSR_GS_BASE, false };
FIXTURE_VARIANT_ADD(passed_through, gs_base_write) { MSR_GS_BASE, true };
FIXTURE_VARIANT_ADD(passed_through, kernel_gs_base_read) { MSR_KERNEL_GS_BASE, false };
FIXTURE_VARIANT_ADD(passed_through, kernel_gs_base_write) { MSR_KERNEL_GS_BASE, true };
FIXTURE_VARIANT_ADD(passed_through, lstar_read) { MSR_LSTAR, false };
FIXTURE_VARIANT_ADD(passed_through, lstar_write) { MSR_LSTAR, true };
FIXTURE_VARIANT_ADD(passed_through, spec_ctrl_read) { MSR_IA32_SPEC_CTRL, false };
FIXTURE_VARIANT_ADD(passed_through, spec_ctrl_write) { MSR_IA32_SPEC_CTRL, true };

FIXTURE_SETUP(passed_through)
{
	if (variant->msr == MSR_LSTAR && !kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "KVM doesn't pass LSTAR through on VMX");

	msr = variant->msr;
	value = msr == MSR_IA32_SPEC_CTRL ? 1 : MSR_VALUE_WRITTEN;
	is_write = variant->write;
	nested_vm_create(&n, 1, L1_NO_HYPERV, NULL);

	/* KVM passes SPEC_CTRL through once the guest has used it. */
	if (msr == MSR_IA32_SPEC_CTRL) {
		if (!n.has_spec_ctrl)
			SKIP(return, "SPEC_CTRL isn't available");
		vcpu_set_msr(n.vcpu, MSR_IA32_SPEC_CTRL, 1);
	}
}

FIXTURE_TEARDOWN(passed_through)
{
}

TEST_F(passed_through, denied_before_l2_is_entered)
{
	deny(msr_filter_flag(is_write));
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied");
	expect_other_access(MSR_BY_CPU, "the other access denied");
	nested_vm_leave(&n);

	deny(0);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "filter removed");
}

TEST_F(passed_through, denied_while_l2_is_active)
{
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "no filter");

	deny(msr_filter_flag(is_write));
	expect(MSR_BY_USER, "denied");
	expect_other_access(MSR_BY_CPU, "the other access denied");

	deny(msr_filter_flag(!is_write));
	expect(MSR_BY_CPU, "the other access denied");
	expect_other_access(MSR_BY_USER, "denied");

	deny(FILTER_RW);
	expect(MSR_BY_USER, "both accesses denied");
	expect_other_access(MSR_BY_USER, "both accesses denied");

	deny(0);
	expect(MSR_BY_CPU, "filter removed");
	expect_other_access(MSR_BY_CPU, "filter removed");
}

/*
 * Everything else, with one MSR
 */
FIXTURE(l2) {
};

FIXTURE_VARIANT(l2) {
	bool write;
	enum l1_hyperv hyperv;
};

FIXTURE_VARIANT_ADD(l2, read) {
	.write = false, .hyperv = L1_NO_HYPERV,
};

FIXTURE_VARIANT_ADD(l2, write) {
	.write = true, .hyperv = L1_NO_HYPERV,
};

FIXTURE_VARIANT_ADD(l2, hyperv_read) {
	.write = false, .hyperv = L1_HYPERV,
};

FIXTURE_VARIANT_ADD(l2, hyperv_msr_bitmap_read) {
	.write = false, .hyperv = L1_HYPERV_MSR_BITMAP,
};

FIXTURE_SETUP(l2)
{
	if (variant->hyperv && !kvm_has_nested_hyperv())
		SKIP(return, "KVM doesn't support enlightened MSR bitmaps");

	msr = MSR_GS_BASE;
	value = MSR_VALUE_WRITTEN;
	is_write = variant->write;
	nested_vm_create(&n, variant->hyperv ? 1 : NR_L2S, variant->hyperv, NULL);
}

FIXTURE_TEARDOWN(l2)
{
}

TEST_F(l2, resumed)
{
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "no filter");
	deny(msr_filter_flag(is_write));
	nested_vm_leave(&n);
	expect_in_l1(MSR_BY_USER, "denied while L2 was active");
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied, L2 resumed");
	deny(0);
	nested_vm_leave(&n);
	expect_in_l1(MSR_BY_CPU, "filter removed while L2 was active");
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "filter removed, L2 resumed");
	nested_vm_leave(&n);

	deny(msr_filter_flag(is_write));
	expect_in_l1(MSR_BY_USER, "denied while L1 was active");
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied while L1 was active, L2 resumed");
	nested_vm_leave(&n);
	deny(0);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "filter removed while L1 was active");
}

TEST_F(l2, intercepted_by_l1)
{
	const u32 filters[] = { FILTER_RW, msr_filter_flag(is_write),
				msr_filter_flag(!is_write), 0 };
	int i;

	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "not intercepted");
	nested_vm_leave(&n);

	nested_vm_intercept(&n, 0, msr, is_write, true);
	for (i = 0; i < ARRAY_SIZE(filters); i++) {
		nested_vm_enter(&n, 0);
		deny(filters[i]);
		expect_other_access(filters[i] & msr_filter_flag(!is_write) ?
				    MSR_BY_USER : MSR_BY_CPU,
				    "L1 doesn't intercept this access");
		expect(MSR_BY_L1, "L1 intercepts this access");
	}

	nested_vm_enter(&n, 0);
	vm_deny_msr(n.vm, MSR_FS_BASE, FILTER_RW);
	expect(MSR_BY_L1, "another MSR denied");

	nested_vm_intercept(&n, 0, msr, is_write, false);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "no longer intercepted");
}

/* On VMX, L1 then intercepts all MSR accesses.  On SVM, it intercepts none. */
TEST_F(l2, bitmap_ignored_by_l1)
{
	enum msr_handler allowed = n.l1->is_svm ? MSR_BY_CPU : MSR_BY_L1;
	enum msr_handler denied = n.l1->is_svm ? MSR_BY_USER : MSR_BY_L1;

	nested_vm_intercept(&n, 0, msr, is_write, true);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_L1, "bitmap used");

	n.l1->ignore_bitmap = true;
	nested_vm_enter(&n, 0);
	expect(allowed, "no filter");
	nested_vm_enter(&n, 0);
	deny(msr_filter_flag(is_write));
	expect(denied, "denied");
	nested_vm_enter(&n, 0);
	deny(0);
	expect(allowed, "filter removed");
	nested_vm_enter(&n, 0);
	deny(FILTER_RW);
	nested_vm_leave(&n);

	/* The filter from when L1 didn't use its bitmap must not get lost. */
	n.l1->ignore_bitmap = false;
	nested_vm_intercept(&n, 0, msr, is_write, false);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied, bitmap used again");
}

TEST_F(l2, bitmap_deleted)
{
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "no filter");
	nested_vm_delete_bitmaps(&n);
	deny(msr_filter_flag(is_write));
	expect(MSR_BY_L1, "denied, KVM can't read L1's bitmap");

	nested_vm_add_bitmaps(&n);
	n.l1->bitmap_changed = true;
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied, KVM can read L1's bitmap again");
	deny(0);
	expect(MSR_BY_CPU, "filter removed");
}

/* Both L2s share a bitmap in KVM, but have bitmaps of their own in L1. */
TEST_F(l2, other_l2)
{
	if (variant->hyperv)
		SKIP(return, "There is one enlightened VMCS");

	nested_vm_enter(&n, 0);
	nested_vm_leave(&n);
	nested_vm_enter(&n, 1);
	expect(MSR_BY_CPU, "no filter");
	deny(msr_filter_flag(is_write));
	expect(MSR_BY_USER, "denied");
	nested_vm_leave(&n);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied while the other L2 was active");
	deny(0);
	nested_vm_leave(&n);

	nested_vm_intercept(&n, 1, msr, is_write, true);
	nested_vm_enter(&n, 1);
	deny(msr_filter_flag(is_write));
	expect(MSR_BY_L1, "denied, and intercepted by L1");
	nested_vm_enter(&n, 0);
	deny(0);
	expect(MSR_BY_CPU, "intercepted by L1 in the other L2");
}

TEST_F(l2, not_passed_through)
{
	if (n.l1->is_svm)
		SKIP(return, "KVM passes LSTAR through on SVM");

	msr = MSR_LSTAR;
	nested_vm_enter(&n, 0);
	expect(MSR_BY_KVM, "no filter");
	deny(msr_filter_flag(is_write));
	expect(MSR_BY_USER, "denied");
	deny(0);
	expect(MSR_BY_KVM, "filter removed");
}

static void deny_access(struct nested_vm *n)
{
	deny(msr_filter_flag(is_write));
}

static void remove_filter(struct nested_vm *n)
{
	deny(0);
}

TEST_F(l2, restored)
{
	nested_vm_enter(&n, 0);
	expect(MSR_BY_CPU, "no filter");
	nested_vm_save_restore(&n, deny_access, NULL);
	expect(MSR_BY_USER, "denied before L2 was restored");
	expect_other_access(MSR_BY_CPU, "the other access denied");
	nested_vm_save_restore(&n, remove_filter, NULL);
	expect(MSR_BY_CPU, "filter removed before L2 was restored");

	nested_vm_save_restore(&n, NULL, deny_access);
	expect(MSR_BY_USER, "denied after L2 was restored");
	expect_other_access(MSR_BY_CPU, "the other access denied");
	nested_vm_save_restore(&n, NULL, remove_filter);
	expect(MSR_BY_CPU, "filter removed after L2 was restored");

	deny(msr_filter_flag(is_write));
	nested_vm_leave(&n);
	nested_vm_enter(&n, 0);
	expect(MSR_BY_USER, "denied, L2 resumed");
}

/* L1 makes KVM store an MSR on VM-Exit from L2, in a page that is unused. */
static void setup_store(struct vmx_pages *vmx, u32 index)
{
	struct vmx_msr_entry *entry = vmx->vmread;

	entry->index = index;
	GUEST_ASSERT(!vmwrite(VM_EXIT_MSR_STORE_ADDR, vmx->vmread_gpa));
	GUEST_ASSERT(!vmwrite(VM_EXIT_MSR_STORE_COUNT, 1));
}

static void setup_store_lstar(struct vmx_pages *vmx)
{
	setup_store(vmx, MSR_LSTAR);
}

static void setup_store_tsc(struct vmx_pages *vmx)
{
	setup_store(vmx, MSR_IA32_TSC);
}

/* Does KVM synthesize a VM-Abort when L2 exits? */
static bool exit_aborts(void *setup, u32 index, u32 flags)
{
	struct vmx_msr_entry *entry;
	struct vmx_pages *vmx;
	bool aborts;

	nested_vm_create(&n, 1, L1_NO_HYPERV, setup);
	vmx = addr_gva2hva(n.vm, n.l1->l2s[0]);
	entry = vmx->vmread_hva;
	entry->value = MSR_VALUE_IN_MSR;

	nested_vm_enter(&n, 0);
	vm_deny_msr(n.vm, index, flags);
	n.l1->leave_l2 = true;
	vcpu_run(n.vcpu);
	aborts = n.vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN;
	TEST_ASSERT(aborts == (entry->value == MSR_VALUE_IN_MSR),
		    "Stored 0x%lx, exit reason %u", (u64)entry->value,
		    n.vcpu->run->exit_reason);
	kvm_vm_free(n.vm);
	return aborts;
}

TEST(tsc_stored_on_exit)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "SVM doesn't have MSR-store lists");
	if (!exit_aborts(setup_store_lstar, MSR_LSTAR, FILTER_R))
		SKIP(return, "KVM doesn't filter MSR-store lists");

	TEST_ASSERT(!exit_aborts(setup_store_tsc, MSR_IA32_TSC, FILTER_W),
		    "VM-Abort although reads are allowed");
	TEST_ASSERT(exit_aborts(setup_store_tsc, MSR_IA32_TSC, FILTER_R),
		    "No VM-Abort although reads are denied");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_NESTED_STATE));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX) ||
		     kvm_cpu_has(X86_FEATURE_SVM));

	return test_harness_run(argc, argv);
}
