// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for what a change of userspace's MSR filter does to interception.
 *
 * The kvm-intel that is loaded, whichever it is, is told that the filter has
 * changed (kvm_x86_ops.msr_filter_changed()), on a vCPU that exists only here
 * and never runs.  Each resulting MSR bitmap, all of its 4 KiB, has to be equal
 * to two others:
 *
 *  - the model's, which knows nothing of how KVM gets there.  For each slot of
 *    vmx_possible_passthrough_msrs[], for reads and for writes:
 *
 *	MSR bitmap bit == shadow bit || denied by the MSR filter
 *
 *  - the one that comes of setting the intercept anew for every slot, whatever
 *    its shadow bit, which is all that KVM once did.
 *
 * All states hold to what KVM guarantees, i.e. where a shadow bit is set, the
 * bit in the MSR bitmap is set as well, before the filter changes.  Where the
 * shadow bit is clear, the bit in the MSR bitmap may be either, as the filter
 * that went before may have denied the access.
 *
 * Each test prints how many states it had and a checksum of all that KVM made of
 * them.  With the same seed these are the same for any two kvm-intel that do the
 * same.
 *
 * kvm-intel must not be unloaded while the tests run.  Not tested: the x2APIC
 * MSRs of a vCPU whose x2APIC is virtualized, and the PT MSRs for address ranges.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "x86.h"
#include "vmx.h"

static unsigned long long seed = 5101519;
module_param(seed, ullong, 0444);
MODULE_PARM_DESC(seed, "of what is random in the states that are tested");

#define RANDOM_STATES		1000
#define MAX_REPORTS		4

#define MSR_BITMAP_BITS		(PAGE_SIZE * BITS_PER_BYTE)

#define X2APIC_FIRST		0x800
#define X2APIC_COUNT		0x100

#define MAX_RANGES		ARRAY_SIZE(((struct kvm_x86_msr_filter *)0)->ranges)
#define MAX_RANGE_MSRS		1024

struct msr_name {
	u32 index;
	const char *name;
};

#define MSR_NAME(msr)	{ msr, #msr }

/* As in vmx_possible_passthrough_msrs[], which is private to vmx.c. */
static const struct msr_name slots[] = {
	MSR_NAME(MSR_IA32_SPEC_CTRL),
	MSR_NAME(MSR_IA32_PRED_CMD),
#if MAX_POSSIBLE_PASSTHROUGH_MSRS >= 16
	MSR_NAME(MSR_IA32_FLUSH_CMD),
#endif
	MSR_NAME(MSR_IA32_TSC),
	MSR_NAME(MSR_FS_BASE),
	MSR_NAME(MSR_GS_BASE),
	MSR_NAME(MSR_KERNEL_GS_BASE),
#if MAX_POSSIBLE_PASSTHROUGH_MSRS >= 14
	MSR_NAME(MSR_IA32_XFD),
#endif
#if MAX_POSSIBLE_PASSTHROUGH_MSRS >= 15
	MSR_NAME(MSR_IA32_XFD_ERR),
#endif
	MSR_NAME(MSR_IA32_SYSENTER_CS),
	MSR_NAME(MSR_IA32_SYSENTER_ESP),
	MSR_NAME(MSR_IA32_SYSENTER_EIP),
	MSR_NAME(MSR_CORE_C1_RES),
	MSR_NAME(MSR_CORE_C3_RESIDENCY),
	MSR_NAME(MSR_CORE_C6_RESIDENCY),
	MSR_NAME(MSR_CORE_C7_RESIDENCY),
};

#if MAX_POSSIBLE_PASSTHROUGH_MSRS < 13 || MAX_POSSIBLE_PASSTHROUGH_MSRS > 16
#error "Please adapt slots[] to vmx_possible_passthrough_msrs[]"
#endif

