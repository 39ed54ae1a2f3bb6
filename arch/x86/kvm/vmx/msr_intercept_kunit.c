// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for what makes a vCPU's MSR bitmap: vmx_set_intercept_for_msr() and
 * vmx_recalc_msr_intercepts(), which calls the former for all MSRs that userspace
 * can filter.  They are for kernels without vmx->shadow_msr_intercept, i.e. for 6.17
 * and later.
 *
 * Both are called on a vCPU that exists only here and never runs.  Each resulting
 * MSR bitmap, all of its 4 KiB, has to be equal to a model's that knows nothing
 * of how KVM gets there.  For reads and for writes of each MSR that is set anew:
 *
 *	MSR bitmap bit == KVM wants to intercept || denied by the MSR filter
 *
 * and all other bits stay as they were.  After any number of changes of filter and
 * vCPU, the bitmap has to be what a new vCPU gets.  A changed bit has to leave the
 * mark that has the bitmaps of L1 and L2 merged anew.
 *
 * Each test prints how many states it had and a checksum of all that KVM made of
 * them.  With the same seed these are the same for any two kvm-intel that do the
 * same.
 *
 * One test is about VMCS controls that KVM recalculates along with MSR intercepts.
 * It has VMCSs.  The others have none, i.e. must not get to VMREAD or VMWRITE.
 *
 * Not tested: the intercepts of x2APIC MSRs, which KVM sets when it likes, those of
 * a mediated PMU, and the mark for Hyper-V.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/stop_machine.h>

#include <asm/cpuid/api.h>
#include <asm/hypervisor.h>

#include "msr_kunit.h"
#include "nested.h"

static unsigned long long seed = 5101519;
module_param(seed, ullong, 0444);
MODULE_PARM_DESC(seed, "of what is random in the states that are tested");

#define RANDOM_STATES		1600
#define STATES_PER_VCPU		16
/* The first and last MSRs that have bits, their neighbours, and some others. */
static const u32 any_msrs[] = {
	0,
	MSR_IA32_TSC,
	0x3f,
	0x40,
	MSR_IA32_SYSENTER_EIP,
	0x7ff,
	0x800,
	0x8ff,
	0x900,
	0xfff,
	0x1000,
	0x1fff,
	0x2000,
	0x40000000,
	0xbfffffff,
	0xc0000000,
	MSR_KERNEL_GS_BASE,
	0xc00003ff,
	0xc0000400,
	0xc0001fff,
	0xc0002000,
	0xffffffff,
};

/* What vmx_recalc_msr_intercepts() makes of an MSR depends on. */
enum rule {
	ALWAYS_PASSED,
	CSTATE,
	APERFMPERF,
	PT,
	PT_RANGE,
	XFD,
	XFD_ERR,
	SPEC_CTRL,
	PRED_CMD,
	FLUSH_CMD,
	SHSTK,
	CET,
};

