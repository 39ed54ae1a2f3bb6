// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that an MSR filter that userspace installs while a nested guest, L2,
 * is active, i.e. has exited to userspace and is to be entered again with no
 * VM-Exit to L1 in between, applies to that very L2 from its next entry on, to
 * L1 and to all other L2s, and that it does not cost L1 its own intercepts.
 * Also that it applies to what KVM stores for L1 when L2 exits.
 *
 * Each scenario runs in a process and a VM of its own, so that one that fails
 * does not keep the others from running.
 */
#include "msr_filter_nested.h"

#define NR_ROUNDS	16

static const struct l2_msr l2_msrs[] = {
	{ MSR_FS_BASE, "FS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_GS_BASE, "GS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE", MSR_VALUE_WRITTEN },
	{ MSR_IA32_SPEC_CTRL, "SPEC_CTRL", 1 },
};

static const struct l2_msr * const fs_base = &l2_msrs[0];
static const struct l2_msr * const gs_base = &l2_msrs[1];
static const struct l2_msr lstar = { MSR_LSTAR, "LSTAR", MSR_VALUE_WRITTEN };
static const struct l2_msr tsc = { MSR_IA32_TSC, "TSC" };
static const struct l2_msr tpr = { APIC_BASE_MSR + (APIC_TASKPRI >> 4), "TPR", 0x20 };

/* Deny @flags of @msr and nothing else; no flags are for no filter. */
static void set_filter(struct nested_vm *n, const struct l2_msr *msr, u32 flags)
{
	vm_deny_msr(n->vm, msr->index, flags);
}

/* L1 with two L2s, neither of which has been entered */
static void create_vm(struct nested_vm *n)
{
	gva_t vmx[NR_L2S];

	nested_vm_create_vmx(n, NULL, NR_L2S, vmx);
	nested_expect_stage(n, SYNC_IN_L1);
}

static void enter(struct nested_vm *n, const struct l2_msr *msr, bool write)
{
	nested_enter_l2(n, msr->index, write, msr->value);
}

/* By an L2 that is active, of the MSR that it has been entered for */
static void expect_handler(struct nested_vm *n, bool write,
			   enum msr_handler expected, const char *when)
{
	struct msr_outcome outcome;

	n->work->write = write;
	outcome = nested_access_in_l2(n);
	nested_assert_outcome(&outcome, expected, n->work->index, write, when);
}

/* By L1, which is and will be about to enter L2 */
static void expect_handler_in_l1(struct nested_vm *n, const struct l2_msr *msr,
				 bool write, enum msr_handler expected,
				 const char *when)
{
	n->orders->l1_accesses = true;
	vcpu_expect_msr_handler(n->vcpu, 0, msr->index, write, msr->value,
				expected, when);
	nested_expect_stage(n, SYNC_IN_L1);
	n->orders->l1_accesses = false;
}

/* The filter changes back and forth while L2 stays active. */
static void test_denied(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;
	gva_t vmx[NR_L2S];

	nested_vm_create_vmx(&n, NULL, NR_L2S, vmx);
	/* KVM passes SPEC_CTRL through once it has been used. */
	if (msr->index == MSR_IA32_SPEC_CTRL) {
		vcpu_enable_spec_ctrl(n.vcpu);
		vcpu_set_msr(n.vcpu, MSR_IA32_SPEC_CTRL, 1);
	}
	nested_expect_stage(&n, SYNC_IN_L1);

	n.orders->l2_stays = true;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "no filter");

	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied");
	expect_handler(&n, !write, MSR_BY_CPU, "the other access denied");

	set_filter(&n, msr, msr_filter_flag(!write));
	expect_handler(&n, write, MSR_BY_CPU, "the other access denied");
	expect_handler(&n, !write, MSR_BY_USER, "denied");

	set_filter(&n, msr, FILTER_RW);
	expect_handler(&n, write, MSR_BY_USER, "both accesses denied");
	expect_handler(&n, !write, MSR_BY_USER, "both accesses denied");

	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "filter removed");
	expect_handler(&n, !write, MSR_BY_CPU, "filter removed");
	kvm_vm_free(n.vm);
}