/* Not in that table; pt_update_intercept_for_msr() takes care of them. */
static const struct msr_name pt_msrs[] = {
	MSR_NAME(MSR_IA32_RTIT_STATUS),
	MSR_NAME(MSR_IA32_RTIT_OUTPUT_BASE),
	MSR_NAME(MSR_IA32_RTIT_OUTPUT_MASK),
	MSR_NAME(MSR_IA32_RTIT_CR3_MATCH),
};

static const int types[] = { MSR_TYPE_R, MSR_TYPE_W };

/* The states that reads of one slot can be in, or writes. */
static const struct access {
	bool shadow;		/* KVM itself wants to intercept */
	bool intercepted;	/* before the filter changes */
	bool denied;		/* by the new filter */
} accesses[] = {
	{ .shadow = true,  .intercepted = true,  .denied = false },
	{ .shadow = true,  .intercepted = true,  .denied = true },
	{ .shadow = false, .intercepted = false, .denied = false },
	{ .shadow = false, .intercepted = false, .denied = true },
	{ .shadow = false, .intercepted = true,  .denied = false },
	{ .shadow = false, .intercepted = true,  .denied = true },
};

/* What the MSR bitmap is full of, apart from what the test is about. */
enum { ZEROES, ONES, RANDOM, NR_FILLS };

struct msr_filter_test {
	struct kunit *test;

	struct kvm_vmx *kvm_vmx;
	struct vcpu_vmx *vmx;
	struct vcpu_vmx *vmx_before;

	/* What KVM does besides, see probe(). */
	bool resets_x2apic;
	bool updates_pt;

	/* MSR bitmaps: the vCPU's, what it was, and what it ought to be. */
	unsigned long *hw;
	unsigned long *before;
	unsigned long *model;
	unsigned long *recalculated;
	unsigned long *fills[NR_FILLS];
	unsigned long *fill;

	struct kvm_x86_msr_filter *filter;
	unsigned long *range_bitmaps[MAX_RANGES];

	struct rnd_state rnd;
	unsigned int states;
	unsigned int wrong;
	u64 checksum;
};

/* The bit for @msr and @type, MSR_TYPE_R or MSR_TYPE_W, in an MSR bitmap. */
static unsigned int msr_bit(u32 msr, int type)
{
	return (type == MSR_TYPE_W ? 0x4000 : 0) +
	       (msr >= 0xc0000000 ? 0x2000 : 0) + (msr & 0x1fff);
}

static unsigned long *shadow(struct vcpu_vmx *vmx, int type)
{
	return type == MSR_TYPE_R ? vmx->shadow_msr_intercept.read :
				    vmx->shadow_msr_intercept.write;
}

/* For large objects, where memcmp() goes byte by byte. */
static bool same(const void *a, const void *b, size_t size)
{
	return bitmap_equal(a, b, size * BITS_PER_BYTE);
}

/* ---- The filter */

static void use_filter(struct msr_filter_test *t,
		       struct kvm_x86_msr_filter *filter)
{
	/* Nobody else reads it, i.e. there is nobody to wait for. */
	rcu_assign_pointer(t->kvm_vmx->kvm.arch.msr_filter, filter);
}

static void new_filter(struct msr_filter_test *t, bool default_allow)
{
	t->filter->count = 0;
	t->filter->default_allow = default_allow;
	use_filter(t, t->filter);
}