/* All MSRs that are its business, in any order. */
static const struct msr_rule {
	enum rule rule;
	u32 msr;
	int type;
	u32 nr;			/* of the address range */
} rules[] = {
	{ ALWAYS_PASSED, MSR_IA32_TSC, MSR_TYPE_R },
	{ ALWAYS_PASSED, MSR_FS_BASE, MSR_TYPE_RW },
	{ ALWAYS_PASSED, MSR_GS_BASE, MSR_TYPE_RW },
	{ ALWAYS_PASSED, MSR_KERNEL_GS_BASE, MSR_TYPE_RW },
	{ ALWAYS_PASSED, MSR_IA32_SYSENTER_CS, MSR_TYPE_RW },
	{ ALWAYS_PASSED, MSR_IA32_SYSENTER_ESP, MSR_TYPE_RW },
	{ ALWAYS_PASSED, MSR_IA32_SYSENTER_EIP, MSR_TYPE_RW },
	{ CSTATE, MSR_CORE_C1_RES, MSR_TYPE_R },
	{ CSTATE, MSR_CORE_C3_RESIDENCY, MSR_TYPE_R },
	{ CSTATE, MSR_CORE_C6_RESIDENCY, MSR_TYPE_R },
	{ CSTATE, MSR_CORE_C7_RESIDENCY, MSR_TYPE_R },
	{ APERFMPERF, MSR_IA32_APERF, MSR_TYPE_R },
	{ APERFMPERF, MSR_IA32_MPERF, MSR_TYPE_R },
	{ PT, MSR_IA32_RTIT_STATUS, MSR_TYPE_RW },
	{ PT, MSR_IA32_RTIT_OUTPUT_BASE, MSR_TYPE_RW },
	{ PT, MSR_IA32_RTIT_OUTPUT_MASK, MSR_TYPE_RW },
	{ PT, MSR_IA32_RTIT_CR3_MATCH, MSR_TYPE_RW },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR0_A, MSR_TYPE_RW, 0 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR0_B, MSR_TYPE_RW, 0 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR1_A, MSR_TYPE_RW, 1 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR1_B, MSR_TYPE_RW, 1 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR2_A, MSR_TYPE_RW, 2 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR2_B, MSR_TYPE_RW, 2 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR3_A, MSR_TYPE_RW, 3 },
	{ PT_RANGE, MSR_IA32_RTIT_ADDR3_B, MSR_TYPE_RW, 3 },
	{ XFD, MSR_IA32_XFD, MSR_TYPE_RW },
	{ XFD_ERR, MSR_IA32_XFD_ERR, MSR_TYPE_R },
	{ SPEC_CTRL, MSR_IA32_SPEC_CTRL, MSR_TYPE_RW },
	{ PRED_CMD, MSR_IA32_PRED_CMD, MSR_TYPE_W },
	{ FLUSH_CMD, MSR_IA32_FLUSH_CMD, MSR_TYPE_W },
	{ SHSTK, MSR_IA32_PL0_SSP, MSR_TYPE_RW },
	{ SHSTK, MSR_IA32_PL1_SSP, MSR_TYPE_RW },
	{ SHSTK, MSR_IA32_PL2_SSP, MSR_TYPE_RW },
	{ SHSTK, MSR_IA32_PL3_SSP, MSR_TYPE_RW },
	{ CET, MSR_IA32_U_CET, MSR_TYPE_RW },
	{ CET, MSR_IA32_S_CET, MSR_TYPE_RW },
};

enum verdict { LEAVE, PASS, INTERCEPT };

/* What makes one vCPU's intercepts other than another's. */
struct vcpu_state {
	bool cstate_in_guest;
	bool aperfmperf_in_guest;
	bool xfd_no_write_intercept;
	bool spec_ctrl;
	bool pt_enabled;
	u32 pt_ranges;
	bool xfd;
	u32 pred_cmd;		/* 0 or one of the three reasons to have it */
	bool flush_l1d;
	bool shstk;
	bool ibt;
};

struct msr_intercept_test {
	struct msr_kunit t;

	struct vcpu_state state;

	/* Which rules the KVM that is loaded has a reason to apply. */
	bool applies[CET + 1];
	bool mediated_pmu;

	unsigned int unchanged;
};

static struct msr_intercept_test *to_intercept_test(struct msr_kunit *t)
{
	return container_of(t, struct msr_intercept_test, t);
}

static void random_filter(struct msr_kunit *t)
{
	unsigned int ranges;

	new_filter(t, below(t, 2));
	for (ranges = below(t, MAX_RANGES + 1); ranges; ranges--)
		filter_add_random(t, rules[below(t, ARRAY_SIZE(rules))].msr);
	if (!below(t, 32))
		use_filter(t, NULL);
}

/* ---- One call of KVM, and what is to be said of it */

/* From the MSR bitmap @before; what is to become of it is up to the caller. */
static void prepare(struct msr_kunit *t, bool mark)
{
	memcpy(t->hw, t->before, PAGE_SIZE);
	memcpy(t->model, t->before, PAGE_SIZE);
	t->vmx->nested.force_msr_bitmap_recalc = mark;
	filter_done(t);

	/* That's a lot to compare, and unlikely to depend on the state. */
	if (!(t->states % 16))
		memcpy(t->vmx_before, t->vmx, sizeof(*t->vmx));
}

