// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for what makes a vCPU's MSR bitmap: vmx_set_intercept_for_msr() and
 * vmx_recalc_msr_intercepts(), which calls the former for all MSRs that userspace
 * can filter.
 *
 * Both are called on a vCPU that exists only here and never runs.  Each resulting
 * MSR bitmap, all of its 4 KiB, has to be equal to a model's that knows nothing
 * of how KVM gets there.  For reads and for writes of each MSR that is set anew:
 *
 *	MSR bitmap bit == KVM wants to intercept || denied by the MSR filter
 *
 * and all other bits stay as they were.  After any number of changes of filter and
 * vCPU, the bitmap has to be what a new vCPU gets.  A changed bit has to leave the
 * mark that has the bitmaps of L1 and L2 merged anew, and where no bit changed
 * there must not be one, as merging takes time.
 *
 * Each test prints how many states it had and a checksum of all that KVM made of
 * them.  With the same seed these are the same for any two kvm-intel that do the
 * same.
 *
 * There is no VMCS, i.e. nothing here may get to VMREAD or VMWRITE; KVM or the CPU
 * complain if it does.  Not tested: the intercepts of x2APIC and LBR MSRs, which
 * KVM sets when it likes, those of a mediated PMU, and the mark for Hyper-V.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "msrs.h"
#include "vmx.h"
#include "x86.h"

static unsigned long long seed = 5101519;
module_param(seed, ullong, 0444);
MODULE_PARM_DESC(seed, "of what is random in the states that are tested");

#define RANDOM_STATES		1600
#define STATES_PER_VCPU		16
#define MAX_REPORTS		4

#define MSR_BITMAP_BITS		(PAGE_SIZE * BITS_PER_BYTE)
#define NO_BIT			MSR_BITMAP_BITS

#define MAX_RANGES		ARRAY_SIZE(((struct kvm_x86_msr_filter *)0)->ranges)
#define MAX_RANGE_MSRS		1024

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
	0x1fff,
	0x2000,
	0x40000000,
	0xbfffffff,
	0xc0000000,
	MSR_KERNEL_GS_BASE,
	0xc0001fff,
	0xc0002000,
	0xffffffff,
};

static const int types[] = { MSR_TYPE_R, MSR_TYPE_W };

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

/* What the MSR bitmap is full of, apart from what the test is about. */
enum { ZEROES, ONES, RANDOM, NR_FILLS };

struct msr_intercept_test {
	struct kunit *test;

	struct kvm_vmx *kvm_vmx;
	struct vcpu_vmx *vmx;
	struct vcpu_vmx *vmx_before;
	struct vcpu_state state;

	/* MSR bitmaps: the vCPU's, what it was, and what it ought to be. */
	unsigned long *hw;
	unsigned long *before;
	unsigned long *model;
	unsigned long *fills[NR_FILLS];

	/* Which rules the KVM that is loaded has a reason to apply. */
	bool applies[CET + 1];
	bool mediated_pmu;

	struct kvm_x86_msr_filter *filter;
	unsigned long *range_bitmaps[MAX_RANGES];

	struct rnd_state rnd;
	unsigned int states;
	unsigned int unchanged;
	unsigned int wrong;
	u64 checksum;

	bool judge_unchanged;
};

/*
 * The bit for @msr and @type, MSR_TYPE_R or MSR_TYPE_W, in an MSR bitmap, or one
 * that is in none.
 */
static unsigned int msr_bit(u32 msr, int type)
{
	if (msr > 0x1fff && msr - 0xc0000000 > 0x1fff)
		return NO_BIT;

	return (type == MSR_TYPE_W ? 0x4000 : 0) +
	       (msr >= 0xc0000000 ? 0x2000 : 0) + (msr & 0x1fff);
}

static void assign_msr_bit(unsigned long *bitmap, u32 msr, int type, bool set)
{
	unsigned int bit = msr_bit(msr, type);

	if (bit != NO_BIT)
		__assign_bit(bit, bitmap, set);
}

/* For large objects, where memcmp() goes byte by byte. */
static bool same(const void *a, const void *b, size_t size)
{
	return bitmap_equal(a, b, size * BITS_PER_BYTE);
}

static void fill_random(struct msr_intercept_test *t, void *where, size_t size)
{
	prandom_bytes_state(&t->rnd, where, size);
}

