/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of MSR filters for nested guests have in common: a VM with an
 * L1 and an L2 that report where they are, scenarios that run in processes of
 * their own, and saving and restoring L2.
 *
 * And, for VMX, an L1 that enters an L2, or accesses an MSR itself, as the host
 * asks for, and finding out who deals with L2's accesses.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_NESTED_H
#define SELFTEST_KVM_MSR_FILTER_NESTED_H

#include "msr_filter.h"
#include "vmx.h"

/* Stages that L1 and L2 report, next to those of msr_filter.h */
#define SYNC_IN_L1	0x70
#define SYNC_IN_L2	0x71

/* On VMX, as many as L1 has VMCSs */
#define NR_L2S		2

struct nested_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct guest_msr_work *work;
	/* What a vCPU needs besides what the library does, or NULL */
	void (*init_vcpu)(struct kvm_vcpu *vcpu);

	/* VMX only: guest_orders, and L1's bitmaps, one for each L2 */
	struct guest_orders *orders;
	u8 *bitmaps[NR_L2S];
};

/* With one vCPU, and with exits to userspace for what the filter denies */
void nested_vm_create(struct nested_vm *n, void *l1_code);

/* Run to the next stage, which is returned; userspace completes accesses. */
u64 nested_run_to_stage(struct nested_vm *n, u64 *nr_user, u32 *reason);
/* That stage is @expected, and userspace has had nothing to do. */
void nested_expect_stage(struct nested_vm *n, u64 expected);

/* The filter's denial is why userspace has dealt with it, and what it said. */
void nested_assert_outcome(const struct msr_outcome *outcome,
			   enum msr_handler expected, u32 index, bool write,
			   const char *when);

/* When userspace installs the filter that counts in the end */
enum nested_filter_time {
	BEFORE_SAVE,
	BEFORE_LOAD,
	BEFORE_RUN,
};

/*
 * Save and restore the vCPU, and deny @flags of @index.  If @copy, replace the
 * VM by a copy: as in a migration, the filter is not part of the state, so that
 * where it is installed before the state is saved, the copy has it from the
 * beginning.
 */
void nested_save_restore(struct nested_vm *n, bool copy, u32 index, u32 flags,
			 enum nested_filter_time when);

struct l2_msr {
	u32 index;
	const char *name;
	u64 value;
};

/* Run it in a process of its own.  Returns whether it has failed. */
bool nested_run_scenario(void (*scenario)(const struct l2_msr *msr, bool write),
			 const struct l2_msr *msr, bool write,
			 const char *name);

/* The rest is for VMX. */

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

extern struct guest_orders guest_orders;

/* In the guest.  An L1 of one's own prepares VMCSs for guest_l2_code(). */
void guest_l2_code(void);
void guest_enter_l2(u64 l2_rsp, bool *launched);

/*
 * With @nr_l2s VMCSs, whose addresses are the arguments of L1's code, which is
 * the default one if @l1_code is NULL.  That reports SYNC_IN_L1 before it does
 * anything, and each time that it is back from L2.
 */
void nested_vm_create_vmx(struct nested_vm *n, void *l1_code,
			  unsigned int nr_l2s, gva_t vmx[NR_L2S]);

/* May L1 have these secondary controls, and a TPR shadow? */
bool nested_l1_may_have(u64 controls);

/* Whether L1 intercepts an access, by the bitmap for the L2 of its orders */
void nested_l1_intercept(struct nested_vm *n, u32 index, bool write, bool on);

/* From L1, which has reported SYNC_IN_L1, into L2, which has yet to access. */
void nested_enter_l2(struct nested_vm *n, u32 index, bool write, u64 value);

/* Back to L1 without an access. */
void nested_leave_l2(struct nested_vm *n);

/*
 * Have L2 access what nested_enter_l2() was told to.  Afterwards it is back
 * where it was if it is to stay in L2 and L1 does not intercept the access, else
 * in L1.
 */
struct msr_outcome nested_access_in_l2(struct nested_vm *n);

#endif /* SELFTEST_KVM_MSR_FILTER_NESTED_H */
