// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for what a change of userspace's MSR filter does to interception, on
 * kernels with vmx->shadow_msr_intercept, which are 5.10 - 6.16.
 *
 * vmx_msr_filter_changed() is called for a vCPU that exists only here and never
 * runs.  Each resulting MSR bitmap, all of its 4 KiB, has to be equal
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
 * them, x2APIC and PT MSRs apart.  With the same seed these are the same for any two
 * kvm-intel that do the same.
 *
 * Not tested: the PT MSRs for address ranges.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "msr_kunit.h"

static unsigned long long seed = 5101519;
module_param(seed, ullong, 0444);
MODULE_PARM_DESC(seed, "of what is random in the states that are tested");

#define RANDOM_STATES		1000

#define X2APIC_FIRST		0x800
#define X2APIC_COUNT		0x100

/* vmx_possible_passthrough_msrs[], as the tree under test has it */
static u32 slots[MAX_POSSIBLE_PASSTHROUGH_MSRS];

/* Not in that table; pt_update_intercept_for_msr() takes care of them. */
static const u32 pt_msrs[] = {
	MSR_IA32_RTIT_STATUS,
	MSR_IA32_RTIT_OUTPUT_BASE,
	MSR_IA32_RTIT_OUTPUT_MASK,
	MSR_IA32_RTIT_CR3_MATCH,
};

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

struct msr_filter_test {
	struct msr_kunit t;

	/* What KVM does besides, see probe(). */
	bool resets_x2apic;
	bool updates_pt;

	/* More MSR bitmaps: what it ought to be, too, and what was used to fill. */
	unsigned long *recalculated;
	unsigned long *fill;
};

static struct msr_filter_test *to_filter_test(struct msr_kunit *t)
{
	return container_of(t, struct msr_filter_test, t);
}

static unsigned long *shadow(struct vcpu_vmx *vmx, int type)
{
	return type == MSR_TYPE_R ? vmx->shadow_msr_intercept.read :
				    vmx->shadow_msr_intercept.write;
}

/* ---- What the MSR bitmap ought to be */

static void fill_model(struct msr_kunit *t)
{
	const struct msr_filter_test *own = to_filter_test(t);
	bool pt = t->vmx->pt_desc.guest.ctl & RTIT_CTL_TRACEEN;
	unsigned int i, j;

	for (j = 0; j < ARRAY_SIZE(types); j++) {
		int type = types[j];

		for (i = 0; i < ARRAY_SIZE(slots); i++)
			assign_msr_bit(t->model, slots[i], type,
				       test_bit(i, shadow(t->vmx, type)) ||
				       denied(t, slots[i], type));

		for (i = 0; own->updates_pt && i < ARRAY_SIZE(pt_msrs); i++)
			assign_msr_bit(t->model, pt_msrs[i], type,
				       !pt || denied(t, pt_msrs[i], type));

		for (i = 0; i < nr_lbrs_passed(t); i++)
			assign_msr_bit(t->model, lbr_msrs[i], type,
				       denied(t, lbr_msrs[i], type));

		if (own->resets_x2apic)
			bitmap_set(t->model, msr_bit(X2APIC_FIRST, type),
				   X2APIC_COUNT);
	}
}

/* As vmx_set_intercept_for_msr(), but for the shadow bit, which it leaves. */
static void set_intercept(struct msr_kunit *t, u32 msr, int type,
			  bool intercept)
{
	if (!intercept)
		intercept = !kvm_msr_allowed(&t->vmx->vcpu, msr,
					     type == MSR_TYPE_R ?
					     KVM_MSR_FILTER_READ :
					     KVM_MSR_FILTER_WRITE);
	assign_msr_bit(to_filter_test(t)->recalculated, msr, type, intercept);
}

/*
 * As vmx_msr_filter_changed() does when it skips nothing.  What the filter says
 * is what KVM says it does, for the model has an opinion of its own on that.
 */
