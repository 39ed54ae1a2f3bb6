/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The functions of kvm that the KUnit tests call.  The rig appends
 * msr_filter_hooks.c, which has their definitions, to msrs.c, or x86.c before 7.3.
 */
#ifndef __KVM_X86_VMX_MSR_FILTER_HOOKS_H
#define __KVM_X86_VMX_MSR_FILTER_HOOKS_H

#include <linux/kvm_host.h>

void msr_kunit_build_bitmaps(struct kvm_x86_msr_filter *msr_filter);
bool msr_kunit_filters_differ(struct kvm *kvm, const struct kvm_x86_msr_filter *a,
			      const struct kvm_x86_msr_filter *b);

#endif /* __KVM_X86_VMX_MSR_FILTER_HOOKS_H */
