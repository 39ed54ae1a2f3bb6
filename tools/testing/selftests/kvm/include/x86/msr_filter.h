/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for tests of MSR filters: have a guest, L1 or L2, access an MSR, and
 * find out who handled the access.
 *
 * A guest can't tell an MSR that KVM passes through from an MSR that KVM
 * emulates, and neither can a test that only looks at values.  Hence, count
 * VM-Exits.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_H
#define SELFTEST_KVM_MSR_FILTER_H

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define FILTER_R	KVM_MSR_FILTER_READ
#define FILTER_W	KVM_MSR_FILTER_WRITE
#define FILTER_RW	(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

#define MSR_RANGE(_flags, _base, _nmsrs, _bitmap)			\
	{ .flags = (_flags), .base = (_base), .nmsrs = (_nmsrs),	\
	  .bitmap = (_bitmap) }

/* Canonical, and different from each other and from what CPUs start with. */
#define MSR_VALUE_WRITTEN	0x00005a5a00001000ul
#define MSR_VALUE_IN_MSR	0x00001234abcd0000ul
#define MSR_VALUE_FROM_USER	0x0000777711112222ul

/* An index that no MSR has */
#define MSR_NONE		0x4f000000

enum msr_handler {
	MSR_BY_CPU,	/* The MSR is passed through. */
	MSR_BY_KVM,	/* KVM emulates the access. */
	MSR_BY_USER,	/* KVM exits to userspace. */
	MSR_BY_GP,	/* KVM injects a #GP. */
	MSR_BY_L1,	/* L2's access exits to L1. */
};

extern const char * const msr_handler_names[];

/*
 * The number of accesses that decide who handles an access, and the number of
 * VM-Exits for other reasons, e.g. host interrupts, to tolerate meanwhile.
 */
#define MSR_NR_ACCESSES		16
#define MSR_MAX_NOISE		(MSR_NR_ACCESSES / 2)

/* What a vCPU does, and what it sees.  Indexed by the vCPU's ID. */
struct guest_msr_access {
	u32 index;
	u32 write;
	u64 value;
	u64 read;
	u64 nr_gps;
} __aligned(64);

#define MSR_MAX_VCPUS	8
extern struct guest_msr_access guest_msr_access[MSR_MAX_VCPUS];

struct msr_outcome {
	enum msr_handler handler;
	/* KVM_MSR_EXIT_REASON_*, if userspace handled the access */
	u32 reason;
	/* The accesses ended in a #GP, no matter who injected it. */
	bool gp;
	u64 exits;
	u64 read;
};

/* Stages that the guest reports by GUEST_SYNC() */
#define SYNC_ACCESSED_ONCE	0x51
#define SYNC_ACCESSED_ALL	0x52
#define SYNC_IN_L1		0x53
#define SYNC_IN_L2		0x54

/* Guest code: access the vCPU's MSR once, then MSR_NR_ACCESSES times. */
void guest_access_msr(struct guest_msr_access *access);
/* The same, forever.  The argument is set by vcpu_init_msr_access(). */
void guest_access_msrs(struct guest_msr_access *access);
void vcpu_init_msr_access(struct kvm_vcpu *vcpu);

extern const struct kvm_msr_filter msr_filter_none;

static inline u32 msr_filter_flag(bool write)
{
	return write ? FILTER_W : FILTER_R;
}

static inline void vm_set_msr_filter(struct kvm_vm *vm,
				     const struct kvm_msr_filter *filter)
{
	struct kvm_msr_filter copy = *filter;

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &copy);
}

/* Deny @flags of a single MSR.  If @flags is 0, remove the filter. */
void vm_deny_msr(struct kvm_vm *vm, u32 index, u32 flags);

/* What the API documents for an access that no KVM intercept is involved in. */
bool msr_filter_allows(const struct kvm_msr_filter *filter, u32 index,
		       bool write);

/*
 * Run the vCPU until it reports a stage, which is returned.  Complete accesses
 * that exit to userspace: drop writes, return MSR_VALUE_FROM_USER for reads.
 */
