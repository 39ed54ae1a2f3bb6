// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify who deals with a guest's MSR accesses while userspace changes the MSR
 * filter: KVM if it wants to intercept the access, whatever the filter allows;
 * else userspace, or a #GP, if the filter denies it; else nobody but the CPU.
 */
#include "msr_filter.h"

#define APIC_BASE_EXTD		0x400
#define MSR_X2APIC_ID		0x802
#define MSR_X2APIC_TASKPRI	0x808

/* An index that no MSR has */
#define MSR_NONE		0x4f000000

static void guest_code(struct guest_msr_work *work)
{
	guest_msr_code(work);
}

static void guest_x2apic_code(struct guest_msr_work *work)
{
	wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE) | APIC_BASE_EXTD);
	guest_msr_code(work);
}

enum msr_present {
	ALWAYS,
	/* A guest that may write SPEC_CTRL */
	IF_SPEC_CTRL,
	/* A CPU that has PRED_CMD */
	IF_PRED_CMD,
};

/* The MSRs, and who deals with accesses that the filter allows. */
static const struct test_msr {
	u32 index;
	const char *name;
	enum msr_handler reader;
	enum msr_handler writer;
	enum msr_present present;
	/* Reads don't return what was written. */
	bool is_volatile;
	/* The bits that the MSR has, or the value to write if it is volatile */
	u64 bits;
	/* Passed through with KVM_X86_DISABLE_EXITS_CSTATE */
	bool is_cstate;
} test_msrs[] = {
#define PASSED_THROUGH(_name)						\
	{ MSR_##_name, #_name, MSR_BY_CPU, MSR_BY_CPU, .bits = -1ull }
	/* KVM passes these through, reads and writes. */
	PASSED_THROUGH(FS_BASE),
	PASSED_THROUGH(GS_BASE),
	PASSED_THROUGH(KERNEL_GS_BASE),
	{ MSR_IA32_SYSENTER_CS, "SYSENTER_CS", MSR_BY_CPU, MSR_BY_CPU,
	  .bits = 0xffffffff },
	PASSED_THROUGH(IA32_SYSENTER_ESP),
	PASSED_THROUGH(IA32_SYSENTER_EIP),
	/* These as well, once the guest has made use of them. */
	{ MSR_IA32_SPEC_CTRL, "SPEC_CTRL", MSR_BY_CPU, MSR_BY_CPU,
	  IF_SPEC_CTRL, .is_volatile = true, .bits = 1 },
	{ MSR_IA32_PRED_CMD, "PRED_CMD", MSR_BY_GP, MSR_BY_CPU,
	  IF_PRED_CMD, .is_volatile = true, .bits = 1 },
	/* KVM passes reads through, but intercepts writes. */
	{ MSR_IA32_TSC, "TSC", MSR_BY_CPU, MSR_BY_KVM, .is_volatile = true },
	/* KVM does not know these, unless exits for C-states are disabled. */
#define CSTATE(_name)							\
	{ MSR_##_name, #_name, MSR_BY_GP, MSR_BY_GP, .is_volatile = true, \
	  .is_cstate = true }
	CSTATE(CORE_C1_RES),
	CSTATE(CORE_C3_RESIDENCY),
	CSTATE(CORE_C6_RESIDENCY),
	CSTATE(CORE_C7_RESIDENCY),
	/* KVM never passes these through. */
	{ MSR_LSTAR, "LSTAR", MSR_BY_KVM, MSR_BY_KVM, .bits = -1ull },
	{ MSR_IA32_CR_PAT, "PAT", MSR_BY_KVM, MSR_BY_KVM,
	  .bits = 0x0000000000070707ull },
	/* One of those that only AMD's CPUs have intercept bits for */
	{ MSR_K7_HWCR, "HWCR", MSR_BY_KVM, MSR_BY_KVM, .is_volatile = true,
	  .bits = BIT_ULL(18) },
	/* KVM does not know this one at all, and no CPU has bits for it. */
	{ MSR_NONE, "none", MSR_BY_GP, MSR_BY_GP, .is_volatile = true },
};

#define NR_MSRS		ARRAY_SIZE(test_msrs)

static u8 deny[KVM_MSR_FILTER_MAX_BITMAP_SIZE];
static u8 allow[KVM_MSR_FILTER_MAX_BITMAP_SIZE] = {
	[0 ... KVM_MSR_FILTER_MAX_BITMAP_SIZE - 1] = 0xff,
};

/* All but one, SYSENTER_ESP and GS_BASE, of ranges that begin as below */
#define LOW_BASE	0x171
#define HIGH_BASE	0xc00000f3
static u8 allow_but_sysenter_esp[8] = { 0xef, 0xff, 0xff, 0xff,
					0xff, 0xff, 0xff, 0xff };
static u8 deny_but_second[8] = { 0x02 };
static u8 allow_but_gs_base[8] = { 0xff, 0xbf, 0xff, 0xff,
				   0xff, 0xff, 0xff, 0xff };

/* MSRs below and from 0xc0000000 on, as many as a range takes */
#define NR_MAX		(KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8)
#define LOW(flags, bitmap)	MSR_RANGE(flags, 0, NR_MAX, bitmap)
#define HIGH(flags, bitmap)	MSR_RANGE(flags, 0xc0000000, NR_MAX, bitmap)
#define ONE(flags, msr, bitmap)	MSR_RANGE(flags, msr, 1, bitmap)
#define UNUSED			MSR_RANGE(FILTER_RW, 0x5f000000, 64, deny)

#define ALLOW(_name, _ranges...)					\
	{ _name, { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,		\
		   .ranges = { _ranges } } }
#define DENY(_name, _ranges...)						\
	{ _name, { .flags = KVM_MSR_FILTER_DEFAULT_DENY,		\
		   .ranges = { _ranges } } }

/* The filters, in the order in which they are installed. */
static const struct test_filter {
	const char *name;
	struct kvm_msr_filter filter;
} test_filters[] = {
	ALLOW("FS_BASE denied", ONE(FILTER_RW, MSR_FS_BASE, deny)),
	ALLOW("FS_BASE allowed", ONE(FILTER_RW, MSR_FS_BASE, allow)),
	ALLOW("FS_BASE reads denied", ONE(FILTER_R, MSR_FS_BASE, deny)),
	ALLOW("FS_BASE writes denied", ONE(FILTER_W, MSR_FS_BASE, deny)),
	ALLOW("filter removed"),
	ALLOW("low ones denied", LOW(FILTER_RW, deny)),
	ALLOW("high ones denied", HIGH(FILTER_RW, deny)),
	ALLOW("low reads, high writes denied",
	      LOW(FILTER_R, deny), HIGH(FILTER_W, deny)),
	ALLOW("low writes, high reads denied",
	      LOW(FILTER_W, deny), HIGH(FILTER_R, deny)),
	DENY("all denied but reads of FS_BASE",
	     ONE(FILTER_R, MSR_FS_BASE, allow)),
	DENY("all denied but writes of FS_BASE",
	     ONE(FILTER_W, MSR_FS_BASE, allow)),
	DENY("denied, but low and high allowed",
	     LOW(FILTER_RW, allow), HIGH(FILTER_RW, allow)),
	DENY("all denied", ONE(FILTER_RW, MSR_NONE, deny)),
	ALLOW("filter removed again"),
	/* What is next to a range must not be taken for a part of it. */
	ALLOW("ranges that end before MSRs",
	      MSR_RANGE(FILTER_RW, MSR_IA32_TSC - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SPEC_CTRL - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_CS - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C3_RESIDENCY - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C1_RES - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_LSTAR - 1, 1, deny),
	      MSR_RANGE(FILTER_RW, MSR_FS_BASE - 3, 3, deny)),
	ALLOW("ranges that end with MSRs",
	      MSR_RANGE(FILTER_RW, MSR_IA32_TSC - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SPEC_CTRL - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_CS - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C3_RESIDENCY - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C1_RES - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_LSTAR - 1, 2, deny),
	      MSR_RANGE(FILTER_RW, MSR_FS_BASE - 2, 3, deny)),
	ALLOW("ranges that begin with MSRs",
	      MSR_RANGE(FILTER_RW, MSR_IA32_TSC, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_PRED_CMD, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_EIP, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C7_RESIDENCY, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C1_RES, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_KERNEL_GS_BASE, 3, deny)),
	ALLOW("ranges that begin after MSRs",
	      MSR_RANGE(FILTER_RW, MSR_IA32_TSC + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_PRED_CMD + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_EIP + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C7_RESIDENCY + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_CORE_C1_RES + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_KERNEL_GS_BASE + 1, 3, deny)),
	ALLOW("one bit in the midst of a range",
	      MSR_RANGE(FILTER_RW, LOW_BASE, 64, allow_but_sysenter_esp),
	      MSR_RANGE(FILTER_RW, HIGH_BASE, 64, allow_but_gs_base)),
	/* The first range that matches decides. */
	ALLOW("allowed, then denied",
	      ONE(FILTER_RW, MSR_GS_BASE, allow),
	      ONE(FILTER_RW, MSR_IA32_SYSENTER_EIP, allow),
	      LOW(FILTER_RW, deny), HIGH(FILTER_RW, deny)),
	DENY("denied, then allowed",
	     ONE(FILTER_RW, MSR_GS_BASE, deny),
	     ONE(FILTER_RW, MSR_IA32_SYSENTER_EIP, deny),
	     LOW(FILTER_RW, allow), HIGH(FILTER_RW, allow)),
	DENY("reads denied, then all allowed",
	     HIGH(FILTER_R, deny), LOW(FILTER_R, deny),
	     HIGH(FILTER_RW, allow), LOW(FILTER_RW, allow)),
	ALLOW("writes allowed, then all denied",
	      HIGH(FILTER_W, allow), LOW(FILTER_W, allow),
	      HIGH(FILTER_RW, deny), LOW(FILTER_RW, deny)),
	ALLOW("writes of HWCR denied", ONE(FILTER_W, MSR_K7_HWCR, deny)),
	/* Where CPUs have no intercept bits: none of these changes what has. */
	ALLOW("no range covers none",
	      MSR_RANGE(FILTER_RW, MSR_NONE - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_NONE + 1, 3, deny)),
	ALLOW("reads of none denied", ONE(FILTER_R, MSR_NONE, deny)),
	ALLOW("writes of none denied, then allowed",
	      ONE(FILTER_W, MSR_NONE, deny), ONE(FILTER_RW, MSR_NONE, allow)),
	ALLOW("none allowed, others denied",
	      MSR_RANGE(FILTER_RW, MSR_NONE - 1, 64, deny_but_second)),
	ALLOW("none denied by the last of 16",
	      [0 ... 14] = UNUSED, [15] = ONE(FILTER_RW, MSR_NONE, deny)),
	/* As many ranges as a filter takes. */
	ALLOW("16 ranges for other MSRs", [0 ... 15] = UNUSED),
	ALLOW("the last of 16 denies",
	      [0 ... 14] = UNUSED,
	      [15] = MSR_RANGE(FILTER_RW, MSR_FS_BASE, 3, deny)),
	DENY("the last of 16 allows",
	     [0 ... 14] = UNUSED, [15] = LOW(FILTER_RW, allow)),
	ALLOW("filter removed at last"),
};

/* The filters up to this one will do for a second look. */
#define NR_FEW_FILTERS	13

static const struct test_filter no_filter = {
	.name = "no filter",
	.filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
};

/* One VM, with one vCPU that runs, and what is special about it. */
struct test_vm {
	const char *name;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	bool has_spec_ctrl;
	bool has_pred_cmd;
	bool cstate_exits_disabled;
	/* KVM_MSR_EXIT_REASON_* for which KVM exits to userspace */
	u64 exit_reasons;
	unsigned int nr_filters;
};

static bool is_present(const struct test_vm *t, const struct test_msr *msr)
{
	switch (msr->present) {
	case IF_SPEC_CTRL:
		return t->has_spec_ctrl;
	case IF_PRED_CMD:
		return t->has_pred_cmd;
	default:
		return true;
	}
}

static struct msr_outcome expected_outcome(const struct test_vm *t,
					   const struct test_msr *msr,
					   bool write,
					   const struct kvm_msr_filter *filter)
{
	struct msr_outcome expected = {
		.handler = write ? msr->writer : msr->reader,
	};

	if (msr->is_cstate && t->cstate_exits_disabled && !write)
		expected.handler = MSR_BY_CPU;

	if (!msr_filter_allows(filter, msr->index, write)) {
		expected.handler = MSR_BY_GP;
		expected.reason = KVM_MSR_EXIT_REASON_FILTER;
	} else if (msr->reader == MSR_BY_GP && msr->writer == MSR_BY_GP) {
		/* MSRs that KVM does not know */
		expected.reason = KVM_MSR_EXIT_REASON_UNKNOWN;
	} else {
		expected.reason = KVM_MSR_EXIT_REASON_INVAL;
	}

	if (expected.handler == MSR_BY_GP && (expected.reason & t->exit_reasons))
		expected.handler = MSR_BY_USER;
	if (expected.handler != MSR_BY_USER)
		expected.reason = 0;
	return expected;
}

/* The value has to come from, or end up at, whoever dealt with the access. */
static void check_value(struct kvm_vcpu *vcpu, const struct test_msr *msr,
			bool write, const struct msr_outcome *outcome)
{
	u64 value, expected = MSR_VALUE_IN_MSR;

	if (outcome->gp)
		return;

	if (write) {
		if (msr->is_volatile)
			return;
		value = vcpu_get_msr(vcpu, msr->index);
		if (outcome->handler != MSR_BY_USER)
			expected = MSR_VALUE_WRITTEN;
	} else {
		if (msr->is_volatile && outcome->handler != MSR_BY_USER)
			return;
		value = outcome->read;
		if (outcome->handler == MSR_BY_USER)
			expected = MSR_VALUE_FROM_USER;
	}

	expected &= msr->is_volatile ? -1ull : msr->bits;
	TEST_ASSERT(value == expected, "%s %s 0x%lx, expected 0x%lx",
		    msr->name, write ? "holds" : "reads as",
		    value, expected);
}

static enum msr_handler test_access(const struct test_vm *t,
				    const struct test_msr *msr, bool write,
				    const struct test_filter *filter)
{
	struct msr_outcome outcome, expected;
	u64 value = MSR_VALUE_WRITTEN & msr->bits;
	u64 mask = msr->bits;
	char when[128];

	if (msr->is_volatile) {
		value = msr->bits;
		mask = -1ull;
		if (msr->index == MSR_IA32_TSC)
			value = vcpu_get_msr(t->vcpu, msr->index);
	} else {
		vcpu_set_msr(t->vcpu, msr->index, MSR_VALUE_IN_MSR & mask);
	}

	outcome = vcpu_access_msr(t->vcpu, 0, msr->index, write, value, mask);
	expected = expected_outcome(t, msr, write, &filter->filter);

	snprintf(when, sizeof(when), "%s, \"%s\", %s", t->name, filter->name,
		 msr->name);
	assert_msr_handler(&outcome, expected.handler, msr->index, write, when);
	TEST_ASSERT(outcome.reason == expected.reason,
		    "%s: KVM_MSR_EXIT_REASON %u, expected %u", when,
		    outcome.reason, expected.reason);
	/* However long the filter is, an access takes one exit at most. */
	TEST_ASSERT(outcome.exits <= MSR_NR_ACCESSES + MSR_MAX_NOISE,
		    "%s: KVM counts %lu VM-Exits for %u %ss", when,
		    outcome.exits, MSR_NR_ACCESSES, write ? "write" : "read");
	check_value(t->vcpu, msr, write, &outcome);
	return outcome.handler;
}

/* Access every MSR; a line of output says who dealt with that. */
static void test_all_msrs(const struct test_vm *t,
			  const struct test_filter *filter)
{
	static const char letters[] = {
		[MSR_BY_CPU] = '.',
		[MSR_BY_KVM] = 'K',
		[MSR_BY_USER] = 'U',
		[MSR_BY_GP] = '#',
	};
	enum msr_handler reader, writer;
	unsigned int i;

	for (i = 0; i < NR_MSRS; i++) {
		if (!is_present(t, &test_msrs[i])) {
			printf(" --");
			continue;
		}
		reader = test_access(t, &test_msrs[i], false, filter);
		writer = test_access(t, &test_msrs[i], true, filter);
		printf(" %c%c", letters[reader], letters[writer]);
	}
	printf("  %s\n", filter->name);
}

static void print_head(const char *name)
{
	unsigned int i;

	printf("%s\nreads and writes of", name);
	for (i = 0; i < NR_MSRS; i++)
		printf(" %s", test_msrs[i].name);
	printf("\ndealt with by: . the CPU, K KVM, U userspace, # a #GP\n");
}

/*
 * From here to the end of a VM, a filter after the other.  Now and then replace
 * another filter, all of which is denied and not allowed or vice versa, before
 * a vCPU has taken notice of it: it is the last one that counts.
 */
static void test_filters_in_turn(const struct test_vm *t)
{
	const struct kvm_msr_filter_range unused = UNUSED;
	struct kvm_msr_filter opposite;
	unsigned int i, j;

	for (i = 0; i < t->nr_filters; i++) {
		if (i % 3 == 1) {
			opposite = test_filters[i].filter;
			opposite.flags ^= KVM_MSR_FILTER_DEFAULT_DENY;
			if (!opposite.ranges[0].nmsrs)
				opposite.ranges[0] = unused;
			for (j = 0; j < KVM_MSR_FILTER_MAX_RANGES; j++)
				opposite.ranges[j].bitmap =
					opposite.ranges[j].bitmap == deny ?
					allow : deny;
			vm_set_msr_filter(t->vm, &opposite);
		}
		vm_set_msr_filter(t->vm, &test_filters[i].filter);
		test_all_msrs(t, &test_filters[i]);
	}
}

/* Deny reads of each MSR alone, then writes alone: no slot may be missed. */
static void test_msrs_in_turn(const struct test_vm *t, bool cstate_only)
{
	struct test_filter filter = { "" };
	char name[64];
	unsigned int i;

	filter.name = name;
	for (i = 0; i < 2 * NR_MSRS; i++) {
		const struct test_msr *msr = &test_msrs[i / 2];

		if (!is_present(t, msr) || (cstate_only && !msr->is_cstate))
			continue;

		filter.filter.ranges[0] = (struct kvm_msr_filter_range)
			ONE(msr_filter_flag(i % 2), msr->index, deny);
		snprintf(name, sizeof(name), "%s of %s denied",
			 i % 2 ? "writes" : "reads", msr->name);
		vm_set_msr_filter(t->vm, &filter.filter);
		test_all_msrs(t, &filter);
	}
	vm_set_msr_filter(t->vm, &msr_filter_none);
	test_all_msrs(t, &no_filter);
}

static void add_vcpu(struct test_vm *t, void *code)
{
	t->vcpu = vm_vcpu_add(t->vm, 0, code);
	vcpu_init_msr_work(t->vcpu, 0);
}

static void create_vm(struct test_vm *t)
{
	t->vm = vm_create(1);
	vm_init_msr_test(t->vm);
	if (t->exit_reasons)
		vm_enable_cap(t->vm, KVM_CAP_X86_USER_SPACE_MSR,
			      t->exit_reasons);
	if (t->cstate_exits_disabled)
		vm_enable_cap(t->vm, KVM_CAP_X86_DISABLE_EXITS,
			      KVM_X86_DISABLE_EXITS_CSTATE);
}

/* The vCPU is older than the first filter. */
static void test_all_filters(void)
{
	struct test_vm t = {
		.name = "denied accesses exit",
		.exit_reasons = KVM_MSR_EXIT_REASON_FILTER,
		.nr_filters = ARRAY_SIZE(test_filters),
	};

	create_vm(&t);
	add_vcpu(&t, guest_code);
	t.has_pred_cmd = kvm_cpu_has(X86_FEATURE_SPEC_CTRL);
	if (!t.has_pred_cmd)
		skip_by_name("PRED_CMD: the CPU does not have it");
	t.has_spec_ctrl = vcpu_enable_spec_ctrl(t.vcpu);
	if (!t.has_spec_ctrl)
		skip_by_name("SPEC_CTRL: the CPU does not have it");
	/* See test_spec_ctrl() for what holds before the first such write. */
	else
		vcpu_set_msr(t.vcpu, MSR_IA32_SPEC_CTRL, 1);

	print_head(t.name);
	test_all_msrs(&t, &no_filter);
	test_filters_in_turn(&t);
	test_msrs_in_turn(&t, false);
	kvm_vm_free(t.vm);
}

/* A vCPU that is created when a filter is in force, and passes more through. */
static void test_cstate_msrs(void)
{
	static const struct test_filter all_denied =
		DENY("vCPU created with all denied",
		     ONE(FILTER_RW, MSR_NONE, deny));
	struct test_vm t = {
		.name = "exits for C-states disabled",
		.cstate_exits_disabled = true,
		.exit_reasons = KVM_MSR_EXIT_REASON_FILTER,
		.nr_filters = ARRAY_SIZE(test_filters),
	};

	if (!(kvm_check_cap(KVM_CAP_X86_DISABLE_EXITS) &
	      KVM_X86_DISABLE_EXITS_CSTATE)) {
		skip_by_name("C-state MSRs passed through: KVM can't");
		return;
	}

	create_vm(&t);
	vm_set_msr_filter(t.vm, &all_denied.filter);
	add_vcpu(&t, guest_code);

	print_head(t.name);
	test_all_msrs(&t, &all_denied);
	vm_set_msr_filter(t.vm, &msr_filter_none);
	test_all_msrs(&t, &no_filter);
	test_filters_in_turn(&t);
	test_msrs_in_turn(&t, true);
	kvm_vm_free(t.vm);
}

/* Who gets what KVM does not want to emulate is up to the capability. */
static void test_exit_reasons(void)
{
	struct test_vm t = {
		.name = "denied accesses cause a #GP",
		.nr_filters = NR_FEW_FILTERS,
	};

	create_vm(&t);
	add_vcpu(&t, guest_code);
	print_head(t.name);
	test_all_msrs(&t, &no_filter);
	test_filters_in_turn(&t);
	kvm_vm_free(t.vm);

	t.name = "denied and unknown MSRs exit";
	t.exit_reasons = KVM_MSR_EXIT_REASON_FILTER |
			 KVM_MSR_EXIT_REASON_UNKNOWN |
			 KVM_MSR_EXIT_REASON_INVAL;
	create_vm(&t);
	add_vcpu(&t, guest_code);
	print_head(t.name);
	test_all_msrs(&t, &no_filter);
	test_filters_in_turn(&t);
	kvm_vm_free(t.vm);
}

static void expect_handlers(struct kvm_vcpu *vcpu, u32 index, u64 value,
			    enum msr_handler reader, enum msr_handler writer,
			    const char *when)
{
	vcpu_expect_msr_handler(vcpu, 0, index, false, 0, reader, when);
	vcpu_expect_msr_handler(vcpu, 0, index, true, value, writer, when);
	printf("%s: ok\n", when);
}

/*
 * KVM passes SPEC_CTRL through from the first write on that is not of 0, here
 * the guest's.
 */
static void test_spec_ctrl_first_write(struct kvm_vcpu *vcpu)
{
	const u32 msr = MSR_IA32_SPEC_CTRL;
	struct msr_outcome outcome;

	outcome = vcpu_access_msr(vcpu, 0, msr, false, 0, -1ul);
	if (outcome.gp && !kvm_cpu_has(X86_FEATURE_SPEC_CTRL)) {
		skip_by_name("first write of SPEC_CTRL: CPUID alone does not do it");
		return;
	}

	expect_handlers(vcpu, msr, 0, MSR_BY_KVM, MSR_BY_KVM,
			"SPEC_CTRL not used yet");
	vm_deny_msr(vcpu->vm, msr, FILTER_W);
	expect_handlers(vcpu, msr, 1, MSR_BY_KVM, MSR_BY_USER,
			"SPEC_CTRL not used yet, writes denied");
	vm_deny_msr(vcpu->vm, msr, 0);
	expect_handlers(vcpu, msr, 0, MSR_BY_KVM, MSR_BY_KVM,
			"SPEC_CTRL not used yet, filter removed");

	/* From the guest's first write on, reads are left to the filter. */
	vm_deny_msr(vcpu->vm, msr, FILTER_R);
	vcpu_expect_msr_handler(vcpu, 0, msr, true, 1, MSR_BY_CPU,
				"SPEC_CTRL used, reads denied");
	expect_handlers(vcpu, msr, 1, MSR_BY_USER, MSR_BY_CPU,
			"SPEC_CTRL used, reads denied");
	vm_deny_msr(vcpu->vm, msr, FILTER_W);
	expect_handlers(vcpu, msr, 1, MSR_BY_CPU, MSR_BY_USER,
			"SPEC_CTRL used, writes denied");
	vm_deny_msr(vcpu->vm, msr, 0);
	expect_handlers(vcpu, msr, 1, MSR_BY_CPU, MSR_BY_CPU,
			"SPEC_CTRL used, filter removed");
}

static void test_spec_ctrl(void)
{
	const u32 msr = MSR_IA32_SPEC_CTRL;
	struct test_vm t = {
		.exit_reasons = KVM_MSR_EXIT_REASON_FILTER,
	};
	bool has_spec_ctrl;

	create_vm(&t);
	add_vcpu(&t, guest_code);
	has_spec_ctrl = vcpu_enable_spec_ctrl(t.vcpu);
	if (has_spec_ctrl)
		test_spec_ctrl_first_write(t.vcpu);
	else
		skip_by_name("first write of SPEC_CTRL: the CPU does not have it");
	kvm_vm_free(t.vm);
	if (!has_spec_ctrl)
		return;

	/* Userspace's first write, e.g. for a VM that has been migrated */
	create_vm(&t);
	vm_deny_msr(t.vm, msr, FILTER_RW);
	add_vcpu(&t, guest_code);
	vcpu_enable_spec_ctrl(t.vcpu);
	vcpu_set_msr(t.vcpu, msr, 1);
	expect_handlers(t.vcpu, msr, 1, MSR_BY_USER, MSR_BY_USER,
			"SPEC_CTRL set by userspace, denied");
	vm_deny_msr(t.vm, msr, 0);
	expect_handlers(t.vcpu, msr, 1, MSR_BY_CPU, MSR_BY_CPU,
			"SPEC_CTRL set by userspace, filter removed");
	kvm_vm_free(t.vm);
}

/* Setting the CPUID has KVM look at what it passes through again. */
static void test_cpuid(void)
{
	struct test_vm t = {
		.exit_reasons = KVM_MSR_EXIT_REASON_FILTER,
	};

	create_vm(&t);
	vm_deny_msr(t.vm, MSR_GS_BASE, FILTER_RW);
	add_vcpu(&t, guest_code);
	vcpu_clear_cpuid_feature(t.vcpu, X86_FEATURE_X2APIC);
	expect_handlers(t.vcpu, MSR_GS_BASE, 0, MSR_BY_USER, MSR_BY_USER,
			"denied, CPUID changed");
	/* The same once more, as later kernels refuse changes after a run. */
	vcpu_clear_cpuid_feature(t.vcpu, X86_FEATURE_X2APIC);
	expect_handlers(t.vcpu, MSR_GS_BASE, 0, MSR_BY_USER, MSR_BY_USER,
			"denied, CPUID set again");
	vm_deny_msr(t.vm, MSR_GS_BASE, FILTER_R);
	vcpu_clear_cpuid_feature(t.vcpu, X86_FEATURE_X2APIC);
	expect_handlers(t.vcpu, MSR_GS_BASE, 0, MSR_BY_USER, MSR_BY_CPU,
			"reads denied, CPUID set again");
	vm_deny_msr(t.vm, MSR_GS_BASE, 0);
	vcpu_clear_cpuid_feature(t.vcpu, X86_FEATURE_X2APIC);
	expect_handlers(t.vcpu, MSR_GS_BASE, 0, MSR_BY_CPU, MSR_BY_CPU,
			"filter removed, CPUID set again");
	expect_handlers(t.vcpu, MSR_LSTAR, 0, MSR_BY_KVM, MSR_BY_KVM,
			"LSTAR, CPUID set again");
	kvm_vm_free(t.vm);
}

/* The MSRs of the x2APIC can't be filtered, those around them can. */
static void test_x2apic(void)
{
	static const struct kvm_msr_filter filters[] = {
		{ .flags = KVM_MSR_FILTER_DEFAULT_DENY,
		  .ranges = { ONE(FILTER_RW, MSR_NONE, deny) } },
		{ .ranges = { MSR_RANGE(FILTER_RW, 0x7ff, 0x102, deny) } },
		{ .ranges = { ONE(FILTER_RW, 0x7ff, deny),
			      MSR_RANGE(FILTER_RW, 0x800, 0x100, deny),
			      ONE(FILTER_RW, 0x900, deny) } },
	};
	static const struct {
		u32 index;
		bool write;
		u64 value;
	} accesses[] = {
		{ 0x800 },
		{ MSR_X2APIC_ID },
		{ MSR_X2APIC_TASKPRI },
		{ MSR_X2APIC_TASKPRI, true, 0x50 },
		{ 0x8ff },
	};
	struct msr_outcome before[ARRAY_SIZE(accesses)], outcome;
	struct test_vm t = {
		.exit_reasons = KVM_MSR_EXIT_REASON_FILTER,
	};
	unsigned int i, j;
	u64 base;

	create_vm(&t);
	add_vcpu(&t, guest_x2apic_code);

	for (j = 0; j < ARRAY_SIZE(accesses); j++) {
		before[j] = vcpu_access_msr(t.vcpu, 0, accesses[j].index,
					    accesses[j].write,
					    accesses[j].value, -1ull);
		TEST_ASSERT(before[j].handler != MSR_BY_USER,
			    "No filter yet, and MSR 0x%x exits to userspace",
			    accesses[j].index);
	}
	TEST_ASSERT(!before[1].gp && !before[2].gp && !before[3].gp,
		    "#GP: %d on reads of the ID, %d and %d on reads and writes of TASKPRI, expected none",
		    before[1].gp, before[2].gp, before[3].gp);

	for (i = 0; i < ARRAY_SIZE(filters); i++) {
		vm_set_msr_filter(t.vm, &filters[i]);
		for (j = 0; j < ARRAY_SIZE(accesses); j++) {
			outcome = vcpu_access_msr(t.vcpu, 0, accesses[j].index,
						  accesses[j].write,
						  accesses[j].value, -1ull);
			assert_msr_handler(&outcome, before[j].handler,
					   accesses[j].index, accesses[j].write,
					   "x2APIC denied");
		}
		outcome = vcpu_access_msr(t.vcpu, 0, MSR_X2APIC_TASKPRI, false,
					  0, -1ull);
		TEST_ASSERT(outcome.read == 0x50,
			    "TASKPRI reads as 0x%lx, expected 0x50",
			    outcome.read);
		vcpu_expect_msr_handler(t.vcpu, 0, 0x7ff, false, 0, MSR_BY_USER,
					"below the x2APIC, denied");
		vcpu_expect_msr_handler(t.vcpu, 0, 0x900, false, 0, MSR_BY_USER,
					"above the x2APIC, denied");
	}
	vm_set_msr_filter(t.vm, &msr_filter_none);
	vcpu_expect_msr_handler(t.vcpu, 0, 0x7ff, false, 0, MSR_BY_GP,
				"below the x2APIC, filter removed");

	/* An APIC that is no x2APIC any more has no MSRs. */
	base = vcpu_get_msr(t.vcpu, MSR_IA32_APICBASE);
	vcpu_set_msr(t.vcpu, MSR_IA32_APICBASE, base & ~APIC_BASE_EXTD);
	vcpu_expect_msr_handler(t.vcpu, 0, MSR_X2APIC_TASKPRI, false, 0,
				MSR_BY_GP, "x2APIC left");
	printf("x2APIC denied, dealt with by %s (ID), %s (TASKPRI): ok\n",
	       msr_handler_names[before[1].handler],
	       msr_handler_names[before[2].handler]);
	kvm_vm_free(t.vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	/* Which MSRs are passed through is known of VMX only. */
	TEST_REQUIRE(this_cpu_has(X86_FEATURE_VMX));

	/* Line by line, should the test hang. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	test_all_filters();
	test_cstate_msrs();
	test_exit_reasons();
	test_spec_ctrl();
	test_cpuid();
	test_x2apic();

	/*
	 * KVM passes these through only to a guest with AMX, i.e. with memory
	 * for its state, from the first write of XFD on.
	 */
	if (kvm_cpu_has(X86_FEATURE_XFD))
		skip_by_name("XFD, XFD_ERR: the test does not use AMX");
	else
		skip_by_name("XFD, XFD_ERR: the CPU does not have them");
	report_skipped();
	return 0;
}
