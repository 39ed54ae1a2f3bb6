// SPDX-License-Identifier: GPL-2.0-only
/*
 * Count how often KVM merges the MSR bitmaps of L1 and L2 on nested VM-Enter of an
 * L1 that says, by Hyper-V's enlightened MSR bitmap, that its bitmap is unchanged:
 * never without a filter change; with one that changes nothing, print how often.
 */
#include "msr_filter.h"

#define NR_ROUNDS	16

/* Whether L1 intercepted the MSR when KVM merged the bitmaps the last time */
static bool intercepted;

/*
 * Change L1's bitmap before each nested VM-Enter, but hide that from KVM.  If KVM
 * merges the bitmaps nevertheless, L2's access is handled according to the new one.
 */
static unsigned int count_merges(struct nested_vm *n, bool install)
{
	unsigned int i, nr_merges = 0;
	struct msr_outcome outcome;

	for (i = 0; i < NR_ROUNDS; i++) {
		nested_vm_intercept(n, 0, MSR_GS_BASE, false, !intercepted);
		n->l1->bitmap_changed = false;
		if (install)
			vm_deny_msr(n->vm, MSR_LSTAR, FILTER_RW);
		nested_vm_enter(n, 0);
		outcome = nested_vm_access(n, MSR_GS_BASE, false, 0);
		if (n->l2_is_active)
			nested_vm_leave(n);

		if (outcome.handler == (intercepted ? MSR_BY_CPU : MSR_BY_L1)) {
			intercepted = !intercepted;
			nr_merges++;
		} else {
			TEST_ASSERT_EQ(outcome.handler,
				       intercepted ? MSR_BY_KVM : MSR_BY_CPU);
		}
	}
	return nr_merges;
}

int main(int argc, char *argv[])
{
	struct nested_vm n = {};
	unsigned int nr;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_has_nested_hyperv());

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	nested_vm_create(&n, 1, L1_HYPERV_MSR_BITMAP, NULL);
	vm_deny_msr(n.vm, MSR_LSTAR, FILTER_RW);
	nested_vm_enter(&n, 0);
	nested_vm_expect(&n, MSR_GS_BASE, false, 0, MSR_BY_CPU, "first entry");
	nested_vm_leave(&n);

	nr = count_merges(&n, false);
	printf("merges: %u of %u entries without a filter change\n", nr, NR_ROUNDS);
	TEST_ASSERT(!nr, "KVM merges bitmaps that haven't changed");
	nr = count_merges(&n, true);
	printf("merges: %u of %u filter changes that change nothing\n", nr, NR_ROUNDS);
	kvm_vm_free(n.vm);
	return 0;
}