/* The caller has to fill the bitmap, which is large enough for any range. */
static unsigned long *filter_add(struct msr_filter_test *t, u32 base, u32 nmsrs,
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
static void filter_add_uniform(struct msr_filter_test *t, u32 base, u32 nmsrs,
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
static bool denied_by(const struct kvm_x86_msr_filter *filter, u32 msr, int type)
{
	const struct msr_bitmap_range *range;

	if (!filter)
		return false;

	for (range = filter->ranges; range < filter->ranges + filter->count; range++) {
		if (msr >= range->base && msr - range->base < range->nmsrs &&
		    range->flags & type)
			return !test_bit(msr - range->base, range->bitmap);
	}
	return !filter->default_allow;
}

/* ---- What the MSR bitmap ought to be */

static void fill_model(struct msr_filter_test *t)
{
	const struct kvm_x86_msr_filter *filter =
		rcu_dereference_protected(t->kvm_vmx->kvm.arch.msr_filter, true);
	bool pt = t->vmx->pt_desc.guest.ctl & RTIT_CTL_TRACEEN;
	unsigned int i, j;

	for (j = 0; j < ARRAY_SIZE(types); j++) {
		int type = types[j];

		for (i = 0; i < ARRAY_SIZE(slots); i++)
			__assign_bit(msr_bit(slots[i].index, type), t->model,
				     test_bit(i, shadow(t->vmx, type)) ||
				     denied_by(filter, slots[i].index, type));

		for (i = 0; t->updates_pt && i < ARRAY_SIZE(pt_msrs); i++)
			__assign_bit(msr_bit(pt_msrs[i].index, type), t->model,
				     !pt || denied_by(filter, pt_msrs[i].index, type));

		if (t->resets_x2apic)
			bitmap_set(t->model, msr_bit(X2APIC_FIRST, type),
				   X2APIC_COUNT);
	}
}

/* As vmx_set_intercept_for_msr(), but for the shadow bit, which it leaves. */
static void set_intercept(struct msr_filter_test *t, u32 msr, int type,
			  bool intercept)
{
	if (!intercept)
		intercept = !kvm_msr_allowed(&t->vmx->vcpu, msr,
					     type == MSR_TYPE_R ?
					     KVM_MSR_FILTER_READ :
					     KVM_MSR_FILTER_WRITE);
	if (intercept)
		__set_bit(msr_bit(msr, type), t->recalculated);
	else
		__clear_bit(msr_bit(msr, type), t->recalculated);
}

/*
 * As vmx_msr_filter_changed() does when it skips nothing.  What the filter says
 * is what KVM says it does, for the model has an opinion of its own on that.
 */
static void recalculate_all(struct msr_filter_test *t)
{
	struct vcpu_vmx *vmx = t->vmx;
	bool pt = vmx->pt_desc.guest.ctl & RTIT_CTL_TRACEEN;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		u32 msr = slots[i].index;
		bool read = test_bit(i, vmx->shadow_msr_intercept.read);
		bool write = test_bit(i, vmx->shadow_msr_intercept.write);

		set_intercept(t, msr, MSR_TYPE_R, read);
		set_intercept(t, msr, MSR_TYPE_W, write);
	}

	for (i = 0; t->updates_pt && i < ARRAY_SIZE(pt_msrs); i++) {
		set_intercept(t, pt_msrs[i].index, MSR_TYPE_R, !pt);
		set_intercept(t, pt_msrs[i].index, MSR_TYPE_W, !pt);
	}

	if (!t->resets_x2apic)
		return;
	bitmap_set(t->recalculated, msr_bit(X2APIC_FIRST, MSR_TYPE_R), X2APIC_COUNT);
	bitmap_set(t->recalculated, msr_bit(X2APIC_FIRST, MSR_TYPE_W), X2APIC_COUNT);
}

/* ---- One state */

static const char *name_of(u32 msr)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++)
		if (slots[i].index == msr)
			return slots[i].name;
	for (i = 0; i < ARRAY_SIZE(pt_msrs); i++)
		if (pt_msrs[i].index == msr)
			return pt_msrs[i].name;
	return "another MSR";
}

static void report(struct msr_filter_test *t, const unsigned long *expected,
		   const char *whose)
{
	unsigned int bit, differ = 0, first = 0;
	u32 msr;

	for (bit = 0; bit < MSR_BITMAP_BITS; bit++) {
		if (test_bit(bit, t->hw) == test_bit(bit, expected))
			continue;
		if (!differ++)
			first = bit;
	}
	msr = (first & 0x1fff) + (first & 0x2000 ? 0xc0000000 : 0);

	kunit_err(t->test,
		  "state %u: %u bit(s) not as in %s, the first is that of %s (%#x), %s: %s instead of %s, was %s\n",
		  t->states, differ, whose, name_of(msr), msr,
		  first & 0x4000 ? "write" : "read",
		  test_bit(first, t->hw) ? "intercepted" : "passed through",
		  test_bit(first, expected) ? "intercepted" : "passed through",
		  test_bit(first, t->before) ? "intercepted" : "passed through");
}

