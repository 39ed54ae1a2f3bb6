// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers for tests of MSR filters, see msr_filter.h.
 */
#include "msr_filter.h"
#include "hyperv.h"
#include "svm_util.h"
#include "vmx.h"

const char * const msr_handler_names[] = {
	[MSR_BY_CPU] = "the CPU",
	[MSR_BY_KVM] = "KVM",
	[MSR_BY_USER] = "userspace",
	[MSR_BY_GP] = "a #GP",
	[MSR_BY_L1] = "L1",
};

struct guest_msr_access guest_msr_access[MSR_MAX_VCPUS];

static void guest_access_msr_once(struct guest_msr_access *access)
{
	u64 value = 0;
	u8 vector;

	if (access->write) {
		vector = wrmsr_safe(access->index, access->value);
	} else {
		vector = rdmsr_safe(access->index, &value);
		access->read = value;
	}
	GUEST_ASSERT(!vector || vector == GP_VECTOR);
	access->nr_gps += !!vector;
}

/* Don't count the first access; VM-Enter before it may cause other exits. */
void guest_access_msr(struct guest_msr_access *access)
{
	int i;

	access->nr_gps = 0;
	guest_access_msr_once(access);
	GUEST_SYNC(SYNC_ACCESSED_ONCE);

	for (i = 0; i < MSR_NR_ACCESSES; i++)
		guest_access_msr_once(access);
	GUEST_SYNC(SYNC_ACCESSED_ALL);
}

void guest_access_msrs(struct guest_msr_access *access)
{
	for (;;)
		guest_access_msr(access);
}

static struct guest_msr_access *vcpu_msr_access(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(vcpu->id < MSR_MAX_VCPUS, "vCPU %u, expected less than %u",
		    vcpu->id, MSR_MAX_VCPUS);
	return addr_gva2hva(vcpu->vm, (gva_t)&guest_msr_access[vcpu->id]);
}

void vcpu_init_msr_access(struct kvm_vcpu *vcpu)
{
	vcpu_args_set(vcpu, 1, &guest_msr_access[vcpu->id]);
}

const struct kvm_msr_filter msr_filter_none = {
	.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
};

void vm_deny_msr(struct kvm_vm *vm, u32 index, u32 flags)
{
	/* KVM reads bitmaps in units of long. */
	u8 deny[sizeof(long)] = {};
	struct kvm_msr_filter filter = {
		.ranges = { MSR_RANGE(flags, index, 1, deny) },
	};

	vm_set_msr_filter(vm, flags ? &filter : &msr_filter_none);
}

bool msr_filter_allows(const struct kvm_msr_filter *filter, u32 index,
		       bool write)
{
	const struct kvm_msr_filter_range *range;

	/* x2APIC MSRs can't be filtered. */
	if (!filter || (index >= 0x800 && index <= 0x8ff))
		return true;

	for (range = filter->ranges;
	     range < filter->ranges + KVM_MSR_FILTER_MAX_RANGES; range++) {
		u64 bit = (u64)index - range->base;

		if (index >= range->base && bit < range->nmsrs &&
		    (range->flags & msr_filter_flag(write)))
			return range->bitmap[bit / 8] & BIT(bit % 8);
	}
	return !(filter->flags & KVM_MSR_FILTER_DEFAULT_DENY);
}

static void complete_msr_exit(struct kvm_vcpu *vcpu)
{
	struct guest_msr_access *access = vcpu_msr_access(vcpu);
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT_EQ(run->exit_reason, access->write ? KVM_EXIT_X86_WRMSR :
							 KVM_EXIT_X86_RDMSR);
	TEST_ASSERT_EQ(run->msr.index, access->index);
	if (access->write)
		TEST_ASSERT_EQ(run->msr.data, access->value);
	else
		run->msr.data = MSR_VALUE_FROM_USER;
	run->msr.error = 0;
}

