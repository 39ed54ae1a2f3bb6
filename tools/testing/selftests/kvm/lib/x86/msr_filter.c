// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who deals with a guest's MSR accesses: the guest's part, and the host's,
 * which counts VM-Exits, exits to userspace and #GPs.
 */
#include "msr_filter.h"

const char * const msr_handler_names[] = {
	[MSR_BY_CPU] = "the CPU",
	[MSR_BY_KVM] = "KVM",
	[MSR_BY_USER] = "userspace",
	[MSR_BY_GP] = "a #GP",
	[MSR_BY_L1] = "L1",
};

struct guest_msr_work guest_msr_work[MSR_MAX_VCPUS];

/* #GPs, whichever vCPU they hit: those that access one by one run by turns. */
static u64 guest_nr_gps;

static void guest_gp_handler(struct ex_regs *regs)
{
	const u8 *insn = (const u8 *)regs->rip;

	/* RDMSR and WRMSR, both of two bytes */
	GUEST_ASSERT(insn[0] == 0x0f && (insn[1] == 0x32 || insn[1] == 0x30));

	guest_nr_gps++;
	regs->rip += 2;
}

static void guest_access_msr(struct guest_msr_work *work, bool first)
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
void guest_do_msr_work(struct guest_msr_work *work)
{
	int i;

	WRITE_ONCE(guest_nr_gps, 0);
	work->differing = 0;
	guest_access_msr(work, true);
	GUEST_SYNC(SYNC_ACCESSED_ONCE);

	for (i = 0; i < MSR_NR_ACCESSES; i++)
		guest_access_msr(work, false);
	work->nr_gps = READ_ONCE(guest_nr_gps);
	GUEST_SYNC(SYNC_ACCESSED_ALL);
}

void guest_msr_code(struct guest_msr_work *work)
{
	for (;;)
		guest_do_msr_work(work);
}

struct guest_msr_work *vcpu_msr_work(struct kvm_vcpu *vcpu, unsigned int nr)
{
	TEST_ASSERT(nr < MSR_MAX_VCPUS, "vCPU %u, of %u at most", nr,
		    MSR_MAX_VCPUS);
	return addr_gva2hva(vcpu->vm, (gva_t)&guest_msr_work[nr]);
}

void vm_init_msr_test(struct kvm_vm *vm)
{
	vm_install_exception_handler(vm, GP_VECTOR, guest_gp_handler);
}

void vcpu_init_msr_work(struct kvm_vcpu *vcpu, unsigned int nr)
{
	vcpu_args_set(vcpu, 1, &guest_msr_work[nr]);
}

bool msr_filter_allows(const struct kvm_msr_filter *filter, u32 index,
		       bool write)
{
	u32 flag = msr_filter_flag(write);
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

const struct kvm_msr_filter msr_filter_none = {
	.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
};

void vm_deny_msr(struct kvm_vm *vm, u32 index, u32 flags)
{
	/* KVM reads whole longs. */
	u8 deny[sizeof(long)] = {};
	struct kvm_msr_filter filter = {
		.ranges = { MSR_RANGE(flags, index, 1, deny) },
	};

	vm_set_msr_filter(vm, flags ? &filter : &msr_filter_none);
}

/* Check an exit to userspace, and complete the access. */
static void handle_msr_exit(struct kvm_run *run, u32 index, bool write,
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

u64 vcpu_run_msr_work(struct kvm_vcpu *vcpu, struct guest_msr_work *work,
		      u64 from_user, u64 *nr_user, u32 *reason)
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

enum msr_handler msr_handler_by_counts(u64 exits, u64 nr_user, u64 nr_gps,
				       u32 index)
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

struct msr_outcome vcpu_access_msr(struct kvm_vcpu *vcpu, unsigned int nr,
				   u32 index, bool write, u64 value, u64 mask)
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

void assert_msr_handler(const struct msr_outcome *outcome,
			enum msr_handler expected, u32 index, bool write,
			const char *when)
{
	TEST_ASSERT(outcome->handler == expected,
		    "%s: %ss of MSR 0x%x are dealt with by %s (%lu VM-Exits for %u of them), expected %s",
		    when, write ? "write" : "read", index,
		    msr_handler_names[outcome->handler],
		    outcome->exits, MSR_NR_ACCESSES,
		    msr_handler_names[expected]);
}

struct msr_outcome vcpu_expect_msr_handler(struct kvm_vcpu *vcpu,
					   unsigned int nr, u32 index,
					   bool write, u64 value,
					   enum msr_handler expected,
					   const char *when)
{
	struct msr_outcome outcome;

	outcome = vcpu_access_msr(vcpu, nr, index, write, value, -1ull);
	assert_msr_handler(&outcome, expected, index, write, when);
	return outcome;
}

bool vcpu_enable_spec_ctrl(struct kvm_vcpu *vcpu)
{
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_SPEC_CTRL);
	return _vcpu_set_msr(vcpu, MSR_IA32_SPEC_CTRL, 0) == 1;
}

unsigned int nr_skipped_by_name;