static u32 below(struct msr_intercept_test *t, u32 limit)
{
	return prandom_u32_state(&t->rnd) % limit;
}

/* One of @choices, such that a counter in @left goes through all combinations. */
static unsigned int pick(unsigned int *left, unsigned int choices)
{
	unsigned int choice = *left % choices;

	*left /= choices;
	return choice;
}

/* ---- The filter */

static void use_filter(struct msr_intercept_test *t,
		       struct kvm_x86_msr_filter *filter)
{
	/* Nobody else reads it, i.e. there is nobody to wait for. */
	rcu_assign_pointer(t->kvm_vmx->kvm.arch.msr_filter, filter);
}

static void new_filter(struct msr_intercept_test *t, bool default_allow)
{
	t->filter->count = 0;
	t->filter->default_allow = default_allow;
	use_filter(t, t->filter);
}

/* The caller has to fill the bitmap, which is large enough for any range. */
static unsigned long *filter_add(struct msr_intercept_test *t, u32 base,
				 u32 nmsrs, u32 flags)
{
	unsigned int nr = t->filter->count++;

	t->filter->ranges[nr] = (struct msr_bitmap_range) {
		.base = base,
		.nmsrs = nmsrs,
		.flags = flags,
		.bitmap = t->range_bitmaps[nr],
	};
	return t->range_bitmaps[nr];
}

/* The bits past the end of the range are the same: they are not to be used. */
static void filter_add_uniform(struct msr_intercept_test *t, u32 base, u32 nmsrs,
			       u32 flags, bool allow)
{
	unsigned long *bitmap = filter_add(t, base, nmsrs, flags);
	unsigned int bits = ALIGN(nmsrs + 1, BITS_PER_LONG);

	if (allow)
		bitmap_fill(bitmap, bits);
	else
		bitmap_zero(bitmap, bits);
}

/* By the API's documentation: the first range that matches decides. */
static bool denied(struct msr_intercept_test *t, u32 msr, int type)
{
	const struct kvm_x86_msr_filter *filter =
		rcu_dereference_protected(t->kvm_vmx->kvm.arch.msr_filter, true);
	const struct msr_bitmap_range *range;

	/* Filters do not apply to x2APIC MSRs. */
	if (!filter || (msr >= 0x800 && msr <= 0x8ff))
		return false;

	for (range = filter->ranges; range < filter->ranges + filter->count; range++) {
		if (msr >= range->base && msr - range->base < range->nmsrs &&
		    range->flags & type)
			return !test_bit(msr - range->base, range->bitmap);
	}
	return !filter->default_allow;
}

/* Ranges at and around an MSR, whose verdict is not that of the default. */
static void filter_add_layout(struct msr_intercept_test *t, unsigned int layout,
			      u32 msr, u32 flags)
{
	const u32 both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	bool other = !t->filter->default_allow;
	unsigned long *bitmap;

	switch (layout) {
	case 0:		/* it alone */
		filter_add_uniform(t, msr, 1, flags, other);
		break;
	case 1:		/* the last of a range */
		filter_add_uniform(t, msr - 3, 4, flags, other);
		break;
	case 2:		/* the first of a range */
		filter_add_uniform(t, msr, 4, flags, other);
		break;
	case 3:		/* just past the end of a range */
		filter_add_uniform(t, msr - 4, 4, flags, other);
		break;
	case 4:		/* just before the start of a range */
		filter_add_uniform(t, msr + 1, 4, flags, other);
		break;
	case 5:		/* the first range decides, ... */
		filter_add_uniform(t, msr, 1, flags, other);
		filter_add_uniform(t, msr - 1, 3, both, !other);
		break;
	case 6:		/* ... whatever it says, ... */
		filter_add_uniform(t, msr - 1, 3, flags, !other);
		filter_add_uniform(t, msr, 1, both, other);
		break;
	case 7:		/* ... but only if it is for this type of access, ... */
		filter_add_uniform(t, msr, 1, flags ^ both, !other);
		filter_add_uniform(t, msr, 1, both, other);
		break;
	case 8:		/* ... and no matter how many follow */
		filter_add_uniform(t, msr, 1, flags, other);
		while (t->filter->count < MAX_RANGES)
			filter_add_uniform(t, msr, 1, both, t->filter->count & 1);
		break;
	case 9:		/* the last of all ranges */
		while (t->filter->count < MAX_RANGES - 1)
			filter_add_uniform(t, msr + 1 + t->filter->count, 2,
					   both, other);
		filter_add_uniform(t, msr, 1, flags, other);
		break;
	case 10:	/* one of many in a range */
		bitmap = filter_add(t, msr - 15, MAX_RANGE_MSRS, flags);
		if (other)
			bitmap_zero(bitmap, MAX_RANGE_MSRS);
		else
			bitmap_fill(bitmap, MAX_RANGE_MSRS);
		__assign_bit(15, bitmap, other);
		break;
	}
}