/* The other way round: what is allowed is passed through at once. */
static void test_allowed(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n);
	n.orders->l2_stays = true;
	set_filter(&n, msr, msr_filter_flag(write));
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied before L2 is entered");
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "allowed while L2 is active");
	kvm_vm_free(n.vm);
}

/* What KVM does not pass through obeys as well. */
static void test_not_passed_through(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n);
	n.orders->l2_stays = true;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_KVM, "no filter");
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied");
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_KVM, "filter removed");
	kvm_vm_free(n.vm);
}

/* L2 does not access the MSR until L1 has entered it again. */
static void test_resumed(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n);
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	nested_leave_l2(&n);
	expect_handler_in_l1(&n, msr, write, MSR_BY_USER, "denied");
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied, L2 resumed");

	enter(&n, msr, write);
	set_filter(&n, msr, 0);
	nested_leave_l2(&n);
	expect_handler_in_l1(&n, msr, write, MSR_BY_CPU, "allowed");
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "allowed, L2 resumed");
	kvm_vm_free(n.vm);
}

/* As above, but L2 accesses the MSR before it exits to L1. */
static void test_l1_afterwards(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n);
	expect_handler_in_l1(&n, msr, write, MSR_BY_CPU, "no filter");
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied");
	expect_handler_in_l1(&n, msr, write, MSR_BY_USER, "denied");

	enter(&n, msr, write);
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "allowed");
	expect_handler_in_l1(&n, msr, write, MSR_BY_CPU, "allowed");
	kvm_vm_free(n.vm);
}

/* L2s share one bitmap in KVM, but each has its own from L1. */
static void test_other_l2(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;
	unsigned int i;

	create_vm(&n);
	for (i = 0; i < NR_L2S; i++) {
		n.orders->l2 = i;
		enter(&n, msr, write);
		expect_handler(&n, write, MSR_BY_CPU, "no filter");
	}

	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied");
	n.orders->l2 = 0;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied while another L2 was active");

	enter(&n, msr, write);
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "allowed");
	n.orders->l2 = 1;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "allowed while another L2 was active");

	/* One L1 bitmap is not taken for the other. */
	nested_l1_intercept(&n, msr->index, write, true);
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_L1, "denied, and intercepted by L1");
	n.orders->l2 = 0;
	enter(&n, msr, write);
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "allowed, intercepted by L1 in another L2");
	kvm_vm_free(n.vm);
}

/* What L1 intercepts remains L1's, whatever the filter says about it. */
static void test_l1_intercepts(const struct l2_msr *msr, bool write)
{
	const u32 filters[] = { FILTER_RW, msr_filter_flag(write),
				msr_filter_flag(!write), 0 };
	struct nested_vm n;
	unsigned int i;

	create_vm(&n);
	nested_l1_intercept(&n, msr->index, write, true);
	n.orders->l2_stays = true;
	for (i = 0; i < ARRAY_SIZE(filters); i++) {
		enter(&n, msr, !write);
		set_filter(&n, msr, filters[i]);
		expect_handler(&n, !write,
			       filters[i] & msr_filter_flag(!write) ? MSR_BY_USER :
								  MSR_BY_CPU,
			       "L1 intercepts the other access");
		expect_handler(&n, write, MSR_BY_L1, "L1 intercepts the access");
	}

	/* A filter for some other MSR */
	enter(&n, msr, write);
	set_filter(&n, msr == fs_base ? gs_base : fs_base, FILTER_RW);
	expect_handler(&n, write, MSR_BY_L1, "another MSR denied");
	kvm_vm_free(n.vm);
}

/* No bitmap of L1's says that L2 may have it, so no filter matters. */
static void expect_all_by_l1(struct nested_vm *n, const struct l2_msr *msr,
			     bool write)
{
	enter(n, msr, write);
	expect_handler(n, write, MSR_BY_L1, "no filter");
	enter(n, msr, write);
	set_filter(n, msr, msr_filter_flag(write));
	expect_handler(n, write, MSR_BY_L1, "denied");
	enter(n, msr, write);
	set_filter(n, msr, 0);
	expect_handler(n, write, MSR_BY_L1, "filter removed");
}

