/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of MSR filters for nested guests have in common: an L1 that
 * enters an L2, or accesses an MSR itself, as the host asks for, and find out
 * who deals with L2's accesses.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_NESTED_H
#define SELFTEST_KVM_MSR_FILTER_NESTED_H

#include "msr_filter.h"
#include "vmx.h"

/* Stages that L1 and L2 report, next to those of msr_filter.h */
#define SYNC_IN_L1	0x70
#define SYNC_IN_L2	0x71

#define NR_L2S		2

/* What the host tells L1 and L2, and L1 the host */
struct guest_orders {
	/* Not L2 is to access the MSR, but L1 itself. */
	u64 l1_accesses;
	/* Which L2, i.e. which VMCS of L1's, is to be entered */
	u64 l2;
	/* L1 has no MSR bitmap for L2: all accesses are intercepted. */
	u64 l1_has_no_bitmap;
	/* L1 says that its bitmap has not changed, which takes eVMCS. */
	u64 l1_bitmap_is_clean;
	/* L2 does not exit to L1 after it has accessed the MSR. */
	u64 l2_stays;
	/* L2 exits to L1 without having accessed the MSR. */
	u64 l2_leaves;

	/* Why L2 has exited to L1 */
	u64 l1_exit_reason;
};

static struct guest_orders guest_orders;

static inline void l2_guest_code(void)
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
static inline void l1_enter_l2(u64 l2_rsp, bool *launched)
{
	u64 controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	bool has_bitmap = controls & CPU_BASED_USE_MSR_BITMAPS;

	/* Controls that have been written are not clean, even if the same. */
	if (has_bitmap == !!READ_ONCE(guest_orders.l1_has_no_bitmap))
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			controls ^ CPU_BASED_USE_MSR_BITMAPS);
	vmwrite(GUEST_RIP, (u64)l2_guest_code);
	vmwrite(GUEST_RSP, l2_rsp);

	GUEST_ASSERT(!(*launched ? vmresume() : vmlaunch()));
	*launched = true;
	WRITE_ONCE(guest_orders.l1_exit_reason, vmreadz(VM_EXIT_REASON));
}

/* @vmx1 is NULL where there is one L2 only. */
static inline void l1_guest_code(struct vmx_pages *vmx0, struct vmx_pages *vmx1)
{
	struct vmx_pages *vmx[NR_L2S] = { vmx0, vmx1 };
	bool launched[NR_L2S] = {};
	u64 l2_rsp[NR_L2S];
	unsigned int i;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx0));
	for (i = 0; i < NR_L2S && vmx[i]; i++) {
		GUEST_ASSERT(load_vmcs(vmx[i]));
		prepare_vmcs(vmx[i], l2_guest_code);
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
		l1_enter_l2(l2_rsp[i], &launched[i]);
	}
}

struct nested_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct guest_msr_work *work;
	struct guest_orders *orders;
	/* L1's bitmaps, one for each L2 */
	u8 *bitmaps[NR_L2S];
};

/* With @nr_l2s VMCSs, whose addresses are the arguments of L1's code */
static inline void create_nested_vm(struct nested_vm *n, void *l1_code,
				    unsigned int nr_l2s, gva_t vmx[NR_L2S])
{
	unsigned int i;

	n->vm = vm_create_with_one_vcpu(&n->vcpu, l1_code);
	vm_init_msr_test(n->vm);
	vm_enable_cap(n->vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	n->work = vcpu_msr_work(n->vcpu, 0);
	n->orders = addr_gva2hva(n->vm, (gva_t)&guest_orders);

	for (i = 0; i < NR_L2S; i++) {
		vmx[i] = 0;
		if (i < nr_l2s)
			n->bitmaps[i] = vcpu_alloc_vmx(n->vm, &vmx[i])->msr_hva;
	}
	vcpu_args_set(n->vcpu, 2, vmx[0], vmx[1]);
}

/* The bit of a read or write in an MSR bitmap, 4 times 1024 bytes large */
static inline void l1_intercept(struct nested_vm *n, u32 index, bool write,
				bool on)
{
	u32 bit = (write ? 0x4000 : 0) + (index >= 0xc0000000 ? 0x2000 : 0) +
		  (index & 0x1fff);
	u8 *bitmap = n->bitmaps[n->orders->l2];

	if (on)
		bitmap[bit / 8] |= 1 << (bit % 8);
	else
		bitmap[bit / 8] &= ~(1 << (bit % 8));
}

static inline u64 run_to_stage(struct nested_vm *n, u64 *nr_user, u32 *reason)
{
	return vcpu_run_msr_work(n->vcpu, n->work, MSR_VALUE_FROM_USER, nr_user,
				 reason);
}

static inline void expect_stage(struct nested_vm *n, u64 expected)
{
	u64 nr_user = 0, stage;
	u32 reason = 0;

	stage = run_to_stage(n, &nr_user, &reason);
	TEST_ASSERT(stage == expected && !nr_user,
		    "Stage 0x%lx after %lu exits to userspace, expected 0x%lx after none",
		    stage, nr_user, expected);
}

/* From L1, which has reported SYNC_IN_L1, into L2, which has yet to access. */
static inline void enter_l2(struct nested_vm *n, u32 index, bool write,
			    u64 value)
{
	n->work->index = index;
	n->work->write = write;
	n->work->value = value;
	expect_stage(n, SYNC_IN_L2);
}

static inline void expect_l1_exit_reason(struct nested_vm *n, u64 expected)
{
	TEST_ASSERT(n->orders->l1_exit_reason == expected,
		    "L2 exited to L1 for reason %lu, expected %lu",
		    n->orders->l1_exit_reason, expected);
}

/* Back to L1 without an access. */
static inline void leave_l2(struct nested_vm *n)
{
	n->orders->l2_leaves = true;
	expect_stage(n, SYNC_IN_L1);
	n->orders->l2_leaves = false;
	expect_l1_exit_reason(n, EXIT_REASON_VMCALL);
}

/*
 * Have L2 access what enter_l2() was told to.  Afterwards it is back where it
 * was if it is to stay in L2 and L1 does not intercept the access, else in L1.
 */
static inline struct msr_outcome access_in_l2(struct nested_vm *n)
{
	u64 nr_user_once = 0, nr_user = 0, stage;
	struct msr_outcome outcome = {};

	stage = run_to_stage(n, &nr_user_once, &outcome.reason);
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
	stage = run_to_stage(n, &nr_user, &outcome.reason);
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
		expect_stage(n, SYNC_IN_L2);
	} else {
		expect_stage(n, SYNC_IN_L1);
		expect_l1_exit_reason(n, EXIT_REASON_VMCALL);
	}
	return outcome;
}

/* The filter's denial is why userspace has dealt with it, and what it said. */
static inline void assert_nested_outcome(const struct msr_outcome *outcome,
					 enum msr_handler expected, u32 index,
					 bool write, const char *when)
{
	assert_msr_handler(outcome, expected, index, write, when);
	if (expected != MSR_BY_USER)
		return;

	TEST_ASSERT(outcome->reason == KVM_MSR_EXIT_REASON_FILTER,
		    "%s: KVM_MSR_EXIT_REASON %u, expected %u", when,
		    outcome->reason, KVM_MSR_EXIT_REASON_FILTER);
	TEST_ASSERT(write || outcome->read == MSR_VALUE_FROM_USER,
		    "%s: L2 read 0x%lx, expected 0x%lx", when, outcome->read,
		    MSR_VALUE_FROM_USER);
}

#endif /* SELFTEST_KVM_MSR_FILTER_NESTED_H */