#define NR_LAYOUTS 11

static void filter_add_random(struct msr_intercept_test *t)
{
	u32 msr = rules[below(t, ARRAY_SIZE(rules))].msr;
	unsigned long *bitmap;
	u32 nmsrs;

	nmsrs = 1 + below(t, below(t, 64) ? 64 : MAX_RANGE_MSRS);
	bitmap = filter_add(t, msr - below(t, min_t(u32, nmsrs, 16)), nmsrs,
			    1 + below(t, 3));
	fill_random(t, bitmap, BITS_TO_LONGS(nmsrs + 1) * sizeof(long));
}

static void random_filter(struct msr_intercept_test *t)
{
	unsigned int ranges;

	new_filter(t, below(t, 2));
	for (ranges = below(t, MAX_RANGES + 1); ranges; ranges--)
		filter_add_random(t);
	if (!below(t, 32))
		use_filter(t, NULL);
}

/* ---- One call of KVM, and what is to be said of it */

static void report(struct msr_intercept_test *t)
{
	unsigned int bit, differ = 0, first = 0;

	for (bit = 0; bit < MSR_BITMAP_BITS; bit++) {
		if (test_bit(bit, t->hw) == test_bit(bit, t->model))
			continue;
		if (!differ++)
			first = bit;
	}

	kunit_err(t->test,
		  "state %u: %u bit(s) not as in the model, the first is that of MSR %#x, %s: %s instead of %s, was %s\n",
		  t->states, differ,
		  (first & 0x1fff) + (first & 0x2000 ? 0xc0000000 : 0),
		  first & 0x4000 ? "write" : "read",
		  test_bit(first, t->hw) ? "intercepted" : "passed through",
		  test_bit(first, t->model) ? "intercepted" : "passed through",
		  test_bit(first, t->before) ? "intercepted" : "passed through");
}

/* From the MSR bitmap @before; what is to become of it is up to the caller. */
static void prepare(struct msr_intercept_test *t, bool mark)
{
	memcpy(t->hw, t->before, PAGE_SIZE);
	memcpy(t->model, t->before, PAGE_SIZE);
	t->vmx->nested.force_msr_bitmap_recalc = mark;

	/* That's a lot to compare, and unlikely to depend on the state. */
	if (!(t->states % 16))
		memcpy(t->vmx_before, t->vmx, sizeof(*t->vmx));
}

static void judge(struct msr_intercept_test *t, bool mark_before)
{
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
		hash = rol64(hash ^ hw[i], 23) * 0x9e3779b97f4a7c15ull;
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
	else if (t->judge_unchanged && !changed && !mark_before && mark)
		why = "a mark although no bit has changed";
	else if (!vcpu_kept)
		why = "the vCPU has changed";

	if ((off_model || why) && t->wrong++ < MAX_REPORTS) {
		if (off_model)
			report(t);
		if (why)
			kunit_err(t->test, "state %u: %s\n", t->states, why);
	}
	t->unchanged += !changed;
	t->states++;
}

static void finish(struct msr_intercept_test *t)
{
	kunit_info(t->test, "%u states, %u with no change, seed %llu, checksum %016llx\n",
		   t->states, t->unchanged, seed, t->checksum);
	KUNIT_EXPECT_EQ(t->test, t->wrong, 0U);
	KUNIT_EXPECT_NE(t->test, t->unchanged, 0U);
}

/* ---- vmx_set_intercept_for_msr() */

static void try_set(struct msr_intercept_test *t, u32 msr, int type, bool set,
		    bool mark)
{
	unsigned int i;

	prepare(t, mark);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		if (type & types[i])
			assign_msr_bit(t->model, msr, types[i],
				       set || denied(t, msr, types[i]));

	vmx_set_intercept_for_msr(&t->vmx->vcpu, msr, type, set);
	judge(t, mark);
}

