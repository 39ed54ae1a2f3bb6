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

static const char * const msr_handler_names[] = {
	[MSR_BY_CPU] = "the CPU",
	[MSR_BY_KVM] = "KVM",
	[MSR_BY_USER] = "userspace",
	[MSR_BY_GP] = "a #GP",
	[MSR_BY_L1] = "L1",
};

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

static struct guest_msr_work guest_msr_work[MSR_MAX_VCPUS];

/* #GPs, whichever vCPU they hit: those that access one by one run by turns. */
static u64 guest_nr_gps;

static inline void guest_gp_handler(struct ex_regs *regs)
{
	const u8 *insn = (const u8 *)regs->rip;

	/* RDMSR and WRMSR, both of two bytes */
	GUEST_ASSERT(insn[0] == 0x0f && (insn[1] == 0x32 || insn[1] == 0x30));

	guest_nr_gps++;
	regs->rip += 2;
}

static inline void guest_access_msr(struct guest_msr_work *work, bool first)
{
	u64 value;

	if (work->write) {
		wrmsr(work->index, work->value);
		return;
	}

	value = rdmsr(work->index);
	if (first)
		work->read = value;
	work->differing |= value ^ work->read;
}

/*
 * The first access is not counted, as the entry before it may come with exits
 * of its own, e.g. for pages that are not yet mapped.
 */
static inline void guest_do_msr_work(struct guest_msr_work *work)
{
	int i;

	guest_nr_gps = 0;
	work->differing = 0;
	guest_access_msr(work, true);
	GUEST_SYNC(SYNC_ACCESSED_ONCE);

	for (i = 0; i < MSR_NR_ACCESSES; i++)
		guest_access_msr(work, false);
	work->nr_gps = guest_nr_gps;
	GUEST_SYNC(SYNC_ACCESSED_ALL);
}

static inline void guest_msr_code(struct guest_msr_work *work)
{
	for (;;)
		guest_do_msr_work(work);
}

/* What vCPU @nr is to do, where the host can access it. */
static inline struct guest_msr_work *vcpu_msr_work(struct kvm_vcpu *vcpu,
						   unsigned int nr)
{
	TEST_ASSERT(nr < MSR_MAX_VCPUS, "vCPU %u, of %u at most", nr,
		    MSR_MAX_VCPUS);
	return addr_gva2hva(vcpu->vm, (gva_t)&guest_msr_work[nr]);
}

/* Once for a VM */
static inline void vm_init_msr_test(struct kvm_vm *vm)
{
	vm_install_exception_handler(vm, GP_VECTOR, guest_gp_handler);
}

/* For vCPU @nr, which gets its work as the argument of its code. */
static inline void vcpu_init_msr_work(struct kvm_vcpu *vcpu, unsigned int nr)
{
	vcpu_args_set(vcpu, 1, &guest_msr_work[nr]);
}

/* Does the API say that @filter allows the access?  NULL is for no filter. */
static inline bool msr_filter_allows(const struct kvm_msr_filter *filter,
				     u32 index, bool write)
{
	u32 flag = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
	unsigned int i;

	if (!filter || (index >= 0x800 && index <= 0x8ff))
		return true;

	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		const struct kvm_msr_filter_range *range = &filter->ranges[i];
		u64 bit = (u64)index - range->base;

		if (index >= range->base && bit < range->nmsrs &&
		    (range->flags & flag))
			return range->bitmap[bit / 8] & (1 << (bit % 8));
	}
	return !(filter->flags & KVM_MSR_FILTER_DEFAULT_DENY);
}

static inline void vm_set_msr_filter(struct kvm_vm *vm,
				     const struct kvm_msr_filter *filter)
{
	struct kvm_msr_filter copy = *filter;

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &copy);
}

static const struct kvm_msr_filter msr_filter_none = {
	.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
};

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

/* Check an exit to userspace, and complete the access. */
static inline void handle_msr_exit(struct kvm_run *run, u32 index, bool write,
				   u64 value, u64 from_user)
{
	u32 expected = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;

	TEST_ASSERT(run->exit_reason == expected,
		    "Exit reason %u on a %s of MSR 0x%x, expected %u",
		    run->exit_reason, write ? "write" : "read", index,
		    expected);
	TEST_ASSERT(run->msr.index == index,
		    "Userspace got MSR 0x%x, the guest accessed 0x%x",
		    run->msr.index, index);
	TEST_ASSERT(!write || run->msr.data == value,
		    "Userspace got 0x%llx for MSR 0x%x, the guest wrote 0x%lx",
		    run->msr.data, index, value);
	if (!write)
		run->msr.data = from_user;
	run->msr.error = 0;
}

/*
 * Run the vCPU until the guest reports a stage, which is returned; count the
 * accesses that end up in userspace on the way.
 */