static void recalculate_all(struct msr_kunit *t)
{
	const struct msr_filter_test *own = to_filter_test(t);
	struct vcpu_vmx *vmx = t->vmx;
	bool pt = vmx->pt_desc.guest.ctl & RTIT_CTL_TRACEEN;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		u32 msr = slots[i];
		bool read = test_bit(i, vmx->shadow_msr_intercept.read);
		bool write = test_bit(i, vmx->shadow_msr_intercept.write);

		set_intercept(t, msr, MSR_TYPE_R, read);
		set_intercept(t, msr, MSR_TYPE_W, write);
	}

	for (i = 0; own->updates_pt && i < ARRAY_SIZE(pt_msrs); i++) {
		set_intercept(t, pt_msrs[i], MSR_TYPE_R, !pt);
		set_intercept(t, pt_msrs[i], MSR_TYPE_W, !pt);
	}

	for (i = 0; i < nr_lbrs_passed(t); i++) {
		set_intercept(t, lbr_msrs[i], MSR_TYPE_R, false);
		set_intercept(t, lbr_msrs[i], MSR_TYPE_W, false);
	}

	for (i = 0; own->resets_x2apic && i < ARRAY_SIZE(types); i++)
		bitmap_set(own->recalculated, msr_bit(X2APIC_FIRST, types[i]),
			   X2APIC_COUNT);
}

/* ---- One state */

static void change_filter(struct msr_kunit *t)
{
	filter_done(t);
	vmx_kunit_msr_filter_changed(&t->vmx->vcpu);
}

/* Whether this long of an MSR bitmap has bits of x2APIC or PT MSRs, see probe(). */
static bool is_x2apic_or_pt(unsigned int nr)
{
	unsigned int msr = nr * BITS_PER_LONG % 0x4000;

	return (msr >= X2APIC_FIRST && msr < X2APIC_FIRST + X2APIC_COUNT) ||
	       (msr + BITS_PER_LONG > MSR_IA32_RTIT_OUTPUT_BASE &&
		msr <= MSR_IA32_RTIT_ADDR3_B);
}

/* Nothing of the vCPU changes; struct nested_vmx has a mark to say it has. */
static bool vcpu_is_as_before(struct msr_kunit *t)
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
static void try_state(struct msr_kunit *t)
{
	struct vcpu_vmx *vmx = t->vmx;
	typeof(vmx->shadow_msr_intercept) shadow_before = vmx->shadow_msr_intercept;
	/* That's a lot to compare, and unlikely to depend on the state. */
	bool compare_vcpu = !(t->states % 16);
	unsigned long *hw = t->hw, *model = t->model;
	unsigned long *recalculated = to_filter_test(t)->recalculated;
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

	change_filter(t);

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
		if (!is_x2apic_or_pt(i))
			hash = add_to_checksum(hash, hw[i]);
	}
	t->checksum = hash;

	if (off_model || off_recalculated || !shadow_kept || !vcpu_kept) {
		if (t->wrong++ < MAX_REPORTS) {
			if (off_model)
				report(t, model, "the model");
			if (off_recalculated)
				report(t, recalculated, "recalculating all");
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

/* ---- Preparing a state */

/* Begin anew, with no MSR bitmap but what it is filled with. */
static void begin_state(struct msr_kunit *t, unsigned int fill)
{
	struct msr_filter_test *own = to_filter_test(t);
	unsigned int i, j, bit;

	if (own->fill != t->fills[fill]) {
		own->fill = t->fills[fill];
		memcpy(t->before, own->fill, PAGE_SIZE);
		return;
	}

	/* No need for all of it, only this much has been prepared since. */
	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		for (j = 0; j < ARRAY_SIZE(types); j++) {
			bit = msr_bit(slots[i], types[j]);
			__assign_bit(bit, t->before, test_bit(bit, own->fill));
		}
	}
}

/* Have KVM want to intercept the access or not, keeping the guarantee. */
static void set_shadow(struct msr_kunit *t, unsigned int slot, int type,
		       bool intercept)
{
	__assign_bit(slot, shadow(t->vmx, type), intercept);
	if (intercept)
		__set_bit(msr_bit(slots[slot], type), t->before);
}

static void set_all_shadows(struct msr_kunit *t, bool intercept)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		set_shadow(t, i, MSR_TYPE_R, intercept);
		set_shadow(t, i, MSR_TYPE_W, intercept);
	}
}