/* Nothing of the vCPU changes; struct nested_vmx has a mark to say it has. */
static bool vcpu_is_as_before(struct msr_filter_test *t)
{
	const size_t nested = offsetof(struct vcpu_vmx, nested);
	const size_t after = offsetofend(struct vcpu_vmx, nested);

	/* Some kernels count exits in kvm_msr_allowed(). */
	t->vmx_before->vcpu.stat.exits = t->vmx->vcpu.stat.exits;

	return same(t->vmx, t->vmx_before, nested) &&
	       same((void *)t->vmx + after, (void *)t->vmx_before + after,
		    sizeof(*t->vmx) - after);
}

/* Change the filter, all being prepared, and judge what becomes of it. */
static void try_state(struct msr_filter_test *t)
{
	struct vcpu_vmx *vmx = t->vmx;
	typeof(vmx->shadow_msr_intercept) shadow_before = vmx->shadow_msr_intercept;
	/* That's a lot to compare, and unlikely to depend on the state. */
	bool compare_vcpu = !(t->states % 16);
	unsigned long *hw = t->hw, *model = t->model;
	unsigned long *recalculated = t->recalculated;
	unsigned long off_model = 0, off_recalculated = 0;
	bool shadow_kept, vcpu_kept;
	u64 hash = t->checksum;
	unsigned int i;

	/* Each page is gone through twice, as that is what takes the time. */
	for (i = 0; i < PAGE_SIZE / sizeof(long); i++) {
		unsigned long word = t->before[i];

		hw[i] = word;
		model[i] = word;
		recalculated[i] = word;
	}
	if (compare_vcpu)
		memcpy(t->vmx_before, vmx, sizeof(*vmx));

	kvm_x86_ops.msr_filter_changed(&vmx->vcpu);

	vcpu_kept = !compare_vcpu || vcpu_is_as_before(t);
	shadow_kept = !memcmp(&vmx->shadow_msr_intercept, &shadow_before,
			      sizeof(shadow_before));

	/* Both are a matter of what KVM was asked, not of what it did to it. */
	vmx->shadow_msr_intercept = shadow_before;
	fill_model(t);
	recalculate_all(t);

	for (i = 0; i < PAGE_SIZE / sizeof(long); i++) {
		off_model |= hw[i] ^ model[i];
		off_recalculated |= hw[i] ^ recalculated[i];
		hash = rol64(hash ^ hw[i], 23) * 0x9e3779b97f4a7c15ull;
	}
	t->checksum = hash;

	if (off_model || off_recalculated || !shadow_kept || !vcpu_kept) {
		if (t->wrong++ < MAX_REPORTS) {
			if (off_model)
				report(t, t->model, "the model");
			if (off_recalculated)
				report(t, t->recalculated, "recalculating all");
			if (!shadow_kept)
				kunit_err(t->test, "state %u: shadow bits have changed\n",
					  t->states);
			if (!vcpu_kept)
				kunit_err(t->test, "state %u: the vCPU has changed\n",
					  t->states);
		}
	}
	t->states++;
}

static void finish(struct msr_filter_test *t)
{
	kunit_info(t->test, "%u states, seed %llu, checksum %016llx\n",
		   t->states, seed, t->checksum);
	KUNIT_EXPECT_EQ(t->test, t->wrong, 0U);
}

/* ---- Preparing a state */

static void fill_random(struct msr_filter_test *t, void *where, size_t size)
{
	prandom_bytes_state(&t->rnd, where, size);
}

static u32 below(struct msr_filter_test *t, u32 limit)
{
	return prandom_u32_state(&t->rnd) % limit;
}