u64 vcpu_run_to_stage(struct kvm_vcpu *vcpu, u64 *nr_user, u32 *reason)
{
	struct ucall uc;

	for (*nr_user = 0; ; ++*nr_user) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_IO)
			break;
		complete_msr_exit(vcpu);
		*reason = vcpu->run->msr.reason;
	}

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return uc.args[1];
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
	return 0;
}

static enum msr_handler msr_handler(u64 exits, u64 nr_user, u64 nr_gps)
{
	TEST_ASSERT(!nr_user || nr_user == MSR_NR_ACCESSES,
		    "%lu of %u accesses exited to userspace", nr_user,
		    MSR_NR_ACCESSES);
	TEST_ASSERT(!nr_gps || nr_gps == MSR_NR_ACCESSES + 1,
		    "%lu of %u accesses caused a #GP", nr_gps,
		    MSR_NR_ACCESSES + 1);
	TEST_ASSERT(exits <= MSR_MAX_NOISE ||
		    (exits >= MSR_NR_ACCESSES &&
		     exits <= MSR_NR_ACCESSES + MSR_MAX_NOISE),
		    "%lu VM-Exits for %u accesses, expected one for each or none",
		    exits, MSR_NR_ACCESSES);

	if (nr_user)
		return MSR_BY_USER;
	if (exits <= MSR_MAX_NOISE)
		return MSR_BY_CPU;
	return nr_gps ? MSR_BY_GP : MSR_BY_KVM;
}

struct msr_outcome vcpu_access_msr(struct kvm_vcpu *vcpu, u32 index, bool write,
				   u64 value)
{
	struct guest_msr_access *access = vcpu_msr_access(vcpu);
	struct msr_outcome outcome = {};
	u64 nr_user_once, nr_user, stage;

	access->index = index;
	access->write = write;
	access->value = value;

	stage = vcpu_run_to_stage(vcpu, &nr_user_once, &outcome.reason);
	if (stage == SYNC_IN_L1) {
		outcome.handler = MSR_BY_L1;
		return outcome;
	}
	TEST_ASSERT_EQ(stage, SYNC_ACCESSED_ONCE);

	outcome.exits = vcpu_get_stat(vcpu, exits);
	stage = vcpu_run_to_stage(vcpu, &nr_user, &outcome.reason);
	outcome.exits = vcpu_get_stat(vcpu, exits) - outcome.exits;
	TEST_ASSERT_EQ(stage, SYNC_ACCESSED_ALL);

	outcome.handler = msr_handler(outcome.exits, nr_user, access->nr_gps);
	outcome.gp = access->nr_gps;
	outcome.read = access->read;
	TEST_ASSERT(nr_user_once == (outcome.handler == MSR_BY_USER),
		    "%s of MSR 0x%x: %lu exits to userspace, but later ones are handled by %s",
		    write ? "First write" : "First read", index, nr_user_once,
		    msr_handler_names[outcome.handler]);
	return outcome;
}

static void assert_msr_handler(const struct msr_outcome *outcome, u32 index,
			       bool write, enum msr_handler expected,
			       const char *when)
{
	TEST_ASSERT(outcome->handler == expected,
		    "%s of MSR 0x%x handled by %s, expected %s: %s",
		    write ? "Writes" : "Reads", index,
		    msr_handler_names[outcome->handler],
		    msr_handler_names[expected], when);
}

struct msr_outcome vcpu_expect_msr_handler(struct kvm_vcpu *vcpu, u32 index,
					   bool write, u64 value,
					   enum msr_handler expected,
					   const char *when)
{
	struct msr_outcome outcome = vcpu_access_msr(vcpu, index, write, value);

	assert_msr_handler(&outcome, index, write, expected, when);
	return outcome;
}

bool vcpu_enable_spec_ctrl(struct kvm_vcpu *vcpu)
{
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_SPEC_CTRL);
	return _vcpu_set_msr(vcpu, MSR_IA32_SPEC_CTRL, 0) == 1;
}

/*
 * L1's MSR bitmaps are in a memslot of their own, out of the way of all other
 * memory, so that they can be deleted.
 */