static void judge(struct msr_kunit *t, bool mark_before)
{
	struct msr_intercept_test *own = to_intercept_test(t);
	bool mark = t->vmx->nested.force_msr_bitmap_recalc;
	unsigned long off_model = 0, changed = 0;
	unsigned long *hw = t->hw;
	bool vcpu_kept = true;
	const char *why = NULL;
	u64 hash = t->checksum;
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(long); i++) {
		off_model |= hw[i] ^ t->model[i];
		changed |= hw[i] ^ t->before[i];
		hash = add_to_checksum(hash, hw[i]);
	}
	t->checksum = hash;

	if (!(t->states % 16)) {
		t->vmx_before->nested.force_msr_bitmap_recalc = mark;
		vcpu_kept = same(t->vmx, t->vmx_before, sizeof(*t->vmx));
	}

	if (changed && !mark)
		why = "a bit has changed without a mark";
	else if (mark_before && !mark)
		why = "a mark that was there is gone";
	else if (!vcpu_kept)
		why = "the vCPU has changed";

	if ((off_model || why) && t->wrong++ < MAX_REPORTS) {
		if (off_model)
			report(t, t->model, "the model");
		if (why)
			kunit_err(t->test, "state %u: %s\n", t->states, why);
	}
	own->unchanged += !changed;
	t->states++;
}

static void finish_counted(struct msr_kunit *t)
{
	unsigned int unchanged = to_intercept_test(t)->unchanged;
	char more[32];

	snprintf(more, sizeof(more), ", %u with no change", unchanged);
	finish(t, more);
	KUNIT_EXPECT_NE(t->test, unchanged, 0U);
}

/* ---- vmx_set_intercept_for_msr() */

static void try_set(struct msr_kunit *t, u32 msr, int type, bool set,
		    bool mark)
{
	unsigned int i;

	prepare(t, mark);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		if (type & types[i])
			assign_msr_bit(t->model, msr, types[i],
				       set || denied(t, msr, types[i]));

	vmx_kunit_set_intercept_for_msr(&t->vmx->vcpu, msr, type, set);
	judge(t, mark);
}

/* All that one call can depend on. */
static void set_each(struct msr_kunit *t)
{
	bool set, mark, bit[2], deny[2];
	unsigned int n, left, fill, i;
	int type;
	u32 msr;

	for (n = 0; ; n++) {
		left = n;
		type = 1 + pick(&left, MSR_TYPE_RW);
		set = pick(&left, 2);
		mark = pick(&left, 2);
		for (i = 0; i < ARRAY_SIZE(types); i++) {
			bit[i] = pick(&left, 2);
			deny[i] = pick(&left, 2);
		}
		fill = pick(&left, NR_FILLS);
		msr = any_msrs[pick(&left, ARRAY_SIZE(any_msrs))];
		if (left)
			break;

		memcpy(t->before, t->fills[fill], PAGE_SIZE);
		new_filter(t, below(t, 2));
		for (i = 0; i < ARRAY_SIZE(types); i++) {
			assign_msr_bit(t->before, msr, types[i], bit[i]);
			filter_add_uniform(t, msr, 1, types[i], !deny[i]);
		}
		try_set(t, msr, type, set, mark);
	}
}

static void msr_intercept_set(struct kunit *test)
{
	struct msr_kunit *t = test->priv;

	set_each(t);
	finish_counted(t);
}

/* What the ranges of a filter, their order and their borders do. */
static void msr_intercept_ranges(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	unsigned int n, left, layout;
	bool allow;
	u32 flags;
	u32 msr;

	for (n = 0; ; n++) {
		left = n;
		allow = pick(&left, 2);
		flags = 1 + pick(&left, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE);
		layout = pick(&left, NR_LAYOUTS);
		msr = any_msrs[pick(&left, ARRAY_SIZE(any_msrs))];
		if (left)
			break;
		/* No filter has ranges that begin below 0 or end past 2^32. */
		if (msr < 16 || msr > ~(u32)MAX_RANGE_MSRS)
			continue;

		memcpy(t->before, t->fills[n % NR_FILLS], PAGE_SIZE);
		new_filter(t, allow);
		filter_add_layout(t, layout, msr, flags);
		try_set(t, msr, MSR_TYPE_RW, false, false);
	}

	/* No filter, and filters without ranges. */
	for (n = 0; n < ARRAY_SIZE(any_msrs) * 3; n++) {
		memcpy(t->before, t->fills[RANDOM], PAGE_SIZE);
		if (n % 3)
			new_filter(t, n % 3 == 1);
		else
			use_filter(t, NULL);
		try_set(t, any_msrs[n / 3], MSR_TYPE_RW, false, false);
	}
	finish_counted(t);
}

/* ---- vmx_recalc_msr_intercepts() */