static inline u64 vcpu_run_msr_work(struct kvm_vcpu *vcpu,
				    struct guest_msr_work *work, u64 from_user,
				    u64 *nr_user, u32 *reason)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;
	u64 cmd;

	for (;;) {
		vcpu_run(vcpu);
		if (run->exit_reason == KVM_EXIT_IO)
			break;

		handle_msr_exit(run, work->index, work->write, work->value,
				from_user);
		TEST_ASSERT(!*nr_user || run->msr.reason == *reason,
			    "Exit for reason %u, the one before was for %u",
			    run->msr.reason, *reason);
		*reason = run->msr.reason;
		++*nr_user;
	}

	cmd = get_ucall(vcpu, &uc);
	if (cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(cmd == UCALL_SYNC, "Unexpected ucall %lu", cmd);
	return uc.args[1];
}

/* Whoever dealt with an access, it is all of them, not some. */
static inline enum msr_handler msr_handler_by_counts(u64 exits, u64 nr_user,
						     u64 nr_gps, u32 index)
{
	TEST_ASSERT(!nr_user || nr_user == MSR_NR_ACCESSES,
		    "%lu exits to userspace for %u accesses to MSR 0x%x",
		    nr_user, MSR_NR_ACCESSES, index);
	TEST_ASSERT(!nr_gps || nr_gps == MSR_NR_ACCESSES + 1,
		    "%lu #GPs on %u accesses to MSR 0x%x",
		    nr_gps, MSR_NR_ACCESSES + 1, index);
	TEST_ASSERT(exits <= MSR_MAX_NOISE || exits >= MSR_NR_ACCESSES,
		    "%lu VM-Exits for %u accesses to MSR 0x%x, expected all or nothing",
		    exits, MSR_NR_ACCESSES, index);

	if (nr_user)
		return MSR_BY_USER;
	if (exits <= MSR_MAX_NOISE)
		return MSR_BY_CPU;
	return nr_gps ? MSR_BY_GP : MSR_BY_KVM;
}

/*
 * Have vCPU @nr access an MSR and see who deals with it.  Userspace deals with
 * writes by dropping them, and with reads by MSR_VALUE_FROM_USER & @mask.
 */
static inline struct msr_outcome vcpu_access_msr(struct kvm_vcpu *vcpu,
						 unsigned int nr, u32 index,
						 bool write, u64 value,
						 u64 mask)
{
	struct guest_msr_work *work = vcpu_msr_work(vcpu, nr);
	u64 nr_user_once = 0, nr_user = 0, stage;
	struct msr_outcome outcome = {};

	work->index = index;
	work->write = write;
	work->value = value;

	stage = vcpu_run_msr_work(vcpu, work, MSR_VALUE_FROM_USER & mask,
				  &nr_user_once, &outcome.reason);
	TEST_ASSERT(stage == SYNC_ACCESSED_ONCE, "Stage 0x%lx, expected 0x%x",
		    stage, SYNC_ACCESSED_ONCE);

	outcome.exits = vcpu_get_stat(vcpu, exits);
	stage = vcpu_run_msr_work(vcpu, work, MSR_VALUE_FROM_USER & mask,
				  &nr_user, &outcome.reason);
	outcome.exits = vcpu_get_stat(vcpu, exits) - outcome.exits;
	TEST_ASSERT(stage == SYNC_ACCESSED_ALL, "Stage 0x%lx, expected 0x%x",
		    stage, SYNC_ACCESSED_ALL);

	outcome.handler = msr_handler_by_counts(outcome.exits, nr_user,
						work->nr_gps, index);
	outcome.gp = !!work->nr_gps;
	outcome.read = work->read;

	/* The very first access after the entry is dealt with no differently. */
	TEST_ASSERT(nr_user_once == (outcome.handler == MSR_BY_USER),
		    "The first %s of MSR 0x%x %s to userspace, later ones are dealt with by %s",
		    write ? "write" : "read", index,
		    nr_user_once ? "went" : "did not go",
		    msr_handler_names[outcome.handler]);
	return outcome;
}

static inline void assert_msr_handler(const struct msr_outcome *outcome,
				      enum msr_handler expected, u32 index,
				      bool write, const char *when)
{
	TEST_ASSERT(outcome->handler == expected,
		    "%s: %ss of MSR 0x%x are dealt with by %s (%lu VM-Exits for %u of them), expected %s",
		    when, write ? "write" : "read", index,
		    msr_handler_names[outcome->handler],
		    outcome->exits, MSR_NR_ACCESSES,
		    msr_handler_names[expected]);
}

/* Access and assert, where no more than the handler is of interest. */
static inline struct msr_outcome
vcpu_expect_msr_handler(struct kvm_vcpu *vcpu, unsigned int nr, u32 index,
			bool write, u64 value, enum msr_handler expected,
			const char *when)
{
	struct msr_outcome outcome;

	outcome = vcpu_access_msr(vcpu, nr, index, write, value, -1ull);
	assert_msr_handler(&outcome, expected, index, write, when);
	return outcome;
}

/* Does KVM let the guest write SPEC_CTRL?  It asks the CPU. */
static inline bool enable_spec_ctrl(struct kvm_vcpu *vcpu)
{
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_SPEC_CTRL);
	return _vcpu_set_msr(vcpu, MSR_IA32_SPEC_CTRL, 0) == 1;
}

/* What can't be tested here is named, and counted. */
static unsigned int nr_skipped_by_name;

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