static void test_l1_has_no_bitmap(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_vm(&n);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "L1 has a bitmap");

	n.orders->l1_has_no_bitmap = true;
	expect_all_by_l1(&n, msr, write);

	/* A filter from when L1 had none must not be lost either. */
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	nested_leave_l2(&n);
	n.orders->l1_has_no_bitmap = false;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied, L1 has a bitmap again");
	kvm_vm_free(n.vm);
}

/* An L1 with one L2, whose VMCS is different from what the library makes of it. */
static u64 l1_prepare(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, guest_l2_code);
	return vmreadz(GUEST_RSP);
}

static void l1_enter_l2_forever(u64 l2_rsp)
{
	bool launched = false;

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		guest_enter_l2(l2_rsp, &launched);
	}
}

/* L1's bitmap is where there is no memory: what it says is not known. */
static void l1_lost_bitmap_guest_code(struct vmx_pages *vmx, u64 bitmap_gpa)
{
	u64 l2_rsp = l1_prepare(vmx);

	GUEST_ASSERT(!vmwrite(MSR_BITMAP, bitmap_gpa));
	l1_enter_l2_forever(l2_rsp);
}

static void test_l1_bitmap_is_lost(const struct l2_msr *msr, bool write)
{
	gva_t vmx[NR_L2S];
	struct nested_vm n;

	nested_vm_create_vmx(&n, l1_lost_bitmap_guest_code, 1, vmx);
	vcpu_args_set(n.vcpu, 2, vmx[0],
		      (u64)n.vm->max_gfn << n.vm->page_shift);
	nested_expect_stage(&n, SYNC_IN_L1);

	expect_all_by_l1(&n, msr, write);
	kvm_vm_free(n.vm);
}

/*
 * L1 virtualizes L2's x2APIC, i.e. passes MSRs of that through, which no filter
 * is for: they stay what they are when one is installed.
 */
static u8 l2_apic[4096] __aligned(4096);

static void l1_x2apic_guest_code(struct vmx_pages *vmx, u64 apic_gpa,
				 u64 controls)
{
	u64 l2_rsp = l1_prepare(vmx);

	GUEST_ASSERT(!vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			      vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
			      CPU_BASED_TPR_SHADOW |
			      CPU_BASED_ACTIVATE_SECONDARY_CONTROLS));
	GUEST_ASSERT(!vmwrite(SECONDARY_VM_EXEC_CONTROL, controls));
	if (controls & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)
		GUEST_ASSERT(!vmwrite(PIN_BASED_VM_EXEC_CONTROL,
				      vmreadz(PIN_BASED_VM_EXEC_CONTROL) |
				      PIN_BASED_EXT_INTR_MASK));
	GUEST_ASSERT(!vmwrite(VIRTUAL_APIC_PAGE_ADDR, apic_gpa));
	l1_enter_l2_forever(l2_rsp);
}

static void expect_handler_of_tpr(struct nested_vm *n, const struct l2_msr *msr,
				  bool write, const char *when)
{
	n->work->index = tpr.index;
	n->work->value = tpr.value;
	expect_handler(n, write, MSR_BY_CPU, when);
	n->work->index = msr->index;
	n->work->value = msr->value;
}

static void test_x2apic(const struct l2_msr *msr, bool write, u64 controls)
{
	gva_t vmx[NR_L2S];
	struct nested_vm n;

	nested_vm_create_vmx(&n, l1_x2apic_guest_code, 1, vmx);
	vcpu_args_set(n.vcpu, 3, vmx[0], addr_gva2gpa(n.vm, (gva_t)l2_apic),
		      controls);
	nested_expect_stage(&n, SYNC_IN_L1);

	n.orders->l2_stays = true;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "no filter");
	expect_handler_of_tpr(&n, msr, write, "no filter");
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied");
	expect_handler_of_tpr(&n, msr, write, "another MSR denied");
	set_filter(&n, msr, 0);
	expect_handler(&n, write, MSR_BY_CPU, "filter removed");
	expect_handler_of_tpr(&n, msr, write, "filter removed");
	nested_leave_l2(&n);

	/* But L1 may intercept them. */
	nested_l1_intercept(&n, tpr.index, write, true);
	enter(&n, &tpr, write);
	expect_handler(&n, write, MSR_BY_L1, "TPR intercepted by L1");
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_USER, "denied, TPR intercepted by L1");
	kvm_vm_free(n.vm);
}