static void use_state(struct msr_kunit *t)
{
	const struct vcpu_state *state = &to_intercept_test(t)->state;
	struct kvm_vcpu *vcpu = &t->vmx->vcpu;

	t->kvm_vmx->kvm.arch.disabled_exits =
		(state->cstate_in_guest ? KVM_X86_DISABLE_EXITS_CSTATE : 0) |
		(state->aperfmperf_in_guest ? KVM_X86_DISABLE_EXITS_APERFMPERF : 0);
	vcpu->arch.xfd_no_write_intercept = state->xfd_no_write_intercept;
	t->vmx->spec_ctrl = state->spec_ctrl ? SPEC_CTRL_IBRS : 0;
	t->vmx->pt_desc.guest.ctl = state->pt_enabled ? RTIT_CTL_TRACEEN : 0;
	t->vmx->pt_desc.num_address_ranges = state->pt_ranges;

	guest_cpu_cap_change(vcpu, X86_FEATURE_XFD, state->xfd);
	guest_cpu_cap_change(vcpu, X86_FEATURE_SPEC_CTRL, state->pred_cmd == 1);
	guest_cpu_cap_change(vcpu, X86_FEATURE_AMD_IBPB, state->pred_cmd == 2);
	guest_cpu_cap_change(vcpu, X86_FEATURE_SBPB, state->pred_cmd == 3);
	guest_cpu_cap_change(vcpu, X86_FEATURE_FLUSH_L1D, state->flush_l1d);
	guest_cpu_cap_change(vcpu, X86_FEATURE_SHSTK, state->shstk);
	guest_cpu_cap_change(vcpu, X86_FEATURE_IBT, state->ibt);
}

static enum verdict pass_if(bool pass)
{
	return pass ? PASS : INTERCEPT;
}

/* What KVM wants of an MSR, whatever the filter says. */
static enum verdict want(struct msr_kunit *t, const struct msr_rule *rule)
{
	const struct msr_intercept_test *own = to_intercept_test(t);
	const struct vcpu_state *state = &own->state;

	if (!own->applies[rule->rule])
		return LEAVE;

	switch (rule->rule) {
	case ALWAYS_PASSED:
		return PASS;
	/* Intercepted since the vCPU was made, until there is a reason not to. */
	case CSTATE:
		return state->cstate_in_guest ? PASS : LEAVE;
	case APERFMPERF:
		return state->aperfmperf_in_guest ? PASS : LEAVE;
	case XFD:
		return state->xfd_no_write_intercept ? PASS : LEAVE;
	case PT_RANGE:
		if (rule->nr >= state->pt_ranges)
			return LEAVE;
		fallthrough;
	case PT:
		return pass_if(state->pt_enabled);
	case XFD_ERR:
		return pass_if(state->xfd);
	case SPEC_CTRL:
		return pass_if(state->spec_ctrl);
	case PRED_CMD:
		return pass_if(state->pred_cmd);
	case FLUSH_CMD:
		return pass_if(state->flush_l1d);
	case SHSTK:
		return pass_if(state->shstk);
	case CET:
		return pass_if(state->shstk || state->ibt);
	}
	return LEAVE;
}

static void try_recalc(struct msr_kunit *t, bool mark)
{
	const struct msr_rule *rule;
	unsigned int i, n;

	prepare(t, mark);
	for (rule = rules; rule < rules + ARRAY_SIZE(rules); rule++) {
		enum verdict verdict = want(t, rule);

		if (verdict == LEAVE)
			continue;
		for (i = 0; i < ARRAY_SIZE(types); i++)
			if (rule->type & types[i])
				assign_msr_bit(t->model, rule->msr, types[i],
					       verdict == INTERCEPT ||
					       denied(t, rule->msr, types[i]));
	}
	for (n = 0; n < nr_lbrs_passed(t); n++)
		for (i = 0; i < ARRAY_SIZE(types); i++)
			assign_msr_bit(t->model, lbr_msrs[n], types[i],
				       denied(t, lbr_msrs[n], types[i]));

	vmx_kunit_recalc_msr_intercepts(&t->vmx->vcpu);
	judge(t, mark);
}

/* Once more, all being as it is; the model says nothing else, but to be sure. */
static void try_again(struct msr_kunit *t)
{
	memcpy(t->before, t->hw, PAGE_SIZE);
	try_recalc(t, false);
	t->wrong += !same(t->hw, t->before, PAGE_SIZE);
}

/*
 * What KVM has a reason to look after depends on what it found the CPU to be
 * capable of, which only kvm.ko knows: see what becomes of a vCPU that has
 * nothing, but has all MSRs passed through.  For each rule this is the reads or
 * writes of one MSR; all else is not taken from KVM.
 */