static void set_access(struct msr_kunit *t, unsigned int slot, int type,
		       const struct access *access)
{
	u32 msr = slots[slot];

	set_shadow(t, slot, type, access->shadow);
	__assign_bit(msr_bit(msr, type), t->before, access->intercepted);
	filter_add_uniform(t, msr, 1, type, !access->denied);
}

/* ---- The tests */

/*
 * Two things are no matter of these tests, so they are found out: whether KVM
 * intercepts all x2APIC MSRs anew when the filter changes, as 5.10 does and 5.15
 * doesn't, and whether it looks at the PT MSRs, which older kernels do always, and
 * others do if guests may have PT.  Both would intercept here.
 */
static void probe(struct msr_kunit *t)
{
	struct msr_filter_test *own = to_filter_test(t);

	memset(t->hw, 0, PAGE_SIZE);
	bitmap_fill(t->vmx->shadow_msr_intercept.read, ARRAY_SIZE(slots));
	bitmap_fill(t->vmx->shadow_msr_intercept.write, ARRAY_SIZE(slots));
	use_filter(t, NULL);
	change_filter(t);
	own->resets_x2apic = test_bit(msr_bit(X2APIC_FIRST, MSR_TYPE_R), t->hw);
	own->updates_pt = test_bit(msr_bit(pt_msrs[0], MSR_TYPE_R), t->hw);
}

/* NULL if the test cannot run here and has said so. */
static struct msr_kunit *begin(struct kunit *test)
{
	struct msr_kunit *t = test->priv;

	if (vmx_kunit_has_msr_bitmap()) {
		probe(t);
		return t;
	}
#ifdef kunit_skip
	kunit_skip(test, "no MSR bitmaps");
#else
	kunit_info(test, "# SKIP no MSR bitmaps\n");
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
	struct msr_kunit *t = begin(test);
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
	finish(t, "");
}

/*
 * Every two accesses, be they of one slot or of two, in all states but for what
 * was intercepted before: that, and what is around them, changes all the time.
 */
static void msr_filter_each_pair(struct kunit *test)
{
	const unsigned int nr = ARRAY_SIZE(slots) * ARRAY_SIZE(types);
	struct msr_kunit *t = begin(test);
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
	finish(t, "");
}

/* What the ranges of a filter, their order and their borders do. */
static void msr_filter_ranges(struct kunit *test)
{
	struct msr_kunit *t = begin(test);
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
		layout = pick(&left, NR_LAYOUTS + 1);
		slot = pick(&left, ARRAY_SIZE(slots));
		if (left)
			break;

		begin_state(t, slot % NR_FILLS);
		set_all_shadows(t, false);
		new_filter(t, allow);
		if (layout < NR_LAYOUTS)
			filter_add_layout(t, layout, slots[slot], flags);
		else	/* a range that is empty of types */
			filter_add_uniform(t, slots[slot], 1, 0, !allow);
		try_state(t);
	}
	finish(t, "");
}

static u32 random_msr(struct msr_kunit *t)
{
	if (below(t, 4))
		return slots[below(t, ARRAY_SIZE(slots))];
	return pt_msrs[below(t, ARRAY_SIZE(pt_msrs))];
}

/* A vCPU as it may be after any number of changes of the filter. */
static void begin_random_state(struct msr_kunit *t)
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
	struct msr_kunit *t = begin(test);
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
			filter_add_random(t, random_msr(t));
		if (!below(t, 32))
			use_filter(t, NULL);
		try_state(t);
	}
	finish(t, "");
}

/*
 * Vendors add MSRs to vmx_possible_passthrough_msrs[], e.g. 0x187f, and from 5.12 to
 * 5.19 KVM passes Arch LBR MSRs through, e.g. 0x1500.  KVM has no precomputed verdicts
 * for either.
 */
static const u32 untracked_msrs[] = { 0x187f, 0x1500, 0x1000, 0xc0000400 };