static void test_x2apic_mode(const struct l2_msr *msr, bool write)
{
	test_x2apic(msr, write, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
}

static void test_x2apic_registers(const struct l2_msr *msr, bool write)
{
	test_x2apic(msr, write, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
				SECONDARY_EXEC_APIC_REGISTER_VIRT |
				SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
}

/* L2 is active, and is to go on in a copy of the VM. */
static void __test_save_restore(struct nested_vm *n, const struct l2_msr *msr,
				bool write, enum nested_filter_time when)
{
	n->orders->l2_stays = true;
	enter(n, msr, write);
	expect_handler(n, write, MSR_BY_CPU, "no filter");
	nested_save_restore(n, true, msr->index, msr_filter_flag(write), when);
	expect_handler(n, write, MSR_BY_USER, "denied");
	expect_handler(n, !write, MSR_BY_CPU, "the other access denied");

	/* The copy is as good as the original. */
	set_filter(n, msr, 0);
	expect_handler(n, write, MSR_BY_CPU, "filter removed");
	set_filter(n, msr, msr_filter_flag(write));
	expect_handler(n, write, MSR_BY_USER, "denied again");

	/* And once more, with the filter gone */
	nested_save_restore(n, true, msr->index, 0, when);
	expect_handler(n, write, MSR_BY_CPU, "restored with no filter");
	nested_leave_l2(n);
	enter(n, msr, write);
	expect_handler(n, write, MSR_BY_CPU, "restored with no filter, L2 resumed");
	kvm_vm_free(n->vm);
}

static void test_save_restore(const struct l2_msr *msr, bool write,
			      enum nested_filter_time when)
{
	struct nested_vm n;

	create_vm(&n);
	__test_save_restore(&n, msr, write, when);
}

static void test_filter_before_save(const struct l2_msr *msr, bool write)
{
	test_save_restore(msr, write, BEFORE_SAVE);
}

static void test_filter_before_load(const struct l2_msr *msr, bool write)
{
	test_save_restore(msr, write, BEFORE_LOAD);
}

static void test_filter_before_run(const struct l2_msr *msr, bool write)
{
	test_save_restore(msr, write, BEFORE_RUN);
}

/* What L1 has stored when L2 exits: KVM reads the MSR for it. */
static struct vmx_msr_entry guest_msr_list;

static void l1_list_guest_code(struct vmx_pages *vmx, u64 list_gpa)
{
	u64 l2_rsp = l1_prepare(vmx);

	GUEST_ASSERT(!vmwrite(VM_EXIT_MSR_STORE_ADDR, list_gpa));
	GUEST_ASSERT(!vmwrite(VM_EXIT_MSR_STORE_COUNT, 1));
	l1_enter_l2_forever(l2_rsp);
}

static struct vmx_msr_entry *create_list_vm(struct nested_vm *n, u32 index)
{
	gva_t list_gva = (gva_t)&guest_msr_list, vmx[NR_L2S];
	struct vmx_msr_entry *list;

	nested_vm_create_vmx(n, l1_list_guest_code, 1, vmx);
	vcpu_args_set(n->vcpu, 2, vmx[0], addr_gva2gpa(n->vm, list_gva));
	list = addr_gva2hva(n->vm, list_gva);
	list->index = index;
	list->value = MSR_VALUE_IN_MSR;
	nested_expect_stage(n, SYNC_IN_L1);
	return list;
}

/* Is L2's exit a VM-Abort, i.e. the end of the VM? */
static bool exit_aborts(struct nested_vm *n)
{
	n->orders->l2_leaves = true;
	vcpu_run(n->vcpu);
	return n->vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN;
}

/* Denied reads, and nothing else, make the exit a VM-Abort. */
static void __test_stored_at_exit(const struct l2_msr *msr, bool write,
				  bool l2_is_active)
{
	struct vmx_msr_entry *list;
	struct nested_vm n;

	list = create_list_vm(&n, msr->index);
	enter(&n, msr, write);
	nested_leave_l2(&n);
	TEST_ASSERT(list->value != MSR_VALUE_IN_MSR, "not stored, no filter");

	list->value = MSR_VALUE_IN_MSR;
	if (l2_is_active)
		enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	if (!l2_is_active)
		enter(&n, msr, write);

	if (write) {
		nested_leave_l2(&n);
		TEST_ASSERT(list->value != MSR_VALUE_IN_MSR,
			    "not stored, writes denied");
	} else {
		TEST_ASSERT(exit_aborts(&n),
			    "no VM-Abort, reads denied: exit reason %u",
			    n.vcpu->run->exit_reason);
		TEST_ASSERT(list->value == MSR_VALUE_IN_MSR,
			    "stored, reads denied");
	}
	kvm_vm_free(n.vm);
}

static void test_stored_at_exit(const struct l2_msr *msr, bool write)
{
	__test_stored_at_exit(msr, write, false);
}

static void test_stored_at_exit_of_active(const struct l2_msr *msr, bool write)
{
	__test_stored_at_exit(msr, write, true);
}

/* Linux 5.18 to 6.11 say that they do not. */
static bool msr_lists_are_filtered(void)
{
	struct nested_vm n;
	bool filtered;

	create_list_vm(&n, lstar.index);
	set_filter(&n, &lstar, FILTER_R);
	enter(&n, &lstar, false);
	filtered = exit_aborts(&n);
	kvm_vm_free(n.vm);
	return filtered;
}

/*
 * An L1 with an enlightened VMCS tells KVM when its MSR bitmap has changed, and
 * KVM need not merge it with its own if neither has.  Unless that bitmap is not
 * @enlightened: then what L1 tells of it says nothing.
 */
static void l1_evmcs_guest_code(struct vmx_pages *vmx,
				struct hyperv_test_pages *hv, u64 enlightened)
{
	bool launched = false;
	u64 l2_rsp;

	enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
	evmcs_enable();
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_evmcs(hv));
	prepare_vmcs(vmx, guest_l2_code);
	l2_rsp = vmreadz(GUEST_RSP);
	current_evmcs->hv_enlightenments_control.msr_bitmap = enlightened;

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(guest_orders.l1_bitmap_is_clean))
			current_evmcs->hv_clean_fields |=
				HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
		else
			current_evmcs->hv_clean_fields &=
				~HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
		guest_enter_l2(l2_rsp, &launched);
	}
}