static void probe(struct msr_kunit *t)
{
	struct msr_intercept_test *own = to_intercept_test(t);

	own->state = (struct vcpu_state) {};
	use_state(t);
	use_filter(t, NULL);
	memset(t->hw, 0, PAGE_SIZE);
	vmx_kunit_recalc_msr_intercepts(&t->vmx->vcpu);

	own->applies[ALWAYS_PASSED] = true;
	own->applies[CSTATE] = true;
	own->applies[APERFMPERF] = true;
	own->applies[XFD] = true;
	own->applies[SPEC_CTRL] = true;
	own->applies[PRED_CMD] = cpu_feature_enabled(X86_FEATURE_IBPB);
	own->applies[FLUSH_CMD] = cpu_feature_enabled(X86_FEATURE_FLUSH_L1D);
	own->applies[PT] = test_bit(msr_bit(MSR_IA32_RTIT_STATUS, MSR_TYPE_R), t->hw);
	own->applies[PT_RANGE] = own->applies[PT];
	own->applies[XFD_ERR] = test_bit(msr_bit(MSR_IA32_XFD_ERR, MSR_TYPE_R), t->hw);
	own->applies[SHSTK] = test_bit(msr_bit(MSR_IA32_PL0_SSP, MSR_TYPE_R), t->hw);
	own->applies[CET] = test_bit(msr_bit(MSR_IA32_U_CET, MSR_TYPE_R), t->hw);
	own->mediated_pmu = test_bit(msr_bit(MSR_CORE_PERF_GLOBAL_CTRL, MSR_TYPE_R),
				     t->hw);

	kunit_info(t->test, "PT %u, PRED_CMD %u, FLUSH_CMD %u, XFD_ERR %u, SHSTK %u, CET %u\n",
		   own->applies[PT], own->applies[PRED_CMD], own->applies[FLUSH_CMD],
		   own->applies[XFD_ERR], own->applies[SHSTK], own->applies[CET]);
	if (own->mediated_pmu)
		kunit_skip(t->test, "a mediated PMU is not tested here");
}

/* All vCPUs there are, each with filters of some kinds. */
static void msr_intercept_recalc(struct kunit *test)
{
	enum { NONE, DENY_ALL, DENY_ONE, ALLOW_ONE, RANDOM_FILTER, NR_KINDS };
	struct msr_kunit *t = test->priv;
	struct msr_intercept_test *own = to_intercept_test(t);
	struct vcpu_state *state = &own->state;
	const struct msr_rule *rule;
	unsigned int n, left, kind;

	probe(t);
	for (n = 0; ; n++) {
		left = n;
		kind = pick(&left, NR_KINDS);
		state->cstate_in_guest = pick(&left, 2);
		state->aperfmperf_in_guest = pick(&left, 2);
		state->xfd_no_write_intercept = pick(&left, 2);
		state->spec_ctrl = pick(&left, 2);
		state->pt_enabled = own->applies[PT] && pick(&left, 2);
		state->pt_ranges = own->applies[PT] ? pick(&left, 5) : 0;
		state->xfd = own->applies[XFD_ERR] && pick(&left, 2);
		state->pred_cmd = pick(&left, 4);
		state->flush_l1d = pick(&left, 2);
		state->shstk = pick(&left, 2);
		state->ibt = pick(&left, 2);
		if (left)
			break;

		rule = &rules[below(t, ARRAY_SIZE(rules))];
		switch (kind) {
		case NONE:
			use_filter(t, NULL);
			break;
		case DENY_ALL:
			new_filter(t, false);
			break;
		case DENY_ONE:
		case ALLOW_ONE:
			new_filter(t, kind == DENY_ONE);
			filter_add_uniform(t, rule->msr, 1, 1 + below(t, 3),
					   kind == ALLOW_ONE);
			break;
		default:
			random_filter(t);
			break;
		}
		use_state(t);
		memcpy(t->before, t->fills[below(t, NR_FILLS)], PAGE_SIZE);
		try_recalc(t, below(t, 2));
	}
	finish_counted(t);
}

