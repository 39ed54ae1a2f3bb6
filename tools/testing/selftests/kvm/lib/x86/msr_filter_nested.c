// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who deals with the MSR accesses of a nested guest: first what VMX and SVM
 * have in common, then L1 and L2 on VMX.
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msr_filter_nested.h"

static void nested_enable_exits(struct nested_vm *n)
{
	vm_enable_cap(n->vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
}

void nested_vm_create(struct nested_vm *n, void *l1_code)
{
	memset(n, 0, sizeof(*n));
	n->vm = vm_create_with_one_vcpu(&n->vcpu, l1_code);
	vm_init_msr_test(n->vm);
	nested_enable_exits(n);
	n->work = vcpu_msr_work(n->vcpu, 0);
}

u64 nested_run_to_stage(struct nested_vm *n, u64 *nr_user, u32 *reason)
{
	return vcpu_run_msr_work(n->vcpu, n->work, MSR_VALUE_FROM_USER, nr_user,
				 reason);
}

void nested_expect_stage(struct nested_vm *n, u64 expected)
{
	u64 nr_user = 0, stage;
	u32 reason = 0;

	stage = nested_run_to_stage(n, &nr_user, &reason);
	TEST_ASSERT(stage == expected && !nr_user,
		    "Stage 0x%lx after %lu exits to userspace, expected 0x%lx after none",
		    stage, nr_user, expected);
}

void nested_assert_outcome(const struct msr_outcome *outcome,
			   enum msr_handler expected, u32 index, bool write,
			   const char *when)
{
	assert_msr_handler(outcome, expected, index, write, when);
	if (expected != MSR_BY_USER)
		return;

	TEST_ASSERT(outcome->reason == KVM_MSR_EXIT_REASON_FILTER,
		    "%s: KVM_MSR_EXIT_REASON %u, expected %u", when,
		    outcome->reason, KVM_MSR_EXIT_REASON_FILTER);
	TEST_ASSERT(write || outcome->read == MSR_VALUE_FROM_USER,
		    "%s: read 0x%lx, expected 0x%lx", when, outcome->read,
		    MSR_VALUE_FROM_USER);
}

/* The VM's memory, in a new VM with a new vCPU */
static void nested_copy_vm(struct nested_vm *n, bool filter, u32 index,
			   u32 flags)
{
	kvm_vm_release(n->vm);
	kvm_vm_restart(n->vm);
	nested_enable_exits(n);
	if (filter)
		vm_deny_msr(n->vm, index, flags);
	n->vcpu = vm_vcpu_recreate(n->vm, 0);
	if (n->init_vcpu)
		n->init_vcpu(n->vcpu);
}

/* SVM: if GIF is lost, L2 and L1 get no interrupts any more. */
static void nested_assert_restored(struct nested_vm *n,
				   const struct kvm_nested_state *saved)
{
	u16 flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
	struct kvm_nested_state *state = calloc(1, saved->size);

	TEST_ASSERT(state, "calloc() failed");
	state->size = saved->size;
	vcpu_nested_state_get(n->vcpu, state);
	TEST_ASSERT(!((saved->flags ^ state->flags) & flags),
		    "Flags of nested state: 0x%x restored, 0x%x saved",
		    state->flags, saved->flags);
	free(state);
}

void nested_save_restore(struct nested_vm *n, bool copy, u32 index, u32 flags,
			 enum nested_filter_time when)
{
	struct kvm_x86_state *state;

	if (when == BEFORE_SAVE)
		vm_deny_msr(n->vm, index, flags);
	state = vcpu_save_state(n->vcpu);
	if (copy)
		nested_copy_vm(n, when == BEFORE_SAVE, index, flags);

	if (when == BEFORE_LOAD)
		vm_deny_msr(n->vm, index, flags);
	vcpu_load_state(n->vcpu, state);
	nested_assert_restored(n, &state->nested);
	if (when == BEFORE_RUN)
		vm_deny_msr(n->vm, index, flags);
	kvm_x86_state_cleanup(state);
}

bool nested_run_scenario(void (*scenario)(const struct l2_msr *msr, bool write),
			 const struct l2_msr *msr, bool write, const char *name)
{
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		scenario(msr, write);
		exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
	printf("%ss of %s, %s: %s\n", write ? "write" : "read", msr->name, name,
	       status ? "FAILED" : "ok");
	return status;
}

struct guest_orders guest_orders;

void guest_l2_code(void)
{
	do {
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(guest_orders.l2_leaves))
			break;
		guest_do_msr_work(&guest_msr_work[0]);
	} while (READ_ONCE(guest_orders.l2_stays));

	vmcall();
	GUEST_ASSERT(false);
}

/*
 * L2 begins anew each time, whatever it exits for: L1 does not keep its
 * registers.  So L2 gets no further than to its first access that is L1's.
 */
void guest_enter_l2(u64 l2_rsp, bool *launched)
{
	u64 controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	bool has_bitmap = controls & CPU_BASED_USE_MSR_BITMAPS;

	/* Controls that have been written are not clean, even if the same. */
	if (has_bitmap == !!READ_ONCE(guest_orders.l1_has_no_bitmap))
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			controls ^ CPU_BASED_USE_MSR_BITMAPS);
	vmwrite(GUEST_RIP, (u64)guest_l2_code);
	vmwrite(GUEST_RSP, l2_rsp);

	GUEST_ASSERT(!(*launched ? vmresume() : vmlaunch()));
	*launched = true;
	WRITE_ONCE(guest_orders.l1_exit_reason, vmreadz(VM_EXIT_REASON));
}