static void init_evmcs_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu_set_hv_cpuid(vcpu);
	vcpu_enable_evmcs(vcpu);
}

static void __create_evmcs_vm(struct nested_vm *n, bool enlightened)
{
	gva_t vmx[NR_L2S], hv;

	nested_vm_create_vmx(n, l1_evmcs_guest_code, 1, vmx);
	n->init_vcpu = init_evmcs_vcpu;
	n->init_vcpu(n->vcpu);
	vcpu_alloc_hyperv_test_pages(n->vm, &hv);
	vcpu_args_set(n->vcpu, 3, vmx[0], hv, (u64)enlightened);
	nested_expect_stage(n, SYNC_IN_L1);
}

static void create_evmcs_vm(struct nested_vm *n)
{
	__create_evmcs_vm(n, true);
}

static void test_evmcs_denied(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;
	unsigned int clean;

	create_evmcs_vm(&n);
	for (clean = 0; clean < 2; clean++) {
		n.orders->l1_bitmap_is_clean = clean;
		n.orders->l2_stays = true;
		enter(&n, msr, write);
		expect_handler(&n, write, MSR_BY_CPU, "no filter");
		set_filter(&n, msr, msr_filter_flag(write));
		expect_handler(&n, write, MSR_BY_USER, "denied");
		expect_handler(&n, !write, MSR_BY_CPU, "the other access denied");
		set_filter(&n, msr, 0);
		expect_handler(&n, write, MSR_BY_CPU, "filter removed");
		nested_leave_l2(&n);
	}
	kvm_vm_free(n.vm);
}

/* L1's bitmap has not changed, but KVM's has. */
static void test_evmcs_resumed(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	create_evmcs_vm(&n);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "no filter");
	n.orders->l1_bitmap_is_clean = true;

	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	nested_leave_l2(&n);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied while L2 was active");
	enter(&n, msr, write);
	set_filter(&n, msr, 0);
	nested_leave_l2(&n);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "allowed while L2 was active");

	set_filter(&n, msr, msr_filter_flag(write));
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied while L1 ran");
	set_filter(&n, msr, 0);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "allowed while L1 ran");
	kvm_vm_free(n.vm);
}