/* What may happen to a vCPU between two changes of the filter. */
static void change_state(struct msr_kunit *t)
{
	struct vcpu_state *state = &to_intercept_test(t)->state;

	switch (below(t, 10)) {
	/* These it can get, but not lose. */
	case 0:
		state->cstate_in_guest = true;
		break;
	case 1:
		state->aperfmperf_in_guest = true;
		break;
	case 2:
		state->xfd_no_write_intercept = true;
		break;
	case 3:
		state->pt_ranges = min(state->pt_ranges + 1, 4);
		break;
	case 4:
		state->spec_ctrl ^= 1;
		break;
	case 5:
		state->pt_enabled ^= 1;
		break;
	case 6:
		state->xfd ^= 1;
		break;
	case 7:
		state->pred_cmd = below(t, 4);
		break;
	case 8:
		state->flush_l1d ^= 1;
		break;
	case 9:
		if (below(t, 2))
			state->shstk ^= 1;
		else
			state->ibt ^= 1;
		break;
	}
	use_state(t);
}

/* One change after another: neither may what was before show, nor a repetition. */
static void msr_intercept_recalc_random(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	unsigned long *after;
	unsigned int n;

	after = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, after);

	probe(t);
	for (n = 0; n < RANDOM_STATES; n++) {
		if (!(n % STATES_PER_VCPU)) {
			to_intercept_test(t)->state = (struct vcpu_state) {};
			memset(after, 0xff, PAGE_SIZE);
		}
		change_state(t);
		random_filter(t);

		memcpy(t->before, after, PAGE_SIZE);
		try_recalc(t, below(t, 2));
		try_again(t);
		memcpy(after, t->hw, PAGE_SIZE);

		memset(t->before, 0xff, PAGE_SIZE);
		try_recalc(t, false);
		t->wrong += !same(t->hw, after, PAGE_SIZE);
	}
	finish_counted(t);
}

/*
 * LBR MSRs, which KVM passes through when perf gives them to the guest.  There is
 * no checksum of these bitmaps, as many kernels leave their bits as they are when
 * the filter changes.
 */