/* Begin anew, with no MSR bitmap but what it is filled with. */
static void begin_state(struct msr_filter_test *t, unsigned int fill)
{
	unsigned int i, j, bit;

	if (t->fill != t->fills[fill]) {
		t->fill = t->fills[fill];
		memcpy(t->before, t->fill, PAGE_SIZE);
		return;
	}

	/* No need for all of it, only this much has been prepared since. */
	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		for (j = 0; j < ARRAY_SIZE(types); j++) {
			bit = msr_bit(slots[i].index, types[j]);
			__assign_bit(bit, t->before, test_bit(bit, t->fill));
		}
	}
}

/* Have KVM want to intercept the access or not, keeping the guarantee. */
static void set_shadow(struct msr_filter_test *t, unsigned int slot, int type,
		       bool intercept)
{
	__assign_bit(slot, shadow(t->vmx, type), intercept);
	if (intercept)
		__set_bit(msr_bit(slots[slot].index, type), t->before);
}

static void set_all_shadows(struct msr_filter_test *t, bool intercept)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		set_shadow(t, i, MSR_TYPE_R, intercept);
		set_shadow(t, i, MSR_TYPE_W, intercept);
	}
}

static void set_access(struct msr_filter_test *t, unsigned int slot, int type,
		       const struct access *access)
{
	u32 msr = slots[slot].index;

	set_shadow(t, slot, type, access->shadow);
	__assign_bit(msr_bit(msr, type), t->before, access->intercepted);
	filter_add_uniform(t, msr, 1, type, !access->denied);
}

/* ---- The tests */

/* One of @choices, such that a counter in @left goes through all combinations. */
static unsigned int pick(unsigned int *left, unsigned int choices)
{
	unsigned int choice = *left % choices;

	*left /= choices;
	return choice;
}

/*
 * Two things are no matter of these tests, so they are found out: whether KVM
 * intercepts all x2APIC MSRs anew when the filter changes, as 5.10 does and 5.15
 * doesn't, and whether it looks at the PT MSRs, which 5.10 does always, and newer
 * ones do if guests may have PT.  Both would intercept here.
 */
static void probe(struct msr_filter_test *t)
{
	memset(t->hw, 0, PAGE_SIZE);
	bitmap_fill(t->vmx->shadow_msr_intercept.read, ARRAY_SIZE(slots));
	bitmap_fill(t->vmx->shadow_msr_intercept.write, ARRAY_SIZE(slots));
	use_filter(t, NULL);
	kvm_x86_ops.msr_filter_changed(&t->vmx->vcpu);
	t->resets_x2apic = test_bit(msr_bit(X2APIC_FIRST, MSR_TYPE_R), t->hw);
	t->updates_pt = test_bit(msr_bit(pt_msrs[0].index, MSR_TYPE_R), t->hw);
}

/*
 * When kvm-intel is unloaded, kvm_x86_ops stays as it is, but for an op whose
 * name depends on the kernel: see if the function has a name of its own.
 */
static bool is_loaded(void)
{
	char name[KSYM_SYMBOL_LEN];

	if (!kvm_x86_ops.msr_filter_changed)
		return false;
	sprint_symbol_no_offset(name, (unsigned long)kvm_x86_ops.msr_filter_changed);
	return strstr(name, "msr_filter_changed");
}

/* Why there is nothing to test, if so. */
static const char *unfit(void)
{
	u32 low, high;

	if (!boot_cpu_has(X86_FEATURE_VMX))
		return "this CPU has no VMX";
	if (!is_loaded())
		return "kvm-intel is not loaded";
	rdmsr(MSR_IA32_VMX_PROCBASED_CTLS, low, high);
	if (!(high & CPU_BASED_USE_MSR_BITMAPS))
		return "this CPU has no MSR bitmaps";
	return NULL;
}

/* NULL if the test cannot run here and has said so. */
static struct msr_filter_test *begin(struct kunit *test)
{
	struct msr_filter_test *t = test->priv;
	const char *why = unfit();