static void test_evmcs_save_restore(const struct l2_msr *msr, bool write,
				    enum nested_filter_time when)
{
	struct nested_vm n;

	create_evmcs_vm(&n);
	__test_save_restore(&n, msr, write, when);
}

static void test_evmcs_before_save(const struct l2_msr *msr, bool write)
{
	test_evmcs_save_restore(msr, write, BEFORE_SAVE);
}

static void test_evmcs_before_load(const struct l2_msr *msr, bool write)
{
	test_evmcs_save_restore(msr, write, BEFORE_LOAD);
}

static void test_evmcs_before_run(const struct l2_msr *msr, bool write)
{
	test_evmcs_save_restore(msr, write, BEFORE_RUN);
}

/*
 * How often KVM merges the MSR bitmaps when L1 enters L2.  L1's bitmap changes,
 * but L1 says that it does not: if KVM has merged nevertheless, L2's access is
 * dealt with by what L1 wants now, else by what L1 wanted at the last merge.
 */
static unsigned int count_merges(struct nested_vm *n, const struct l2_msr *msr,
				 bool write, bool install)
{
	struct msr_outcome outcome;
	enum msr_handler merged, stale;
	unsigned int i, nr_merges = 0;
	static bool by_l1;

	for (i = 0; i < NR_ROUNDS; i++) {
		nested_l1_intercept(n, msr->index, write, !by_l1);
		if (install)
			set_filter(n, &lstar, FILTER_RW);

		enter(n, msr, write);
		outcome = nested_access_in_l2(n);
		merged = by_l1 ? MSR_BY_CPU : MSR_BY_L1;
		stale = by_l1 ? MSR_BY_KVM : MSR_BY_CPU;
		TEST_ASSERT(outcome.handler == merged ||
			    outcome.handler == stale,
			    "MSR 0x%x is dealt with by %s, expected %s if KVM has merged the bitmaps, %s if not",
			    msr->index, msr_handler_names[outcome.handler],
			    msr_handler_names[merged],
			    msr_handler_names[stale]);
		if (outcome.handler == merged) {
			by_l1 = !by_l1;
			nr_merges++;
		}
	}
	return nr_merges;
}

static void test_merges(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;
	unsigned int nr;

	create_evmcs_vm(&n);
	set_filter(&n, &lstar, FILTER_RW);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "another MSR denied");
	n.orders->l1_bitmap_is_clean = true;

	nr = count_merges(&n, msr, write, false);
	printf("merges: %u of %u entries without a filter change\n", nr,
	       NR_ROUNDS);
	TEST_ASSERT(!nr, "KVM merges bitmaps none of which has changed");
	nr = count_merges(&n, msr, write, true);
	printf("merges: %u of %u filter changes that change nothing\n", nr,
	       NR_ROUNDS);
	kvm_vm_free(n.vm);
}

/*
 * The bitmap is not enlightened, so that KVM has to merge at each entry, though
 * L1 says that nothing has changed.
 */
static void test_evmcs_not_enlightened(const struct l2_msr *msr, bool write)
{
	struct nested_vm n;

	__create_evmcs_vm(&n, false);
	n.orders->l1_bitmap_is_clean = true;
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_CPU, "no filter");

	nested_l1_intercept(&n, msr->index, write, true);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_L1, "intercepted by L1");
	enter(&n, msr, write);
	set_filter(&n, msr, msr_filter_flag(write));
	expect_handler(&n, write, MSR_BY_L1, "denied, and intercepted by L1");

	nested_l1_intercept(&n, msr->index, write, false);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_USER, "denied");
	set_filter(&n, msr, 0);
	nested_l1_intercept(&n, msr->index, write, true);
	enter(&n, msr, write);
	expect_handler(&n, write, MSR_BY_L1, "filter removed");
	kvm_vm_free(n.vm);
}

static unsigned int nr_failed;

static void run_scenario(void (*scenario)(const struct l2_msr *msr, bool write),
			 const struct l2_msr *msr, const char *name)
{
	nr_failed += nested_run_scenario(scenario, msr, false, name);
	nr_failed += nested_run_scenario(scenario, msr, true, name);
}

