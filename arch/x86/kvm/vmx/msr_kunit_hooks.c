// SPDX-License-Identifier: GPL-2.0-only
/*
 * Included at the end of vmx.c: gives KUnit tests access to static functions and
 * tables of kvm-intel.  Functions that look up the filter are called in an SRCU section,
 * as vCPUs do.
 */
#if IS_ENABLED(CONFIG_KUNIT) && defined(CONFIG_X86_64) && !defined(RIG_WITHOUT_KUNIT)
#include "msr_kunit_hooks.h"

/* Before 6.16.  Newer kernels refuse to build KVM with the name in one piece. */
#ifndef EXPORT_SYMBOL_FOR_MODULES
#define EXPORT_SYMBOL_FOR_MODULES(sym, ...) __PASTE(EXPORT_, SYMBOL_GPL)(sym)
#endif

bool vmx_kunit_has_msr_bitmap(void)
{
	return cpu_has_vmx_msr_bitmap();
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_has_msr_bitmap, "kvm-intel-kunit");

bool vmx_kunit_msr_allowed(struct kvm_vcpu *vcpu, u32 msr, u32 type)
{
	return kvm_msr_allowed(vcpu, msr, type);
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_msr_allowed, "kvm-intel-kunit");

#ifdef MAX_POSSIBLE_PASSTHROUGH_MSRS
u32 vmx_kunit_possible_passthrough_msr(unsigned int slot)
{
	return vmx_possible_passthrough_msrs[slot];
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_possible_passthrough_msr, "kvm-intel-kunit");

/* Call only while there are no vCPUs, as all of them have the same slots. */
void vmx_kunit_set_possible_passthrough_msr(unsigned int slot, u32 msr)
{
	vmx_possible_passthrough_msrs[slot] = msr;
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_set_possible_passthrough_msr, "kvm-intel-kunit");

void vmx_kunit_msr_filter_changed(struct kvm_vcpu *vcpu)
{
	int idx = srcu_read_lock(&vcpu->kvm->srcu);

	vmx_msr_filter_changed(vcpu);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_msr_filter_changed, "kvm-intel-kunit");
#else
void vmx_kunit_set_intercept_for_msr(struct kvm_vcpu *vcpu, u32 msr, int type,
				     bool set)
{
	int idx = srcu_read_lock(&vcpu->kvm->srcu);

	vmx_set_intercept_for_msr(vcpu, msr, type, set);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_set_intercept_for_msr, "kvm-intel-kunit");

void vmx_kunit_recalc_msr_intercepts(struct kvm_vcpu *vcpu)
{
	int idx = srcu_read_lock(&vcpu->kvm->srcu);

	vmx_recalc_msr_intercepts(vcpu);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_recalc_msr_intercepts, "kvm-intel-kunit");
#endif

#ifdef VM_EXIT_SAVE_IA32_PERF_GLOBAL_CTRL
/*
 * Call with all other CPUs stopped, as they must not see the flipped parameter,
 * and with the test's VMCS loaded.
 */
void vmx_kunit_recalc_intercepts(struct kvm_vcpu *vcpu, bool mediated_pmu)
{
	struct vmcs *vmcs = __this_cpu_read(current_vmcs);
	const bool enabled = enable_mediated_pmu;
	int idx = srcu_read_lock(&vcpu->kvm->srcu);

	__this_cpu_write(current_vmcs, to_vmx(vcpu)->loaded_vmcs->vmcs);
	enable_mediated_pmu = mediated_pmu;
	vmx_recalc_intercepts(vcpu);
	enable_mediated_pmu = enabled;
	__this_cpu_write(current_vmcs, vmcs);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
}
EXPORT_SYMBOL_FOR_MODULES(vmx_kunit_recalc_intercepts, "kvm-intel-kunit");
#endif

#endif /* CONFIG_KUNIT && CONFIG_X86_64 && !RIG_WITHOUT_KUNIT */