static void try_untracked(struct msr_kunit *t, unsigned int slot)
{
	unsigned int n, left;
	const struct access *read, *write;
	bool others;

	for (n = 0; ; n++) {
		left = n;
		read = &accesses[pick(&left, ARRAY_SIZE(accesses))];
		write = &accesses[pick(&left, ARRAY_SIZE(accesses))];
		others = pick(&left, 2);
		if (left)
			break;

		begin_state(t, n % NR_FILLS);
		new_filter(t, others);
		set_all_shadows(t, others);
		set_access(t, slot, MSR_TYPE_R, read);
		set_access(t, slot, MSR_TYPE_W, write);
		try_state(t);
	}
}

static void msr_filter_untracked(struct kunit *test)
{
	struct msr_kunit *t = begin(test);
	const unsigned int slot = ARRAY_SIZE(slots) - 1;
	const u32 msr = slots[slot];
	unsigned int i;

	if (!t)
		return;

	for (i = 0; i < ARRAY_SIZE(untracked_msrs); i++) {
		slots[slot] = untracked_msrs[i];
		vmx_kunit_set_possible_passthrough_msr(slot, slots[slot]);
		/* What is intercepted before is made of the slots. */
		to_filter_test(t)->fill = NULL;
		try_untracked(t, slot);
	}
	slots[slot] = msr;
	vmx_kunit_set_possible_passthrough_msr(slot, msr);
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

/*
 * No filter is for x2APIC MSRs, so a new one is no reason to touch them, least of
 * all by vmcs02's controls, which are at hand while L2 is active.
 */
static void msr_filter_x2apic(struct kunit *test)
{
	struct msr_kunit *t = begin(test);
	struct loaded_vmcs *vmcs02;

	if (!t)
		return;

	vmcs02 = &t->vmx->nested.vmcs02;
	vmcs02->controls_shadow.secondary_exec = SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE;
	t->vmx->loaded_vmcs = vmcs02;

	to_filter_test(t)->resets_x2apic = false;
	begin_state(t, ONES);
	set_all_shadows(t, true);
	new_filter(t, true);
	try_state(t);
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

/*
 * LBR MSRs have no slots.  There is no checksum of these bitmaps, as many kernels
 * leave their bits as they are when the filter changes.
 */
static void msr_filter_lbr(struct kunit *test)
{
	struct msr_kunit *t = begin(test);
	unsigned int n;

	if (!t)
		return;

	for (n = 0; n < RANDOM_STATES / 4; n++) {
		begin_random_state(t);
		random_lbrs(t);
		try_state(t);
	}
	KUNIT_EXPECT_EQ(test, t->wrong, 0U);
}

/* ---- The suite */

static int msr_filter_init(struct kunit *test)
{
	struct msr_filter_test *own;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++)
		slots[i] = vmx_kunit_possible_passthrough_msr(i);

	own = kunit_kzalloc(test, sizeof(*own), GFP_KERNEL);
	if (!own)
		return -ENOMEM;
	own->recalculated = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	if (!own->recalculated)
		return -ENOMEM;
	return begin_fixture(test, &own->t, seed);
}

static struct kunit_case msr_filter_cases[] = {
	KUNIT_CASE(msr_filter_each_slot),
	KUNIT_CASE(msr_filter_each_pair),
	KUNIT_CASE(msr_filter_ranges),
	KUNIT_CASE(msr_filter_random),
	KUNIT_CASE(msr_filter_untracked),
	KUNIT_CASE(msr_filter_x2apic),
	KUNIT_CASE(msr_filter_lbr),
	KUNIT_CASE(msr_filter_range_end),
	KUNIT_CASES_DENIED
	KUNIT_CASES_REQUEST
	{}
};

static struct kunit_suite msr_filter_suite = {
	.name = "kvm_intel_msr_filter",
	.init = msr_filter_init,
	.exit = end_fixture,
	.test_cases = msr_filter_cases,
};

kunit_test_suite(msr_filter_suite);

MODULE_DESCRIPTION("KUnit tests for changes of the MSR filter of KVM on Intel");
MODULE_LICENSE("GPL");