#define BITMAP_SLOT	10
#define BITMAP_GPA	0xc0000000ul
#define BITMAP_PAGES	2
#define BITMAP_SIZE	(BITMAP_PAGES * 4096)

struct l1_guest l1_guest;

static u64 l2_rsp[NR_L2S];
static bool l2_launched[NR_L2S];

/* L1 always runs L2 from its start, and so doesn't have to skip instructions. */
static void l2_guest_code(void)
{
	for (;;) {
		GUEST_SYNC(SYNC_IN_L2);
		if (!READ_ONCE(l1_guest.leave_l2))
			guest_access_msr(&guest_msr_access[0]);
		else if (l1_guest.is_svm)
			vmmcall();
		else
			vmcall();
	}
}

static void l1_setup_vmx(unsigned int nr)
{
	struct hyperv_test_pages *hv = (void *)l1_guest.hyperv;
	struct vmx_pages *vmx = (void *)l1_guest.l2s[nr];

	if (!nr) {
		if (l1_guest.use_hyperv) {
			enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
			evmcs_enable();
		}
		GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	}
	GUEST_ASSERT(l1_guest.use_hyperv ? load_evmcs(hv) : load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_code);
	l2_rsp[nr] = vmreadz(GUEST_RSP);
	GUEST_ASSERT(!vmwrite(MSR_BITMAP, l1_guest.bitmap_gpa + nr * BITMAP_SIZE));
	if (l1_guest.use_hyperv == L1_HYPERV_MSR_BITMAP)
		current_evmcs->hv_enlightenments_control.msr_bitmap = 1;
	if (l1_guest.setup_l2)
		((void (*)(struct vmx_pages *))l1_guest.setup_l2)(vmx);
}

static u64 l1_run_vmx(unsigned int nr, bool bitmap_changed)
{
	struct vmx_pages *vmx = (void *)l1_guest.l2s[nr];
	u64 controls;

	if (!l1_guest.use_hyperv)
		GUEST_ASSERT(!vmptrld(vmx->vmcs_gpa));

	/* With an enlightened VMCS, writing a control marks it dirty. */
	controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	if (!(controls & CPU_BASED_USE_MSR_BITMAPS) != !!l1_guest.ignore_bitmap)
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			controls ^ CPU_BASED_USE_MSR_BITMAPS);
	vmwrite(GUEST_RIP, (u64)l2_guest_code);
	vmwrite(GUEST_RSP, l2_rsp[nr]);
	if (l1_guest.use_hyperv) {
		current_evmcs->hv_clean_fields |=
			HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
		if (bitmap_changed)
			current_evmcs->hv_clean_fields &=
				~HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
	}

	GUEST_ASSERT(!(l2_launched[nr] ? vmresume() : vmlaunch()));
	l2_launched[nr] = true;
	return vmreadz(VM_EXIT_REASON);
}

static void l1_setup_svm(unsigned int nr)
{
	struct svm_test_data *svm = (void *)l1_guest.l2s[nr];
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct hv_vmcb_enlightenments *hve = (void *)control->reserved_sw;

	generic_svm_setup(svm, l2_guest_code);
	l2_rsp[nr] = svm->vmcb->save.rsp;
	control->msrpm_base_pa = l1_guest.bitmap_gpa + nr * BITMAP_SIZE;
	if (l1_guest.use_hyperv)
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	if (l1_guest.use_hyperv == L1_HYPERV_MSR_BITMAP)
		hve->hv_enlightenments_control.msr_bitmap = 1;
	if (l1_guest.setup_l2)
		((void (*)(struct vmcb *))l1_guest.setup_l2)(svm->vmcb);
}