u64 vcpu_run_to_stage(struct kvm_vcpu *vcpu, u64 *nr_user, u32 *reason);

struct msr_outcome vcpu_access_msr(struct kvm_vcpu *vcpu, u32 index, bool write,
				   u64 value);
struct msr_outcome vcpu_expect_msr_handler(struct kvm_vcpu *vcpu, u32 index,
					   bool write, u64 value,
					   enum msr_handler expected,
					   const char *when);

/* Expose SPEC_CTRL to the guest.  Fails if the host CPU doesn't have it. */
bool vcpu_enable_spec_ctrl(struct kvm_vcpu *vcpu);

/*
 * Nested guests: one L1, on either vendor's CPU, and up to NR_L2S L2s, each of
 * which has a VMCS or VMCB, and an MSR bitmap of its own.
 */
#define NR_L2S	2

enum l1_hyperv {
	L1_NO_HYPERV,
	L1_HYPERV,		/* L1 uses an enlightened VMCS or VMCB, */
	L1_HYPERV_MSR_BITMAP,	/* and an enlightened MSR bitmap as well. */
};

/* Guest memory that L1, L2 and the host share */
struct l1_guest {
	/* Set up before the vCPU runs for the first time */
	gva_t l2s[NR_L2S];
	gva_t hyperv;
	u64 use_hyperv;
	u64 is_svm;
	u64 bitmap_gpa;
	/* Called in L1 to change the VMCS, which is loaded, or VMCB of an L2 */
	void *setup_l2;

	/* Which L2 to run.  Don't run any but access MSRs in L1 if negative. */
	s64 l2;
	/* L2 exits to L1 instead of accessing MSRs. */
	u64 leave_l2;
	/* L1 doesn't use its MSR bitmap. */
	u64 ignore_bitmap;
	/* An enlightened L1 tells KVM that the bitmap has changed. */
	u64 bitmap_changed;

	/* The reason of the last exit from L2 to L1 */
	u64 exit_reason;
};

extern struct l1_guest l1_guest;

struct nested_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct l1_guest *l1;
	bool l2_is_active;
	bool has_spec_ctrl;
};

bool kvm_has_nested_hyperv(void);

/*
 * Start L1, with exits for denied accesses, and run it until it is about to
 * enter L2.  If @nr_l2s is 0, L1 doesn't enable VMX or SVM.  With Hyper-V, there
 * can be one L2 only.  @setup_l2 is NULL, or a function that takes a struct
 * vmx_pages * or a struct vmcb *, see above.
 */
void nested_vm_create(struct nested_vm *n, int nr_l2s, enum l1_hyperv hyperv,
		      void *setup_l2);

/*
 * Enter L2 @nr unless L2 is active.  If @nr is negative, let L1 access MSRs, in
 * which case L2 must not be active.
 */
void nested_vm_enter(struct nested_vm *n, int nr);
/* Exit from L2, which must be active, to L1. */
void nested_vm_leave(struct nested_vm *n);

/* L1 intercepts an access of L2 @nr. */
void nested_vm_intercept(struct nested_vm *n, int nr, u32 index, bool write,
			 bool intercept);

/* Delete or restore the memory that holds L1's MSR bitmaps, all zeroes. */
void nested_vm_delete_bitmaps(struct nested_vm *n);
void nested_vm_add_bitmaps(struct nested_vm *n);

/*
 * Save the vCPU, and restore it in a copy of the VM.  Call @before_load and
 * @before_run, if not NULL, at the respective time.
 */
void nested_vm_save_restore(struct nested_vm *n,
			    void (*before_load)(struct nested_vm *n),
			    void (*before_run)(struct nested_vm *n));

/* Access an MSR, in L2 or in L1, whichever is active, and assert who handles it. */
struct msr_outcome nested_vm_access(struct nested_vm *n, u32 index, bool write,
				    u64 value);
void nested_vm_expect(struct nested_vm *n, u32 index, bool write, u64 value,
		      enum msr_handler expected, const char *when);

#endif /* SELFTEST_KVM_MSR_FILTER_H */