	if (!why) {
		probe(t);
		return t;
	}
#ifdef kunit_skip
	kunit_skip(test, "%s", why);
#else
	kunit_info(test, "# SKIP %s\n", why);
#endif
	return NULL;
}

/*
 * Reads and writes of one slot in all states, independently; in turn for all
 * slots, with all other accesses intercepted by KVM, allowed or denied.
 */
static void msr_filter_each_slot(struct kunit *test)
{
	enum { SHADOWED, ALLOWED, DENIED, NR_OTHERS };
	struct msr_filter_test *t = begin(test);
	unsigned int n, left, others, slot, fill;
	const struct access *read, *write;

	if (!t)
		return;

	for (n = 0; ; n++) {
		left = n;
		read = &accesses[pick(&left, ARRAY_SIZE(accesses))];
		write = &accesses[pick(&left, ARRAY_SIZE(accesses))];
		others = pick(&left, NR_OTHERS);
		slot = pick(&left, ARRAY_SIZE(slots));
		fill = pick(&left, NR_FILLS);
		if (left)
			break;

		begin_state(t, fill);
		new_filter(t, others != DENIED);
		set_all_shadows(t, others == SHADOWED);
		set_access(t, slot, MSR_TYPE_R, read);
		set_access(t, slot, MSR_TYPE_W, write);
		try_state(t);
	}
	finish(t);
}

/*
 * Every two accesses, be they of one slot or of two, in all states but for what
 * was intercepted before: that, and what is around them, changes all the time.
 */
static void msr_filter_each_pair(struct kunit *test)
{
	const unsigned int nr = ARRAY_SIZE(slots) * ARRAY_SIZE(types);
	struct msr_filter_test *t = begin(test);
	unsigned int n, left, a, b;
	struct access states[2];

	if (!t)
		return;

	for (n = 0; ; n++) {
		left = n;
		states[0].shadow = pick(&left, 2);
		states[0].denied = pick(&left, 2);
		states[1].shadow = pick(&left, 2);
		states[1].denied = pick(&left, 2);
		a = pick(&left, nr);
		b = pick(&left, nr);
		if (left)
			break;
		if (a >= b)
			continue;
		states[0].intercepted = states[0].shadow || below(t, 2);
		states[1].intercepted = states[1].shadow || below(t, 2);

		begin_state(t, b % NR_FILLS);
		new_filter(t, below(t, 2));
		set_all_shadows(t, below(t, 2));
		set_access(t, a / 2, types[a % 2], &states[0]);
		set_access(t, b / 2, types[b % 2], &states[1]);
		try_state(t);
	}
	finish(t);
}

/* Ranges at and around an MSR, whose verdict is not that of the default. */
static void filter_add_layout(struct msr_filter_test *t, unsigned int layout,
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
	case 11:	/* a range that is empty of types */
		filter_add_uniform(t, msr, 1, 0, other);
		break;
	}
}

#define NR_LAYOUTS 12

/* What the ranges of a filter, their order and their borders do. */
static void msr_filter_ranges(struct kunit *test)
{
	struct msr_filter_test *t = begin(test);
	unsigned int n, left, allow, layout, slot;
	unsigned int fill;
	u32 flags;

	if (!t)
		return;

	/* No filter, and filters without ranges. */
	for (fill = 0; fill < NR_FILLS; fill++) {
		begin_state(t, fill);
		set_all_shadows(t, false);
		use_filter(t, NULL);
		try_state(t);

		for (allow = 0; allow <= 1; allow++) {
			new_filter(t, allow);
			try_state(t);
		}
	}

	for (n = 0; ; n++) {
		left = n;
		allow = pick(&left, 2);
		flags = 1 + pick(&left, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE);
		layout = pick(&left, NR_LAYOUTS);
		slot = pick(&left, ARRAY_SIZE(slots));
		if (left)
			break;

		begin_state(t, slot % NR_FILLS);
		set_all_shadows(t, false);
		new_filter(t, allow);
		filter_add_layout(t, layout, slots[slot].index, flags);
		try_state(t);
	}
	finish(t);
}

