/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What KUnit tests for MSR bitmaps need: a VM and a vCPU that exist only there and
 * never run, an MSR filter for the VM, MSR bitmaps to compare the vCPU's with, and
 * random numbers that are the same for the same seed.
 *
 * To be included by a test module's only source.
 */
#ifndef __KVM_X86_VMX_MSR_KUNIT_H
#define __KVM_X86_VMX_MSR_KUNIT_H

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/prandom.h>
#include <linux/srcu.h>

#include "vmx.h"
#include "x86.h"
#include "msr_kunit_hooks.h"
#if __has_include("msr_kunit_filter.h")
#include "msr_kunit_filter.h"
#endif
#ifdef KVM_MSR_FILTER_NR_TRACKED
#include "msr_filter_hooks.h"
#endif

#define MAX_REPORTS		4

#define MSR_BITMAP_BITS		(PAGE_SIZE * BITS_PER_BYTE)
#define NO_BIT			MSR_BITMAP_BITS

#define MAX_RANGES		ARRAY_SIZE(((struct kvm_x86_msr_filter *)0)->ranges)
#define MAX_RANGE_MSRS		1024

static const int types[] = { MSR_TYPE_R, MSR_TYPE_W };

/* What the MSR bitmap is full of, apart from what the test is about. */
enum { ZEROES, ONES, RANDOM, NR_FILLS };

struct msr_kunit {
	struct kunit *test;

	struct kvm_vmx *kvm_vmx;
	struct vcpu_vmx *vmx;
	struct vcpu_vmx *vmx_before;

	/* MSR bitmaps: the vCPU's, what it was, and what it ought to be. */
	unsigned long *hw;
	unsigned long *before;
	unsigned long *model;
	unsigned long *fills[NR_FILLS];

	struct kvm_x86_msr_filter *filter;
	unsigned long *range_bitmaps[MAX_RANGES];

	u64 seed;
	struct rnd_state rnd;
	unsigned int states;
	unsigned int wrong;
	u64 checksum;
};

/* ---- Numbers */

static void fill_random(struct msr_kunit *t, void *where, size_t size)
{
	prandom_bytes_state(&t->rnd, where, size);
}

static u32 below(struct msr_kunit *t, u32 limit)
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

/* ---- MSR bitmaps */

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

/* The checksum @hash, and one more word of what KVM made. */
static u64 add_to_checksum(u64 hash, unsigned long word)
{
	return rol64(hash ^ word, 23) * 0x9e3779b97f4a7c15ull;
}

/* Say in what the vCPU's MSR bitmap differs from the one that was expected. */
static void report(struct msr_kunit *t, const unsigned long *expected,
		   const char *whose)
{
	unsigned int bit, differ = 0, first = 0;

	for (bit = 0; bit < MSR_BITMAP_BITS; bit++) {
		if (test_bit(bit, t->hw) == test_bit(bit, expected))
			continue;
		if (!differ++)
			first = bit;
	}

	kunit_err(t->test,
		  "state %u: %u bit(s) not as in %s, the first is that of MSR %#x, %s: %s instead of %s, was %s\n",
		  t->states, differ, whose,
		  (first & 0x1fff) + (first & 0x2000 ? 0xc0000000 : 0),
		  first & 0x4000 ? "write" : "read",
		  test_bit(first, t->hw) ? "intercepted" : "passed through",
		  test_bit(first, expected) ? "intercepted" : "passed through",
		  test_bit(first, t->before) ? "intercepted" : "passed through");
}

/* @more is what else there is to say of the states. */
static void finish(struct msr_kunit *t, const char *more)
{
	kunit_info(t->test, "%u states%s, seed %llu, checksum %016llx\n",
		   t->states, more, t->seed, t->checksum);
	KUNIT_EXPECT_EQ(t->test, t->wrong, 0U);
}

/* ---- The filter */

static void use_filter(struct msr_kunit *t, struct kvm_x86_msr_filter *filter)
{
	/* Nobody else reads it, i.e. there is nobody to wait for. */
	rcu_assign_pointer(t->kvm_vmx->kvm.arch.msr_filter, filter);
}

static void new_filter(struct msr_kunit *t, bool default_allow)
{
	t->filter->count = 0;
	t->filter->default_allow = default_allow;
	use_filter(t, t->filter);
}

/* The caller has to fill the bitmap, which is large enough for any range. */
static unsigned long *filter_add(struct msr_kunit *t, u32 base, u32 nmsrs,
				 u32 flags)
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
static void filter_add_uniform(struct msr_kunit *t, u32 base, u32 nmsrs,
			       u32 flags, bool allow)
{
	unsigned long *bitmap = filter_add(t, base, nmsrs, flags);
	unsigned int bits = ALIGN(nmsrs + 1, BITS_PER_LONG);

	if (allow)
		bitmap_fill(bitmap, bits);
	else
		bitmap_zero(bitmap, bits);
}

