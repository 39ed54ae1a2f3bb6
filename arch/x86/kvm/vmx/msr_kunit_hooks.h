/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The functions of kvm-intel that the KUnit tests call.  The rig appends
 * msr_kunit_hooks.c, which has their definitions, to vmx.c.
 */
#ifndef __KVM_X86_VMX_MSR_KUNIT_HOOKS_H
#define __KVM_X86_VMX_MSR_KUNIT_HOOKS_H

#include "vmx.h"

bool vmx_kunit_has_msr_bitmap(void);
bool vmx_kunit_msr_allowed(struct kvm_vcpu *vcpu, u32 msr, u32 type);

/* 5.10 - 6.16, i.e. kernels with vmx->shadow_msr_intercept */
#ifdef MAX_POSSIBLE_PASSTHROUGH_MSRS
u32 vmx_kunit_possible_passthrough_msr(unsigned int slot);
void vmx_kunit_set_possible_passthrough_msr(unsigned int slot, u32 msr);
void vmx_kunit_msr_filter_changed(struct kvm_vcpu *vcpu);
#else
void vmx_kunit_set_intercept_for_msr(struct kvm_vcpu *vcpu, u32 msr, int type,
				     bool set);
void vmx_kunit_recalc_msr_intercepts(struct kvm_vcpu *vcpu);
#endif

/* 7.0 and later, i.e. kernels with a mediated PMU */
#ifdef VM_EXIT_SAVE_IA32_PERF_GLOBAL_CTRL
void vmx_kunit_recalc_intercepts(struct kvm_vcpu *vcpu, bool mediated_pmu);
#endif

#endif /* __KVM_X86_VMX_MSR_KUNIT_HOOKS_H */