/* All that one call can depend on. */
static void set_each(struct msr_intercept_test *t)
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
		/* What has no bit is not KVM's to pass through. */
		if (t->judge_unchanged && msr_bit(msr, MSR_TYPE_R) == NO_BIT)
			continue;

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
	struct msr_intercept_test *t = test->priv;

	set_each(t);
	finish(t);
}

/* What the ranges of a filter, their order and their borders do. */
static void msr_intercept_ranges(struct kunit *test)
{
	struct msr_intercept_test *t = test->priv;
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
	finish(t);
}

/* ---- vmx_recalc_msr_intercepts() */

static void use_state(struct msr_intercept_test *t)
{
	const struct vcpu_state *state = &t->state;
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
static enum verdict want(struct msr_intercept_test *t, const struct msr_rule *rule)
{
	const struct vcpu_state *state = &t->state;

	if (!t->applies[rule->rule])
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

static void try_recalc(struct msr_intercept_test *t, bool mark)
{
	const struct msr_rule *rule;
	unsigned int i;

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

	vmx_recalc_msr_intercepts(&t->vmx->vcpu);
	judge(t, mark);
}

/* Once more, all being as it is; the model says nothing else, but to be sure. */
static void try_again(struct msr_intercept_test *t)
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
static void probe(struct msr_intercept_test *t)
{
	t->state = (struct vcpu_state) {};
	use_state(t);
	use_filter(t, NULL);
	memset(t->hw, 0, PAGE_SIZE);
	vmx_recalc_msr_intercepts(&t->vmx->vcpu);

	t->applies[ALWAYS_PASSED] = true;
	t->applies[CSTATE] = true;
	t->applies[APERFMPERF] = true;
	t->applies[XFD] = true;
	t->applies[SPEC_CTRL] = true;
	t->applies[PRED_CMD] = cpu_feature_enabled(X86_FEATURE_IBPB);
	t->applies[FLUSH_CMD] = cpu_feature_enabled(X86_FEATURE_FLUSH_L1D);
	t->applies[PT] = test_bit(msr_bit(MSR_IA32_RTIT_STATUS, MSR_TYPE_R), t->hw);
	t->applies[PT_RANGE] = t->applies[PT];
	t->applies[XFD_ERR] = test_bit(msr_bit(MSR_IA32_XFD_ERR, MSR_TYPE_R), t->hw);
	t->applies[SHSTK] = test_bit(msr_bit(MSR_IA32_PL0_SSP, MSR_TYPE_R), t->hw);
	t->applies[CET] = test_bit(msr_bit(MSR_IA32_U_CET, MSR_TYPE_R), t->hw);
	t->mediated_pmu = test_bit(msr_bit(MSR_CORE_PERF_GLOBAL_CTRL, MSR_TYPE_R),
				   t->hw);

	kunit_info(t->test, "PT %u, PRED_CMD %u, FLUSH_CMD %u, XFD_ERR %u, SHSTK %u, CET %u\n",
		   t->applies[PT], t->applies[PRED_CMD], t->applies[FLUSH_CMD],
		   t->applies[XFD_ERR], t->applies[SHSTK], t->applies[CET]);
	if (t->mediated_pmu)
		kunit_skip(t->test, "a mediated PMU is not tested here");
}

/* All vCPUs there are, each with filters of some kinds. */
static void msr_intercept_recalc(struct kunit *test)
{
	enum { NONE, DENY_ALL, DENY_ONE, ALLOW_ONE, RANDOM_FILTER, NR_KINDS };
	struct msr_intercept_test *t = test->priv;
	struct vcpu_state *state = &t->state;
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
		state->pt_enabled = t->applies[PT] && pick(&left, 2);
		state->pt_ranges = t->applies[PT] ? pick(&left, 5) : 0;
		state->xfd = t->applies[XFD_ERR] && pick(&left, 2);
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
	finish(t);
}

/* What may happen to a vCPU between two changes of the filter. */
static void change_state(struct msr_intercept_test *t)
{
	struct vcpu_state *state = &t->state;

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
	struct msr_intercept_test *t = test->priv;
	unsigned long *after;
	unsigned int n;

	after = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, after);

	probe(t);
	for (n = 0; n < RANDOM_STATES; n++) {
		if (!(n % STATES_PER_VCPU)) {
			t->state = (struct vcpu_state) {};
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
	finish(t);
}

/*
 * Nothing having changed, the bitmaps of L1 and L2 need not be merged anew.  All
 * other tests do without that, for kernels that always have them merged.
 */
static void msr_intercept_unchanged(struct kunit *test)
{
	struct msr_intercept_test *t = test->priv;
	unsigned int n;

	t->judge_unchanged = true;
	set_each(t);

	probe(t);
	memset(t->before, 0xff, PAGE_SIZE);
	for (n = 0; n < RANDOM_STATES / STATES_PER_VCPU; n++) {
		change_state(t);
		random_filter(t);
		try_recalc(t, false);
		try_again(t);
		memcpy(t->before, t->hw, PAGE_SIZE);
	}
	finish(t);
}

/* ---- The vCPU */

static int msr_intercept_init(struct kunit *test)
{
	struct msr_intercept_test *t;
	struct vcpu_vmx *vmx;
	unsigned int i;

	BUILD_BUG_ON(MSR_TYPE_R != KVM_MSR_FILTER_READ);
	BUILD_BUG_ON(MSR_TYPE_W != KVM_MSR_FILTER_WRITE);

	/* Nor is there any where KVM found no VMX. */
	if (!cpu_has_vmx_msr_bitmap())
		kunit_skip(test, "no MSR bitmaps");

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	t->test = test;

	t->kvm_vmx = kunit_kzalloc(test, sizeof(*t->kvm_vmx), GFP_KERNEL);
	t->vmx = kunit_kzalloc(test, sizeof(*t->vmx), GFP_KERNEL);
	t->vmx_before = kunit_kzalloc(test, sizeof(*t->vmx), GFP_KERNEL);
	t->filter = kunit_kzalloc(test, sizeof(*t->filter), GFP_KERNEL);
	t->hw = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	t->before = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	t->model = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	if (!t->kvm_vmx || !t->vmx || !t->vmx_before || !t->filter || !t->hw ||
	    !t->before || !t->model)
		return -ENOMEM;

	for (i = 0; i < NR_FILLS; i++) {
		t->fills[i] = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
		if (!t->fills[i])
			return -ENOMEM;
	}

	for (i = 0; i < MAX_RANGES; i++) {
		t->range_bitmaps[i] =
			kunit_kzalloc(test, MAX_RANGE_MSRS / BITS_PER_BYTE +
				      sizeof(long), GFP_KERNEL);
		if (!t->range_bitmaps[i])
			return -ENOMEM;
	}

	vmx = t->vmx;
	vmx->vcpu.kvm = &t->kvm_vmx->kvm;
	vmx->vmcs01.msr_bitmap = t->hw;
	vmx->loaded_vmcs = &vmx->vmcs01;
	/* Looked at if this KVM itself runs on Hyper-V. */
	vmx->vmcs01.vmcs = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	if (!vmx->vmcs01.vmcs)
		return -ENOMEM;

	prandom_seed_state(&t->rnd, seed);
	memset(t->fills[ONES], 0xff, PAGE_SIZE);
	fill_random(t, t->fills[RANDOM], PAGE_SIZE);

	if (init_srcu_struct(&t->kvm_vmx->kvm.srcu))
		return -ENOMEM;
	test->priv = t;
	return 0;
}

static void msr_intercept_exit(struct kunit *test)
{
	struct msr_intercept_test *t = test->priv;

	if (t)
		cleanup_srcu_struct(&t->kvm_vmx->kvm.srcu);
}

static struct kunit_case msr_intercept_cases[] = {
	KUNIT_CASE(msr_intercept_set),
	KUNIT_CASE(msr_intercept_ranges),
	KUNIT_CASE(msr_intercept_recalc),
	KUNIT_CASE(msr_intercept_recalc_random),
	KUNIT_CASE(msr_intercept_unchanged),
	{}
};

static struct kunit_suite msr_intercept_suite = {
	.name = "kvm_intel_msr_intercept",
	.init = msr_intercept_init,
	.exit = msr_intercept_exit,
	.test_cases = msr_intercept_cases,
};

kunit_test_suite(msr_intercept_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_DESCRIPTION("KUnit tests for the MSR bitmaps of KVM on Intel");
MODULE_LICENSE("GPL");