/*
 * Call before KVM looks at the filter: kernels that precompute verdicts when a
 * filter is installed have to do so for this one, too.
 */
static void filter_done(struct msr_kunit *t)
{
#ifdef KVM_MSR_FILTER_NR_TRACKED
	msr_kunit_build_bitmaps(t->filter);
#endif
}

/* Ranges at and around an MSR, whose verdict is not that of the default. */
static void filter_add_layout(struct msr_kunit *t, unsigned int layout, u32 msr,
			      u32 flags)
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
	case 11:	/* ranges at the end of all MSRs */
		filter_add_uniform(t, -4u, 4, flags, other);
#if !__has_include("../msrs.h") /* 7.3 and later reject ranges beyond 2^32. */
		filter_add_uniform(t, -4u, MAX_RANGE_MSRS, flags, other);
#endif
		break;
	}
}

#define NR_LAYOUTS 12

/* A range at or near @msr, of any types and verdicts. */
static void filter_add_random(struct msr_kunit *t, u32 msr)
{
	u32 nmsrs = 1 + below(t, below(t, 64) ? 64 : MAX_RANGE_MSRS);
	u32 flags = 1 + below(t, 3);
	u32 base = msr - below(t, min_t(u32, nmsrs, 16));
	unsigned long *bitmap = filter_add(t, base, nmsrs, flags);

	fill_random(t, bitmap, BITS_TO_LONGS(nmsrs + 1) * sizeof(long));
}

/* By the API's documentation: the first range that matches decides. */
static bool denied(struct msr_kunit *t, u32 msr, int type)
{
	const struct kvm_x86_msr_filter *filter =
		rcu_dereference_protected(t->kvm_vmx->kvm.arch.msr_filter, true);
	const struct msr_bitmap_range *range;

	/* Filters do not apply to x2APIC MSRs. */
	if (!filter || (msr >= 0x800 && msr <= 0x8ff))
		return false;

	for (range = filter->ranges; range < filter->ranges + filter->count; range++) {
		if (msr >= range->base && msr < range->base + range->nmsrs &&
		    range->flags & type)
			return !test_bit(msr - range->base, range->bitmap);
	}
	return !filter->default_allow;
}

/* A range may end at 2^32, where its end as a 32-bit value is 0. */
static void msr_filter_range_end(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	struct kvm_vcpu *vcpu = &t->vmx->vcpu;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		const bool allow = i & 1, other = !allow;
		const int type = types[i / 2];

		new_filter(t, allow);
		filter_add_uniform(t, -4u, 4, type, other);
		filter_done(t);

		KUNIT_EXPECT_EQ(test, vmx_kunit_msr_allowed(vcpu, -1u, type), other);
		KUNIT_EXPECT_EQ(test, vmx_kunit_msr_allowed(vcpu, -4u, type), other);
		KUNIT_EXPECT_EQ(test, vmx_kunit_msr_allowed(vcpu, -5u, type), allow);
		KUNIT_EXPECT_EQ(test, vmx_kunit_msr_allowed(vcpu, -1u, MSR_TYPE_RW - type), allow);
		KUNIT_EXPECT_EQ(test, vmx_kunit_msr_allowed(vcpu, 0, type), allow);
	}
}

/* ---- Precomputed verdicts */

#ifdef KVM_MSR_FILTER_NR_TRACKED

#define DENIED_FILTERS		48

/* A range in, at, over or outside of those MSRs that have bits. */
static void filter_add_any(struct msr_kunit *t)
{
	static const u32 places[] = {
		0, 0x800, 0x8ff, 0xfff, 0x40000000, 0xc0000000, MSR_FS_BASE,
		0xc00003ff, 0xc0010000, 0xc00103ff, 0xffffffff,
	};
	static const u32 most[] = {
		64, 512, KVM_MSR_FILTER_MAX_BITMAP_SIZE * BITS_PER_BYTE,
	};
	u32 nmsrs = 1 + below(t, most[below(t, ARRAY_SIZE(most))]);
	u32 base = places[below(t, ARRAY_SIZE(places))] - below(t, nmsrs + 16);
	unsigned long *bitmap;

	/* Whole words of such a range can be copied as they are. */
	if (below(t, 2))
		base = ALIGN_DOWN(base, BITS_PER_LONG);

	bitmap = filter_add(t, base, nmsrs, 1 + below(t, 3));
	fill_random(t, bitmap, BITS_TO_LONGS(nmsrs) * sizeof(long));
}