/* @vmx1 is NULL where there is one L2 only. */
static void guest_l1_code(struct vmx_pages *vmx0, struct vmx_pages *vmx1)
{
	struct vmx_pages *vmx[NR_L2S] = { vmx0, vmx1 };
	bool launched[NR_L2S] = {};
	u64 l2_rsp[NR_L2S];
	unsigned int i;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx0));
	for (i = 0; i < NR_L2S && vmx[i]; i++) {
		GUEST_ASSERT(load_vmcs(vmx[i]));
		prepare_vmcs(vmx[i], guest_l2_code);
		l2_rsp[i] = vmreadz(GUEST_RSP);
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(guest_orders.l1_accesses)) {
			guest_do_msr_work(&guest_msr_work[0]);
			continue;
		}
		i = READ_ONCE(guest_orders.l2);
		GUEST_ASSERT(!vmptrld(vmx[i]->vmcs_gpa));
		guest_enter_l2(l2_rsp[i], &launched[i]);
	}
}

void nested_vm_create_vmx(struct nested_vm *n, void *l1_code,
			  unsigned int nr_l2s, gva_t vmx[NR_L2S])
{
	unsigned int i;

	nested_vm_create(n, l1_code ?: guest_l1_code);
	n->orders = addr_gva2hva(n->vm, (gva_t)&guest_orders);

	for (i = 0; i < NR_L2S; i++) {
		vmx[i] = 0;
		if (i < nr_l2s)
			n->bitmaps[i] = vcpu_alloc_vmx(n->vm, &vmx[i])->msr_hva;
	}
	vcpu_args_set(n->vcpu, 2, vmx[0], vmx[1]);
}

bool nested_l1_may_have(u64 controls)
{
	u64 allowed = kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32;

	return (kvm_get_feature_msr(MSR_IA32_VMX_TRUE_PROCBASED_CTLS) >> 32 &
		CPU_BASED_TPR_SHADOW) && (allowed & controls) == controls;
}

/* The bit of a read or write in an MSR bitmap, 4 times 1024 bytes large */
void nested_l1_intercept(struct nested_vm *n, u32 index, bool write, bool on)
{
	u32 bit = (write ? 0x4000 : 0) + (index >= 0xc0000000 ? 0x2000 : 0) +
		  (index & 0x1fff);
	u8 *bitmap = n->bitmaps[n->orders->l2];

	if (on)
		bitmap[bit / 8] |= 1 << (bit % 8);
	else
		bitmap[bit / 8] &= ~(1 << (bit % 8));
}

void nested_enter_l2(struct nested_vm *n, u32 index, bool write, u64 value)
{
	n->work->index = index;
	n->work->write = write;
	n->work->value = value;
	nested_expect_stage(n, SYNC_IN_L2);
}

static void expect_l1_exit_reason(struct nested_vm *n, u64 expected)
{
	TEST_ASSERT(n->orders->l1_exit_reason == expected,
		    "L2 exited to L1 for reason %lu, expected %lu",
		    n->orders->l1_exit_reason, expected);
}

void nested_leave_l2(struct nested_vm *n)
{
	n->orders->l2_leaves = true;
	nested_expect_stage(n, SYNC_IN_L1);
	n->orders->l2_leaves = false;
	expect_l1_exit_reason(n, EXIT_REASON_VMCALL);
}

struct msr_outcome nested_access_in_l2(struct nested_vm *n)
{
	u64 nr_user_once = 0, nr_user = 0, stage;
	struct msr_outcome outcome = {};

	stage = nested_run_to_stage(n, &nr_user_once, &outcome.reason);
	if (stage == SYNC_IN_L1) {
		TEST_ASSERT(!nr_user_once,
			    "%lu exits to userspace before that to L1",
			    nr_user_once);
		expect_l1_exit_reason(n, n->work->write ?
					 EXIT_REASON_MSR_WRITE :
					 EXIT_REASON_MSR_READ);
		outcome.handler = MSR_BY_L1;
		return outcome;
	}
	TEST_ASSERT(stage == SYNC_ACCESSED_ONCE, "Stage 0x%lx, expected 0x%x",
		    stage, SYNC_ACCESSED_ONCE);

	outcome.exits = vcpu_get_stat(n->vcpu, exits);
	stage = nested_run_to_stage(n, &nr_user, &outcome.reason);
	outcome.exits = vcpu_get_stat(n->vcpu, exits) - outcome.exits;
	TEST_ASSERT(stage == SYNC_ACCESSED_ALL, "Stage 0x%lx, expected 0x%x",
		    stage, SYNC_ACCESSED_ALL);

	outcome.handler = msr_handler_by_counts(outcome.exits, nr_user,
						n->work->nr_gps,
						n->work->index);
	outcome.read = n->work->read;
	TEST_ASSERT(nr_user_once == (outcome.handler == MSR_BY_USER),
		    "First access of MSR 0x%x: %lu exits to userspace, but later ones are dealt with by %s",
		    n->work->index, nr_user_once,
		    msr_handler_names[outcome.handler]);

	if (n->orders->l2_stays) {
		nested_expect_stage(n, SYNC_IN_L2);
	} else {
		nested_expect_stage(n, SYNC_IN_L1);
		expect_l1_exit_reason(n, EXIT_REASON_VMCALL);
	}
	return outcome;
}