static void filter_add_random(struct msr_filter_test *t)
{
	const struct msr_name *msr;
	unsigned long *bitmap;
	u32 nmsrs;

	if (below(t, 4))
		msr = &slots[below(t, ARRAY_SIZE(slots))];
	else
		msr = &pt_msrs[below(t, ARRAY_SIZE(pt_msrs))];
	nmsrs = 1 + below(t, below(t, 64) ? 64 : MAX_RANGE_MSRS);

	bitmap = filter_add(t, msr->index - below(t, min_t(u32, nmsrs, 16)),
			    nmsrs, 1 + below(t, 3));
	fill_random(t, bitmap, BITS_TO_LONGS(nmsrs + 1) * sizeof(long));
}

/* A vCPU as it may be after any number of changes of the filter. */
static void begin_random_state(struct msr_filter_test *t)
{
	unsigned int i, j;

	fill_random(t, t->before, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(slots); i++)
		for (j = 0; j < ARRAY_SIZE(types); j++)
			set_shadow(t, i, types[j], below(t, 2));
	t->vmx->pt_desc.guest.ctl = below(t, 2) ? RTIT_CTL_TRACEEN : 0;
}

/*
 * Anything that can be, and from there one change of the filter after another,
 * with KVM changing its mind on one access in between.
 */
static void msr_filter_random(struct kunit *test)
{
	struct msr_filter_test *t = begin(test);
	unsigned int ranges, n;

	if (!t)
		return;

	for (n = 0; n < RANDOM_STATES; n++) {
		if (!(n % 8)) {
			begin_random_state(t);
		} else {
			memcpy(t->before, t->hw, PAGE_SIZE);
			set_shadow(t, below(t, ARRAY_SIZE(slots)),
				   types[below(t, 2)], below(t, 2));
		}

		new_filter(t, below(t, 2));
		for (ranges = below(t, MAX_RANGES + 1); ranges; ranges--)
			filter_add_random(t);
		if (!below(t, 32))
			use_filter(t, NULL);
		try_state(t);
	}
	finish(t);
}

/* ---- The vCPU */

static int msr_filter_init(struct kunit *test)
{
	struct msr_filter_test *t;
	struct vcpu_vmx *vmx;
	unsigned int i;

	BUILD_BUG_ON(ARRAY_SIZE(slots) != MAX_POSSIBLE_PASSTHROUGH_MSRS);
	BUILD_BUG_ON(MSR_TYPE_R != KVM_MSR_FILTER_READ);
	BUILD_BUG_ON(MSR_TYPE_W != KVM_MSR_FILTER_WRITE);

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
	t->recalculated = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	for (i = 0; i < NR_FILLS; i++) {
		t->fills[i] = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
		if (!t->fills[i])
			return -ENOMEM;
	}
	if (!t->kvm_vmx || !t->vmx || !t->vmx_before || !t->filter || !t->hw ||
	    !t->before || !t->model || !t->recalculated)
		return -ENOMEM;

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

static void msr_filter_exit(struct kunit *test)
{
	struct msr_filter_test *t = test->priv;

	if (t)
		cleanup_srcu_struct(&t->kvm_vmx->kvm.srcu);
}

static struct kunit_case msr_filter_cases[] = {
	KUNIT_CASE(msr_filter_each_slot),
	KUNIT_CASE(msr_filter_each_pair),
	KUNIT_CASE(msr_filter_ranges),
	KUNIT_CASE(msr_filter_random),
	{}
};

static struct kunit_suite msr_filter_suite = {
	.name = "kvm_intel_msr_filter",
	.init = msr_filter_init,
	.exit = msr_filter_exit,
	.test_cases = msr_filter_cases,
};

kunit_test_suite(msr_filter_suite);

MODULE_LICENSE("GPL");