static u64 l1_run_svm(unsigned int nr, bool bitmap_changed)
{
	struct svm_test_data *svm = (void *)l1_guest.l2s[nr];
	struct vmcb_control_area *control = &svm->vmcb->control;

	control->intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
	if (l1_guest.ignore_bitmap)
		control->intercept &= ~BIT_ULL(INTERCEPT_MSR_PROT);
	control->clean = bitmap_changed ? 0 : HV_VMCB_NESTED_ENLIGHTENMENTS;
	svm->vmcb->save.rip = (u64)l2_guest_code;
	svm->vmcb->save.rsp = l2_rsp[nr];

	run_guest(svm->vmcb, svm->vmcb_gpa);
	return control->exit_code;
}

static void l1_guest_code(void)
{
	bool changed;
	int i;

	for (i = 0; i < NR_L2S && l1_guest.l2s[i]; i++) {
		if (l1_guest.is_svm)
			l1_setup_svm(i);
		else
			l1_setup_vmx(i);
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		i = READ_ONCE(l1_guest.l2);
		if (i < 0) {
			guest_access_msr(&guest_msr_access[0]);
			continue;
		}

		/* L1 announces changes only if its bitmap is enlightened. */
		changed = READ_ONCE(l1_guest.bitmap_changed) &&
			  l1_guest.use_hyperv == L1_HYPERV_MSR_BITMAP;
		l1_guest.bitmap_changed = false;
		l1_guest.exit_reason = l1_guest.is_svm ? l1_run_svm(i, changed) :
							 l1_run_vmx(i, changed);
	}
}

bool kvm_has_nested_hyperv(void)
{
	return kvm_hv_cpu_has(HV_X64_NESTED_MSR_BITMAP) &&
	       (kvm_cpu_has(X86_FEATURE_SVM) ||
		kvm_has_cap(KVM_CAP_HYPERV_ENLIGHTENED_VMCS));
}

static void nested_vm_expect_stage(struct nested_vm *n, u64 expected)
{
	u64 nr_user, stage;
	u32 reason;

	stage = vcpu_run_to_stage(n->vcpu, &nr_user, &reason);
	TEST_ASSERT(stage == expected && !nr_user,
		    "Stage 0x%lx after %lu exits to userspace, expected 0x%lx after none",
		    stage, nr_user, expected);
}