static void msr_intercept_lbr(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	unsigned int n;

	probe(t);
	for (n = 0; n < RANDOM_STATES / STATES_PER_VCPU; n++) {
		change_state(t);
		random_lbrs(t);
		memcpy(t->before, t->fills[RANDOM], PAGE_SIZE);
		try_recalc(t, below(t, 2));
		try_again(t);
	}
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

/* ---- VMCS controls of a mediated PMU */

/* 7.0 and later */
#ifdef VM_EXIT_SAVE_IA32_PERF_GLOBAL_CTRL

struct pmu_test {
	struct msr_kunit *t;
	char failure[128];
};

/* The controls that KVM recalculates, of one VMCS */
struct pmu_controls {
	bool rdpmc_exiting;
	bool load_on_entry;
	bool load_on_exit;
	/* The length of the auto-store list */
	unsigned long nr_stored;
};

/* Longer than KVM's list */
#define BOGUS_NR_STORED 99

/* Only KVM knows the host's PMU: there is either none, or CPUID describes it. */
static void use_pmu(struct msr_kunit *t, bool of_cpuid)
{
	struct kvm_pmu *pmu = vcpu_to_pmu(&t->vmx->vcpu);
	union cpuid10_eax eax = {};
	union cpuid10_edx edx = {};
	unsigned int unused;

	if (of_cpuid)
		cpuid(10, &eax.full, &unused, &unused, &edx.full);

	pmu->nr_arch_gp_counters = eax.split.num_counters;
	pmu->nr_arch_fixed_counters = edx.split.num_counters_fixed;
	pmu->counter_bitmask[KVM_PMC_GP] = BIT_ULL(eax.split.bit_width) - 1;
	pmu->counter_bitmask[KVM_PMC_FIXED] = BIT_ULL(edx.split.bit_width_fixed) - 1;
}

static void load_vmcs(struct loaded_vmcs *loaded)
{
	u64 pa = __pa(loaded->vmcs);

	asm volatile("vmptrld %0" : : "m" (pa) : "cc", "memory");
}

static void clear_vmcs(struct loaded_vmcs *loaded)
{
	u64 pa = __pa(loaded->vmcs);

	asm volatile("vmclear %0" : : "m" (pa) : "cc", "memory");
}

static void write_control(unsigned long field, u32 *shadow, u32 value)
{
	*shadow = value;
	asm volatile("vmwrite %1, %0" : : "r" (field), "r" ((unsigned long)value)
		     : "cc", "memory");
}

static unsigned long read_field(unsigned long field)
{
	unsigned long value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc", "memory");
	return value;
}

/* The VMCS and KVM's shadow of it have to agree. */
static bool control_is(unsigned long field, u32 shadow, u32 bit, bool set)
{
	return read_field(field) == shadow && !!(shadow & bit) == set;
}

static void init_vmcs(struct loaded_vmcs *loaded, bool rdpmc_exiting, bool set)
{
	u32 unused;

	clear_vmcs(loaded);
	load_vmcs(loaded);
	loaded->cpu = smp_processor_id();
	write_control(VM_EXIT_MSR_STORE_COUNT, &unused, BOGUS_NR_STORED);
	write_control(CPU_BASED_VM_EXEC_CONTROL, &loaded->controls_shadow.exec,
		      rdpmc_exiting ? CPU_BASED_RDPMC_EXITING : CPU_BASED_HLT_EXITING);
	write_control(VM_ENTRY_CONTROLS, &loaded->controls_shadow.vm_entry,
		      set ? VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL : 0);
	write_control(VM_EXIT_CONTROLS, &loaded->controls_shadow.vm_exit,
		      set ? VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL : 0);
}

static bool check_vmcs(struct pmu_test *p, struct loaded_vmcs *loaded,
		       const struct pmu_controls *expected, unsigned int nr)
{
	const char *what;

	load_vmcs(loaded);
	if (!control_is(CPU_BASED_VM_EXEC_CONTROL, loaded->controls_shadow.exec,
			CPU_BASED_RDPMC_EXITING, expected->rdpmc_exiting))
		what = "RDPMC exiting";
	else if (!control_is(VM_ENTRY_CONTROLS, loaded->controls_shadow.vm_entry,
			     VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL,
			     expected->load_on_entry))
		what = "load PERF_GLOBAL_CTRL on VM-Entry";
	else if (!control_is(VM_EXIT_CONTROLS, loaded->controls_shadow.vm_exit,
			     VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL,
			     expected->load_on_exit))
		what = "load PERF_GLOBAL_CTRL on VM-Exit";
	else if (read_field(VM_EXIT_MSR_STORE_COUNT) != expected->nr_stored)
		what = "the auto-store list's length";
	else
		return true;

	snprintf(p->failure, sizeof(p->failure), "case %u: %s is wrong in %s", nr,
		 what, loaded == &p->t->vmx->vmcs01 ? "vmcs01" : "vmcs02");
	return false;
}

#define NR_PMU_CASES	32
#define HAS_PMU		16
#define MEDIATED	4

/* One combination of everything that the controls depend on */
static bool try_pmu(struct pmu_test *p, unsigned int nr)
{
	bool l2 = nr & 1, l1_wants = nr & 2, mediated = nr & MEDIATED, set = nr & 8;
	bool has_pmu = nr & HAS_PMU;
	struct vcpu_vmx *vmx = p->t->vmx;
	struct pmu_controls expected = {
		.rdpmc_exiting = !mediated || !has_pmu,
		/* Without a mediated PMU in KVM, these are never touched. */
		.load_on_entry = mediated ? has_pmu : set,
		.load_on_exit = mediated ? has_pmu : set,
	};

	vcpu_to_pmu(&vmx->vcpu)->version = has_pmu ? 2 : 0;
	/* With an MSR in the list, KVM writes its length to vmcs01 to remove it. */
	vmx->msr_autostore.nr = 0;

	/* KVM intercepts RDPMC from the start. */
	init_vmcs(&vmx->vmcs01, set || !mediated, set);
	init_vmcs(&vmx->nested.vmcs02, set || !mediated, set);
	vmx->nested.cached_vmcs12->cpu_based_vm_exec_control =
		l1_wants ? CPU_BASED_RDPMC_EXITING : CPU_BASED_RDTSC_EXITING;
	vmx->vcpu.arch.hflags = l2 ? HF_GUEST_MASK : 0;
	vmx->loaded_vmcs = l2 ? &vmx->nested.vmcs02 : &vmx->vmcs01;
	load_vmcs(vmx->loaded_vmcs);

	vmx_kunit_recalc_intercepts(&vmx->vcpu, mediated);

	expected.nr_stored = vmx->msr_autostore.nr ?: BOGUS_NR_STORED;
	if (!check_vmcs(p, &vmx->vmcs01, &expected, nr))
		return false;

	if (mediated)
		expected.nr_stored = vmx->msr_autostore.nr;
	expected.rdpmc_exiting |= l1_wants;
	return !l2 || check_vmcs(p, &vmx->nested.vmcs02, &expected, nr);
}

/*
 * Run with all other CPUs stopped, so that no vCPU runs while KVM believes to have
 * a mediated PMU, or while this CPU's VMCS isn't the one that KVM believes it is.
 */
static int try_pmu_stopped(void *data)
{
	struct pmu_test *p = data;
	struct vcpu_vmx *vmx = p->t->vmx;
	u32 revision, unused;
	unsigned int nr;
	int ret = 0;
	u64 theirs;

	if (!(native_read_cr4() & X86_CR4_VMXE))
		return -ENODEV;

	rdmsr(MSR_IA32_VMX_BASIC, revision, unused);
	vmx->vmcs01.vmcs->hdr.revision_id = revision;
	vmx->nested.vmcs02.vmcs->hdr.revision_id = revision;
	asm volatile("vmptrst %0" : "=m" (theirs) : : "memory");

	/* With one of these PMUs, KVM has no reason to intercept RDPMC. */
	use_pmu(p->t, false);
	if (!try_pmu(p, HAS_PMU | MEDIATED)) {
		use_pmu(p->t, true);
		if (!try_pmu(p, HAS_PMU | MEDIATED))
			ret = -EOPNOTSUPP;
	}
	for (nr = 0; nr < NR_PMU_CASES && !ret; nr++)
		ret = !try_pmu(p, nr);

	clear_vmcs(&vmx->vmcs01);
	clear_vmcs(&vmx->nested.vmcs02);
	if (theirs != INVALID_GPA)
		asm volatile("vmptrld %0" : : "m" (theirs) : "cc", "memory");
	return ret;
}

/*
 * With a mediated PMU, VMCS controls are recalculated along with MSR intercepts, in
 * vmcs01 and, if L2 is active, in vmcs02, where L1's controls count as well.
 */
static void msr_intercept_pmu_controls(struct kunit *test)
{
	struct pmu_test p = { .t = test->priv };
	struct vcpu_vmx *vmx = p.t->vmx;
	int ret;

	if (hypervisor_is_type(X86_HYPER_MS_HYPERV))
		kunit_skip(test, "the VMCS may be Hyper-V's");
	vmx->nested.cached_vmcs12 = kunit_kzalloc(test, VMCS12_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vmx->nested.cached_vmcs12);
	vmx->nested.vmcs02.vmcs = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vmx->nested.vmcs02.vmcs);

	ret = stop_machine(try_pmu_stopped, &p, NULL);
	if (ret == -ENODEV)
		kunit_skip(test, "the CPU is not in VMX operation");
	if (ret == -EOPNOTSUPP)
		kunit_skip(test, "KVM intercepts RDPMC no matter the vCPU's PMU");
	if (ret)
		KUNIT_FAIL(test, "%s", p.failure);
}