/* Look at the bits for all MSRs from @first to @last, whose reads begin at @bit. */
static void judge_denied(struct msr_kunit *t, u32 first, u32 last, unsigned int bit)
{
	unsigned int j;
	u32 msr;

	for (msr = first; msr <= last; msr++, bit++) {
		for (j = 0; j < ARRAY_SIZE(types); j++) {
			bool deny = denied(t, msr, types[j]);

			/* KVM doesn't look at the verdicts for x2APIC MSRs. */
			if (msr >= 0x800 && msr <= 0x8ff)
				continue;
			if (test_bit(bit, j ? t->filter->denied_writes :
					      t->filter->denied_reads) == deny)
				continue;
			if (t->wrong++ < MAX_REPORTS)
				kunit_err(t->test, "filter %u: %s of MSR %#x are%s to be denied\n",
					  t->states, j ? "writes" : "reads", msr,
					  deny ? "" : " not");
		}
	}
}

/* All verdicts that KVM precomputes for any filter, for the MSRs of SVM, too. */
static void msr_filter_denied(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	unsigned int ranges;

	for (; t->states < DENIED_FILTERS; t->states++) {
		new_filter(t, t->states & 1);
		for (ranges = t->states % 8 ? below(t, 5) : MAX_RANGES; ranges; ranges--)
			filter_add_any(t);
		filter_done(t);

		judge_denied(t, 0, 0xfff, 0);
		judge_denied(t, 0xc0000000, 0xc00003ff, 0x1000);
		judge_denied(t, 0xc0010000, 0xc00103ff, 0x1400);
	}
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

#define REQUEST_STATES		512

/* MSRs that KVM may pass through.  The last two are not tracked. */
static const u32 request_msrs[] = {
	0, MSR_IA32_TSC, MSR_IA32_SYSENTER_CS, 0x7ff, 0x900, 0xfff, 0xc0000000,
	MSR_FS_BASE, MSR_GS_BASE, 0xc00003ff, 0xc0010000, 0xc00103ff, 0x187f, 0xc0011030,
};

static u32 random_request_msr(struct msr_kunit *t)
{
	return request_msrs[below(t, ARRAY_SIZE(request_msrs) - (below(t, 16) ? 2 : 0))];
}

/* Have KVM pass an MSR through if the filter allows that. */
static void pass_through(struct msr_kunit *t, u32 msr, int type)
{
#ifdef MAX_POSSIBLE_PASSTHROUGH_MSRS
	/* What calls this WARNs about MSRs that are not in KVM's list. */
	kvm_msr_passthrough(&t->vmx->vcpu, msr, type);
#else
	vmx_kunit_set_intercept_for_msr(&t->vmx->vcpu, msr, type, false);
#endif
}

/* What the current filter denies, a bit per access of the MSRs above */
static unsigned long request_verdicts(struct msr_kunit *t, unsigned long passed)
{
	unsigned long verdicts = 0;
	unsigned int i;

	for_each_set_bit(i, &passed, 2 * ARRAY_SIZE(request_msrs))
		__assign_bit(i, &verdicts, denied(t, request_msrs[i / 2], types[i % 2]));
	return verdicts;
}

static struct kvm_x86_msr_filter *random_request_filter(struct msr_kunit *t)
{
	unsigned int ranges;

	if (!below(t, 4)) {
		use_filter(t, NULL);
		return NULL;
	}
	new_filter(t, below(t, 8));
	for (ranges = 1 + below(t, 3); ranges; ranges--)
		filter_add_random(t, random_request_msr(t));
	filter_done(t);
	return t->filter;
}

/*
 * A change of the filter has to cause a request if and only if it affects an MSR that
 * KVM passes through, or would pass through if the filter allowed it.  For MSRs that
 * are not tracked, KVM makes a request for every change.
 */
static void msr_filter_request(struct kunit *test)
{
	struct msr_kunit *t = test->priv;
	struct kvm_arch *arch = &t->kvm_vmx->kvm.arch;
	const unsigned long untracked = 0xful << (2 * (ARRAY_SIZE(request_msrs) - 2));
	struct kvm_x86_msr_filter *filters[2], *first = t->filter, *second;
	unsigned long passed, before, after;
	bool expected;
	int i, j;
	u32 msr;

	second = kunit_kzalloc(test, sizeof(*second), GFP_KERNEL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, second);

	for (; t->states < REQUEST_STATES; t->states++) {
		bitmap_zero(arch->msr_passthrough, KVM_MSR_FILTER_NR_TRACKED + 1);
		passed = 0;
		t->filter = first;
		filters[0] = random_request_filter(t);
		for (i = below(t, 6); i; i--) {
			msr = random_request_msr(t);
			pass_through(t, msr, types[i % 2]);
			for (j = 0; j < ARRAY_SIZE(request_msrs); j++)
				if (request_msrs[j] == msr)
					passed |= 3ul << (2 * j);
		}
		before = request_verdicts(t, passed);

		/* The ranges' bitmaps are no longer needed. */
		t->filter = second;
		filters[1] = random_request_filter(t);
		after = request_verdicts(t, passed);

		expected = (passed & untracked) || before != after;
		if (msr_kunit_filters_differ(&t->kvm_vmx->kvm, filters[0], filters[1]) ==
		    expected)
			continue;
		if (t->wrong++ < MAX_REPORTS)
			kunit_err(test, "state %u: %s request, of %#lx %#lx are denied, then %#lx\n",
				  t->states, expected ? "no" : "a", passed, before, after);
	}
	t->filter = first;
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

#define KUNIT_CASES_DENIED KUNIT_CASE(msr_filter_denied),
#define KUNIT_CASES_REQUEST KUNIT_CASE(msr_filter_request),

#else /* This KVM precomputes nothing. */

#define KUNIT_CASES_DENIED
#define KUNIT_CASES_REQUEST

#endif

/* ---- LBR MSRs */

#if defined(PMU_CAP_LBR_FMT) || defined(PERF_CAP_LBR_FMT)

/* Those of a CPU that has two of each.  Not all CPUs have the last two. */
static const u32 lbr_msrs[] = {
	MSR_LBR_SELECT,
	MSR_LBR_TOS,
	MSR_LBR_NHM_FROM,
	MSR_LBR_NHM_FROM + 1,
	MSR_LBR_NHM_TO,
	MSR_LBR_NHM_TO + 1,
	MSR_LBR_INFO_0,
	MSR_LBR_INFO_0 + 1,
};

/* Whether KVM passes them through is a matter of what perf gives to the guest. */
static void use_lbrs(struct msr_kunit *t, bool passed, bool info)
{
	struct lbr_desc *desc = &t->vmx->lbr_desc;

	desc->msr_passthrough = passed;
	desc->records.nr = 2;
	desc->records.from = MSR_LBR_NHM_FROM;
	desc->records.to = MSR_LBR_NHM_TO;
	desc->records.info = info ? MSR_LBR_INFO_0 : 0;
}

/* How many of the above KVM passes through now, i.e. has to set anew. */
static unsigned int nr_lbrs_passed(struct msr_kunit *t)
{
	const struct lbr_desc *desc = &t->vmx->lbr_desc;

	if (!desc->msr_passthrough)
		return 0;
	return ARRAY_SIZE(lbr_msrs) - (desc->records.info ? 0 : 2);
}

#else /* Before 5.12 KVM has none. */

static const u32 lbr_msrs[] = { MSR_LBR_SELECT };

static void use_lbrs(struct msr_kunit *t, bool passed, bool info)
{
}

static unsigned int nr_lbrs_passed(struct msr_kunit *t)
{
	return 0;
}

#endif

/* A vCPU that mostly has them passed through, and a filter that is about them. */
static void random_lbrs(struct msr_kunit *t)
{
	unsigned int ranges;

	use_lbrs(t, below(t, 4), below(t, 2));
	new_filter(t, below(t, 2));
	for (ranges = below(t, MAX_RANGES + 1); ranges; ranges--)
		filter_add_random(t, lbr_msrs[below(t, ARRAY_SIZE(lbr_msrs))]);
}

/* ---- The vCPU */

/* @t is all zeroes.  What else is in there goes when the test does. */
static int begin_fixture(struct kunit *test, struct msr_kunit *t, u64 seed)
{
	struct vcpu_vmx *vmx;
	unsigned int i;

	BUILD_BUG_ON(MSR_TYPE_R != KVM_MSR_FILTER_READ);
	BUILD_BUG_ON(MSR_TYPE_W != KVM_MSR_FILTER_WRITE);

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
			kunit_kzalloc(test, KVM_MSR_FILTER_MAX_BITMAP_SIZE +
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

	t->seed = seed;
	prandom_seed_state(&t->rnd, seed);
	memset(t->fills[ONES], 0xff, PAGE_SIZE);
	fill_random(t, t->fills[RANDOM], PAGE_SIZE);

	if (init_srcu_struct(&t->kvm_vmx->kvm.srcu))
		return -ENOMEM;
	test->priv = t;
	return 0;
}

static void end_fixture(struct kunit *test)
{
	struct msr_kunit *t = test->priv;

	if (!t)
		return;
	cleanup_srcu_struct(&t->kvm_vmx->kvm.srcu);
}

#endif /* __KVM_X86_VMX_MSR_KUNIT_H */