static bool spec_ctrl_is_available(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	bool available;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	available = vcpu_enable_spec_ctrl(vcpu);
	kvm_vm_free(vm);
	return available;
}

static void run_scenarios(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(l2_msrs); i++) {
		if (l2_msrs[i].index == MSR_IA32_SPEC_CTRL &&
		    !spec_ctrl_is_available()) {
			skip_by_name("SPEC_CTRL in L2: the CPU does not have it");
			continue;
		}
		run_scenario(test_denied, &l2_msrs[i],
			     "denied while L2 is active");
	}
	run_scenario(test_allowed, fs_base, "allowed while L2 is active");
	run_scenario(test_not_passed_through, &lstar,
		     "not passed through, denied while L2 is active");
	run_scenario(test_resumed, gs_base, "L2 resumed later");
	run_scenario(test_l1_afterwards, gs_base, "L1 afterwards");
	run_scenario(test_other_l2, fs_base, "another L2 resumed later");
	run_scenario(test_l1_intercepts, gs_base, "intercepted by L1");
	run_scenario(test_l1_has_no_bitmap, fs_base, "L1 has no bitmap");
	run_scenario(test_l1_bitmap_is_lost, fs_base, "L1's bitmap is lost");
}

static void run_x2apic(void)
{
	if (!nested_l1_may_have(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE)) {
		skip_by_name("x2APIC in L2: the CPU can't virtualize it");
		return;
	}
	run_scenario(test_x2apic_mode, gs_base, "L2 has an x2APIC");
	if (!nested_l1_may_have(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
				SECONDARY_EXEC_APIC_REGISTER_VIRT |
				SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)) {
		skip_by_name("x2APIC's registers in L2: the CPU can't virtualize them");
		return;
	}
	run_scenario(test_x2apic_registers, gs_base,
		     "L2 has an x2APIC, with registers");
}

static void run_stored_at_exit(void)
{
	if (!msr_lists_are_filtered()) {
		skip_by_name("stored at L2's exit: KVM does not filter that");
		return;
	}
	run_scenario(test_stored_at_exit, &lstar,
		     "denied, stored at L2's exit");
	run_scenario(test_stored_at_exit_of_active, &lstar,
		     "denied while L2 is active, stored at its exit");
	run_scenario(test_stored_at_exit, &tsc, "denied, stored at L2's exit");
	run_scenario(test_stored_at_exit_of_active, &tsc,
		     "denied while L2 is active, stored at its exit");
}

static void run_save_restore(void)
{
	if (!kvm_has_cap(KVM_CAP_NESTED_STATE)) {
		skip_by_name("saved and restored: KVM can't");
		return;
	}
	run_scenario(test_filter_before_save, gs_base,
		     "filter set before L2 is saved");
	run_scenario(test_filter_before_load, gs_base,
		     "filter set before L2 is restored");
	run_scenario(test_filter_before_run, gs_base,
		     "filter set after L2 is restored");
}

static void run_evmcs(void)
{
	if (!kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS) ||
	    !kvm_hv_cpu_has(HV_X64_NESTED_MSR_BITMAP)) {
		skip_by_name("enlightened MSR bitmap: KVM does not have it");
		return;
	}
	run_scenario(test_evmcs_denied, gs_base,
		     "eVMCS, denied while L2 is active");
	run_scenario(test_evmcs_resumed, gs_base, "eVMCS, L2 resumed later");
	run_scenario(test_evmcs_before_save, gs_base,
		     "eVMCS, filter set before L2 is saved");
	run_scenario(test_evmcs_before_load, gs_base,
		     "eVMCS, filter set before L2 is restored");
	run_scenario(test_evmcs_before_run, gs_base,
		     "eVMCS, filter set after L2 is restored");
	run_scenario(test_evmcs_not_enlightened, gs_base,
		     "eVMCS, MSR bitmap not enlightened");
	nr_failed += nested_run_scenario(test_merges, gs_base, false,
					 "eVMCS, merges counted");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	run_scenarios();
	run_x2apic();
	run_stored_at_exit();
	run_save_restore();
	run_evmcs();

	printf("failed: %u\n", nr_failed);
	report_skipped();
	return nr_failed ? 1 : 0;
}