#define KUNIT_CASES_PMU KUNIT_CASE(msr_intercept_pmu_controls),

#else /* Without a mediated PMU, KVM never clears RDPMC exiting. */

#define KUNIT_CASES_PMU

#endif

/* ---- The suite */

static int msr_intercept_init(struct kunit *test)
{
	struct msr_intercept_test *own;

	/* Nor is there any where KVM found no VMX. */
	if (!vmx_kunit_has_msr_bitmap())
		kunit_skip(test, "no MSR bitmaps");

	own = kunit_kzalloc(test, sizeof(*own), GFP_KERNEL);
	if (!own)
		return -ENOMEM;
	return begin_fixture(test, &own->t, seed);
}

static struct kunit_case msr_intercept_cases[] = {
	KUNIT_CASE(msr_intercept_set),
	KUNIT_CASE(msr_intercept_ranges),
	KUNIT_CASE(msr_intercept_recalc),
	KUNIT_CASE(msr_intercept_recalc_random),
	KUNIT_CASE(msr_intercept_lbr),
	KUNIT_CASES_PMU
	KUNIT_CASE(msr_filter_range_end),
	KUNIT_CASES_DENIED
	KUNIT_CASES_REQUEST
	{}
};

static struct kunit_suite msr_intercept_suite = {
	.name = "kvm_intel_msr_intercept",
	.init = msr_intercept_init,
	.exit = end_fixture,
	.test_cases = msr_intercept_cases,
};

kunit_test_suite(msr_intercept_suite);

MODULE_DESCRIPTION("KUnit tests for the MSR bitmaps of KVM on Intel");
MODULE_LICENSE("GPL");
