/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of MSR filters have in common: make a guest access an MSR, and
 * find out who deals with the access.
 *
 * The guest can't tell an MSR that is passed through from one that KVM
 * intercepts and emulates, and neither can a test that looks at values only.
 * What differs is the number of VM-Exits, so count them.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_H
#define SELFTEST_KVM_MSR_FILTER_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

/*
 * VM-Exits that are not due to the accesses, e.g. for the host's interrupts,
 * are few: tolerate less than one per two accesses.
 */
#define MSR_NR_ACCESSES		16
#define MSR_MAX_NOISE		(MSR_NR_ACCESSES / 2)

#define MSR_MAX_VCPUS		8

#define FILTER_R	KVM_MSR_FILTER_READ
#define FILTER_W	KVM_MSR_FILTER_WRITE
#define FILTER_RW	(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

#define MSR_RANGE(_flags, _base, _nmsrs, _bitmap)	\
	{						\
		.flags = (_flags),			\
		.nmsrs = (_nmsrs),			\
		.base = (_base),			\
		.bitmap = (_bitmap),			\
	}

/* Canonical, and all different, so that no value is taken for another. */
#define MSR_VALUE_WRITTEN	0x00005a5a00001000ul
#define MSR_VALUE_IN_MSR	0x00001234abcd0000ul
#define MSR_VALUE_FROM_USER	0x0000777711112222ul

/* Stages that the guest reports. */
#define SYNC_ACCESSED_ONCE	0x51
#define SYNC_ACCESSED_ALL	0x52

enum msr_handler {
	/* Nobody but the CPU: KVM passes the MSR through. */
	MSR_BY_CPU,
	/* KVM emulates the access. */
	MSR_BY_KVM,
	/* KVM exits to userspace. */
	MSR_BY_USER,
	/* KVM injects a #GP. */
	MSR_BY_GP,
	/* The access is L2's, and L1 intercepts it. */
	MSR_BY_L1,
};

extern const char * const msr_handler_names[];

/* What the guest is to do, and below what came of it.  One for each vCPU. */
struct guest_msr_work {
	u32 index;
	u32 write;
	u64 value;

	/* The first value that was read, and the bits in which others differ */
	u64 read;
	u64 differing;
	u64 nr_gps;
} __aligned(64);

extern struct guest_msr_work guest_msr_work[MSR_MAX_VCPUS];

/* What became of a number of accesses, all alike. */
struct msr_outcome {
	enum msr_handler handler;
	/* Did the accesses end in a #GP, even if nobody but the CPU did it? */
	bool gp;
	/* KVM_MSR_EXIT_REASON_*, where userspace dealt with it */
	u32 reason;
	u64 exits;
	/* The value that the guest has read */
	u64 read;
};

/* In the guest: do the work once, or over and over again. */
void guest_do_msr_work(struct guest_msr_work *work);
void guest_msr_code(struct guest_msr_work *work);

/* Once for a VM */
void vm_init_msr_test(struct kvm_vm *vm);
/* For vCPU @nr, which gets its work as the argument of its code. */
void vcpu_init_msr_work(struct kvm_vcpu *vcpu, unsigned int nr);
/* What vCPU @nr is to do, where the host can access it. */
struct guest_msr_work *vcpu_msr_work(struct kvm_vcpu *vcpu, unsigned int nr);

/* Does KVM let the guest write SPEC_CTRL?  It asks the CPU. */
bool vcpu_enable_spec_ctrl(struct kvm_vcpu *vcpu);

extern const struct kvm_msr_filter msr_filter_none;

static inline void vm_set_msr_filter(struct kvm_vm *vm,
				     const struct kvm_msr_filter *filter)
{
	struct kvm_msr_filter copy = *filter;

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &copy);
}

static inline u32 msr_filter_flag(bool write)
{
	return write ? FILTER_W : FILTER_R;
}

/* Deny @flags of an MSR and nothing else; no flags are for no filter. */
void vm_deny_msr(struct kvm_vm *vm, u32 index, u32 flags);

/* Does the API say that @filter allows the access?  NULL is for no filter. */
bool msr_filter_allows(const struct kvm_msr_filter *filter, u32 index,
		       bool write);

/*
 * Run the vCPU until the guest reports a stage, which is returned; count the
 * accesses that end up in userspace on the way.
 */
u64 vcpu_run_msr_work(struct kvm_vcpu *vcpu, struct guest_msr_work *work,
		      u64 from_user, u64 *nr_user, u32 *reason);

/* Whoever dealt with an access, it is all of them, not some. */
enum msr_handler msr_handler_by_counts(u64 exits, u64 nr_user, u64 nr_gps,
				       u32 index);

/*
 * Have vCPU @nr access an MSR and see who deals with it.  Userspace deals with
 * writes by dropping them, and with reads by MSR_VALUE_FROM_USER & @mask.
 */
struct msr_outcome vcpu_access_msr(struct kvm_vcpu *vcpu, unsigned int nr,
				   u32 index, bool write, u64 value, u64 mask);

void assert_msr_handler(const struct msr_outcome *outcome,
			enum msr_handler expected, u32 index, bool write,
			const char *when);

/* Access and assert, where no more than the handler is of interest. */
struct msr_outcome vcpu_expect_msr_handler(struct kvm_vcpu *vcpu,
					   unsigned int nr, u32 index,
					   bool write, u64 value,
					   enum msr_handler expected,
					   const char *when);

/* What can't be tested here is named, and counted. */
extern unsigned int nr_skipped_by_name;

#define skip_by_name(fmt, ...)						\
do {									\
	printf("skipped: " fmt "\n", ##__VA_ARGS__);			\
	nr_skipped_by_name++;						\
} while (0)

static inline void report_skipped(void)
{
	printf("skipped by name: %u\n", nr_skipped_by_name);
}

#endif /* SELFTEST_KVM_MSR_FILTER_H */
