// SPDX-License-Identifier: GPL-2.0-only
/*
 * Included at the end of msrs.c, or x86.c before 7.3, if KVM precomputes verdicts of
 * MSR filters: gives KUnit tests access to static functions of kvm.
 */
#if IS_ENABLED(CONFIG_KUNIT) && defined(CONFIG_X86_64) && !defined(RIG_WITHOUT_KUNIT)
#include "vmx/msr_filter_hooks.h"

/* Before 6.16.  Newer kernels refuse to build KVM with the name in one piece. */
#ifndef EXPORT_SYMBOL_FOR_MODULES
#define EXPORT_SYMBOL_FOR_MODULES(sym, ...) __PASTE(EXPORT_, SYMBOL_GPL)(sym)
#endif

void msr_kunit_build_bitmaps(struct kvm_x86_msr_filter *msr_filter)
{
	bitmap_zero(msr_filter->denied_reads, KVM_MSR_FILTER_NR_TRACKED);
	bitmap_zero(msr_filter->denied_writes, KVM_MSR_FILTER_NR_TRACKED);
	msr_filter_build(msr_filter, msr_filter->denied_reads, KVM_MSR_FILTER_READ);
	msr_filter_build(msr_filter, msr_filter->denied_writes, KVM_MSR_FILTER_WRITE);
}
EXPORT_SYMBOL_FOR_MODULES(msr_kunit_build_bitmaps, "kvm-intel-kunit");

bool msr_kunit_filters_differ(struct kvm *kvm, const struct kvm_x86_msr_filter *a,
			      const struct kvm_x86_msr_filter *b)
{
	return msr_filters_differ(kvm->arch.msr_passthrough, a, b);
}
EXPORT_SYMBOL_FOR_MODULES(msr_kunit_filters_differ, "kvm-intel-kunit");

#endif /* CONFIG_KUNIT && CONFIG_X86_64 && !RIG_WITHOUT_KUNIT */