static void nested_vm_init_vm(struct nested_vm *n)
{
	vm_enable_cap(n->vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
}

static void nested_vm_init_vcpu(struct nested_vm *n)
{
	if (!n->l1->use_hyperv)
		return;
	vcpu_set_hv_cpuid(n->vcpu);
	if (!n->l1->is_svm)
		vcpu_enable_evmcs(n->vcpu);
}

void nested_vm_add_bitmaps(struct nested_vm *n)
{
	vm_userspace_mem_region_add(n->vm, VM_MEM_SRC_ANONYMOUS, BITMAP_GPA,
				    BITMAP_SLOT, NR_L2S * BITMAP_PAGES, 0);
}

void nested_vm_delete_bitmaps(struct nested_vm *n)
{
	vm_mem_region_delete(n->vm, BITMAP_SLOT);
}

void nested_vm_create(struct nested_vm *n, int nr_l2s, enum l1_hyperv hyperv,
		      void *setup_l2)
{
	int i;

	n->vm = vm_create_with_one_vcpu(&n->vcpu, l1_guest_code);
	nested_vm_init_vm(n);
	nested_vm_add_bitmaps(n);

	n->l1 = addr_gva2hva(n->vm, (gva_t)&l1_guest);
	n->l1->is_svm = kvm_cpu_has(X86_FEATURE_SVM);
	n->l1->use_hyperv = hyperv;
	n->l1->bitmap_gpa = BITMAP_GPA;
	n->l1->setup_l2 = setup_l2;
	n->l1->l2 = -1;
	n->l2_is_active = false;
	for (i = 0; i < nr_l2s; i++) {
		if (n->l1->is_svm)
			vcpu_alloc_svm(n->vm, &n->l1->l2s[i]);
		else
			vcpu_alloc_vmx(n->vm, &n->l1->l2s[i]);
	}
	n->has_spec_ctrl = !n->l1->is_svm && vcpu_enable_spec_ctrl(n->vcpu);
	nested_vm_init_vcpu(n);
	if (hyperv && !n->l1->is_svm)
		vcpu_alloc_hyperv_test_pages(n->vm, &n->l1->hyperv);

	nested_vm_expect_stage(n, SYNC_IN_L1);
}

void nested_vm_enter(struct nested_vm *n, int nr)
{
	if (n->l2_is_active)
		return;

	n->l1->l2 = nr;
	if (nr < 0)
		return;

	nested_vm_expect_stage(n, SYNC_IN_L2);
	n->l2_is_active = true;
}

void nested_vm_leave(struct nested_vm *n)
{
	TEST_ASSERT(n->l2_is_active, "L2 isn't active");
	n->l1->leave_l2 = true;
	nested_vm_expect_stage(n, SYNC_IN_L1);
	n->l1->leave_l2 = false;
	n->l2_is_active = false;
	TEST_ASSERT_EQ(n->l1->exit_reason, n->l1->is_svm ? SVM_EXIT_VMMCALL :
							   EXIT_REASON_VMCALL);
}

/* Reads, then writes; on VMX an MSR has a bit in each half of a page. */
static u32 l1_bitmap_bit(bool is_svm, u32 index, bool write)
{
	u32 range = index < 0xc0000000 ? 0 : index < 0xc0010000 ? 1 : 2;

	if (is_svm)
		return (range * 0x2000 + (index & 0x1fff)) * 2 + write;
	return (write * 2 + range) * 0x2000 + (index & 0x1fff);
}

void nested_vm_intercept(struct nested_vm *n, int nr, u32 index, bool write,
			 bool intercept)
{
	u32 bit = l1_bitmap_bit(n->l1->is_svm, index, write);
	u8 *bitmap = addr_gpa2hva(n->vm, BITMAP_GPA + nr * BITMAP_SIZE);

	if (intercept)
		bitmap[bit / 8] |= BIT(bit % 8);
	else
		bitmap[bit / 8] &= ~BIT(bit % 8);
	n->l1->bitmap_changed = true;
}

void nested_vm_save_restore(struct nested_vm *n,
			    void (*before_load)(struct nested_vm *n),
			    void (*before_run)(struct nested_vm *n))
{
	struct kvm_x86_state *state = vcpu_save_state(n->vcpu);

	kvm_vm_release(n->vm);
	n->vcpu = vm_recreate_with_one_vcpu(n->vm);
	nested_vm_init_vm(n);
	nested_vm_init_vcpu(n);
	if (before_load)
		before_load(n);
	vcpu_load_state(n->vcpu, state);
	if (before_run)
		before_run(n);
	kvm_x86_state_cleanup(state);
}

struct msr_outcome nested_vm_access(struct nested_vm *n, u32 index, bool write,
				    u64 value)
{
	struct msr_outcome outcome = vcpu_access_msr(n->vcpu, index, write, value);

	if (outcome.handler == MSR_BY_L1) {
		n->l2_is_active = false;
		TEST_ASSERT_EQ(n->l1->exit_reason,
			       n->l1->is_svm ? SVM_EXIT_MSR :
			       write ? EXIT_REASON_MSR_WRITE : EXIT_REASON_MSR_READ);
		return outcome;
	}

	nested_vm_expect_stage(n, n->l2_is_active ? SYNC_IN_L2 : SYNC_IN_L1);
	return outcome;
}

void nested_vm_expect(struct nested_vm *n, u32 index, bool write, u64 value,
		      enum msr_handler expected, const char *when)
{
	struct msr_outcome outcome = nested_vm_access(n, index, write, value);

	assert_msr_handler(&outcome, index, write, expected, when);
	if (expected != MSR_BY_USER)
		return;

	TEST_ASSERT_EQ(outcome.reason, KVM_MSR_EXIT_REASON_FILTER);
	if (!write)
		TEST_ASSERT_EQ(outcome.read, MSR_VALUE_FROM_USER);
}
