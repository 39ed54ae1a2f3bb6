/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Makes the selftests for MSR filters, which target the selftest library of 7.3,
 * build with the libraries of 6.0 - 6.13: the rig adds an include of this header to
 * its copies of the tests.
 *
 * The libraries of 6.0 and 6.1 also serve hosts that run 5.10 - 5.19.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_COMPAT_H
#define SELFTEST_KVM_MSR_FILTER_COMPAT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_util.h"
#include "apic.h"
#include "hyperv.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

/*
 * 6.0 - 6.13
 */

#define gva_t			vm_vaddr_t

/*
 * 7.3's library allocates L2's stack: one for each VMCS or VMCB of L1's.  A VM
 * that has the memory of one that is gone gets that one's.
 */
#define COMPAT_NR_L2_STACKS	2
#define COMPAT_L2_STACK_SIZE	512

static inline u64 *compat_l2_stack(void)
{
	static u64 stacks[COMPAT_NR_L2_STACKS][COMPAT_L2_STACK_SIZE]
		__aligned(16);
	static unsigned int nr;

	/* As if by a call: the return address is where 16 bytes end. */
	return &stacks[nr++ % COMPAT_NR_L2_STACKS][COMPAT_L2_STACK_SIZE - 1];
}

static inline void compat_prepare_vmcs(struct vmx_pages *vmx, void *l2_rip)
{
	prepare_vmcs(vmx, l2_rip, compat_l2_stack());
}

static inline void compat_svm_setup(struct svm_test_data *svm, void *l2_rip)
{
	generic_svm_setup(svm, l2_rip, compat_l2_stack());
}

#define prepare_vmcs(vmx, l2_rip)	compat_prepare_vmcs(vmx, l2_rip)
#define generic_svm_setup(svm, l2_rip)	compat_svm_setup(svm, l2_rip)

/*
 * Hosts before 5.14 have no KVM_GET_STATS_FD, and these libraries no such
 * macro.  Debugfs has the same counters, on every kernel, as sums over the vCPUs
 * of a VM, i.e. for the vCPU that runs if the others don't.
 */
static inline u64 compat_get_stat(struct kvm_vm *vm, const char *name)
{
	unsigned long long value;
	char path[128];
	FILE *file;
	int ret;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s",
		 getpid(), vm->fd, name);
	file = fopen(path, "r");
	if (!file) {
		print_skip("%s: %s (is debugfs mounted, are you root?)", path,
			   strerror(errno));
		exit(KSFT_SKIP);
	}
	ret = fscanf(file, "%llu", &value);
	fclose(file);
	TEST_ASSERT(ret == 1, "%s is not a number", path);
	return value;
}

#define vcpu_get_stat(vcpu, stat)	compat_get_stat((vcpu)->vm, #stat)

/*
 * 6.0 - 6.5, where TEST_ASSERT_EQ() is called ASSERT_EQ(), as is another macro of
 * kselftest_harness.h
 */
#ifndef TEST_ASSERT_EQ
#define TEST_ASSERT_EQ(a, b)						\
do {									\
	typeof(a) __compat_a = (a);					\
	typeof(b) __compat_b = (b);					\
									\
	TEST_ASSERT(__compat_a == __compat_b,				\
		    "%s is 0x%lx, expected 0x%lx (%s)", #a,		\
		    (unsigned long)__compat_a,				\
		    (unsigned long)__compat_b, #b);			\
} while (0)
#endif

/*
 * 6.0 - 6.3
 */
#ifndef TEST_ASSERT_KVM_EXIT_REASON
#define TEST_ASSERT_KVM_EXIT_REASON(vcpu, expected)			\
	TEST_ASSERT_EQ((vcpu)->run->exit_reason, expected)
#endif

#ifndef APIC_LVTT
#define APIC_LVTT		0x320
#endif
#ifndef APIC_LVT_MASKED
#define APIC_LVT_MASKED		BIT(16)
#endif

/*
 * 6.0 - 6.11
 */
#ifndef HV_X64_NESTED_MSR_BITMAP
#define HV_X64_NESTED_MSR_BITMAP	KVM_X86_CPU_FEATURE(0x4000000A, 0, EAX, 19)

static inline bool kvm_hv_cpu_has(struct kvm_x86_cpu_feature feature)
{
	const struct kvm_cpuid2 *cpuid;
	u32 i;

	/* 5.10 does not have it. */
	if (!kvm_has_cap(KVM_CAP_SYS_HYPERV_CPUID))
		return false;

	cpuid = kvm_get_supported_hv_cpuid();
	for (i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == feature.function)
			return (&cpuid->entries[i].eax)[feature.reg] &
			       BIT(feature.bit);
	}
	return false;
}
#endif /* HV_X64_NESTED_MSR_BITMAP */

/*
 * 6.0 - 6.9: from 6.10 on it is the library that calls these two, and nobody
 * else can.
 */
void vm_init_descriptor_tables(struct kvm_vm *vm)
	__weak;
void vcpu_init_descriptor_tables(struct kvm_vcpu *vcpu)
	__weak;

static inline struct kvm_vm *compat_vm_create(u32 nr_vcpus)
{
	struct kvm_vm *vm = (vm_create)(nr_vcpus);

	if (vm_init_descriptor_tables)
		vm_init_descriptor_tables(vm);
	return vm;
}

static inline struct kvm_vcpu *compat_vcpu_add(struct kvm_vm *vm, u32 id,
					       void *guest_code)
{
	struct kvm_vcpu *vcpu = (vm_vcpu_add)(vm, id, guest_code);

	if (vcpu_init_descriptor_tables)
		vcpu_init_descriptor_tables(vcpu);
	return vcpu;
}

static inline struct kvm_vm *compat_create_with_one(struct kvm_vcpu **vcpu,
						    void *guest_code)
{
	struct kvm_vm *vm = (vm_create_with_one_vcpu)(vcpu, guest_code);

	if (vm_init_descriptor_tables)
		vm_init_descriptor_tables(vm);
	if (vcpu_init_descriptor_tables)
		vcpu_init_descriptor_tables(*vcpu);
	return vm;
}

#define vm_create(nr_vcpus)		compat_vm_create(nr_vcpus)
#define vm_vcpu_add(vm, id, guest_code)	compat_vcpu_add(vm, id, guest_code)
#define vm_create_with_one_vcpu(vcpu, guest_code)			\
	compat_create_with_one(vcpu, guest_code)

/*
 * 6.0 and 6.1
 */
#ifndef HV_VMX_SYNTHETIC_EXIT_REASON_TRAP_AFTER_FLUSH

#define HYPERV_LINUX_OS_ID		((u64)0x8100 << 48)

/* There these pages are struct vmx_pages's, next to the VMCS. */
struct hyperv_test_pages {
	void *vp_assist;
	u64 vp_assist_gpa;
	void *enlightened_vmcs;
	u64 enlightened_vmcs_gpa;
};

static inline struct hyperv_test_pages *
vcpu_alloc_hyperv_test_pages(struct kvm_vm *vm, gva_t *hv_gva)
{
	struct hyperv_test_pages *hv;
	struct vmx_pages *vmx;
	gva_t vmx_gva;

	/* A copy of what is in there, where the rest is of no use */
	vmx = vcpu_alloc_vmx(vm, &vmx_gva);
	*hv_gva = (gva_t)vmx->shadow_vmcs;
	hv = vmx->shadow_vmcs_hva;
	hv->vp_assist = vmx->vp_assist;
	hv->vp_assist_gpa = vmx->vp_assist_gpa;
	hv->enlightened_vmcs = vmx->enlightened_vmcs;
	hv->enlightened_vmcs_gpa = vmx->enlightened_vmcs_gpa;
	return hv;
}

/* enable_vp_assist() has done it. */
static inline void evmcs_enable(void)
{
}

static inline bool load_evmcs(struct hyperv_test_pages *hv)
{
	if (evmcs_vmptrld(hv->enlightened_vmcs_gpa, hv->enlightened_vmcs))
		return false;

	current_evmcs->revision_id = EVMCS_VERSION;
	return true;
}

/*
 * Hosts of old may list MSRs that they refuse to read: 6.0 does so with the
 * fixed counters, if the vCPU has no PMU.  Drop them from the library's list,
 * whose only use in these tests is to say what vcpu_save_state() reads.
 */
static inline struct kvm_x86_state *compat_save_state(struct kvm_vcpu *vcpu)
{
	struct kvm_msr_list *list = (void *)kvm_get_msr_index_list();
	u32 i, nr = 0;

	for (i = 0; i < list->nmsrs; i++) {
		struct {
			struct kvm_msrs header;
			struct kvm_msr_entry entry;
		} msr = {
			.header.nmsrs = 1,
			.entry.index = list->indices[i],
		};

		/* Returns the number of MSRs that were read. */
		if (__vcpu_ioctl(vcpu, KVM_GET_MSRS, &msr.header) == 1)
			list->indices[nr++] = msr.entry.index;
	}
	list->nmsrs = nr;
	return (vcpu_save_state)(vcpu);
}

#define vcpu_save_state(vcpu)	compat_save_state(vcpu)

/*
 * They may also list MSRs that they refuse to set: 5.10.223 does so with
 * AMD's performance counters on Intel, which read as 0.  Leave out what the
 * vCPU has already as it is to be.
 */
static inline void compat_load_state(struct kvm_vcpu *vcpu,
				     struct kvm_x86_state *state)
{
	u32 i, nr = 0;

	for (i = 0; i < state->msrs.nmsrs; i++) {
		struct kvm_msr_entry entry = state->msrs.entries[i];

		if (vcpu_get_msr(vcpu, entry.index) != entry.data)
			state->msrs.entries[nr++] = entry;
	}
	state->msrs.nmsrs = nr;
	(vcpu_load_state)(vcpu, state);
}

#define vcpu_load_state(vcpu, state)	compat_load_state(vcpu, state)

#endif /* HV_VMX_SYNTHETIC_EXIT_REASON_TRAP_AFTER_FLUSH */

/*
 * 6.0
 */
#ifndef HV_VMCB_NESTED_ENLIGHTENMENTS
#define HV_VMCB_NESTED_ENLIGHTENMENTS	BIT(31)

struct hv_vmcb_enlightenments {
	struct {
		u32 nested_flush_hypercall:1;
		u32 msr_bitmap:1;
	} hv_enlightenments_control;
};
#endif /* HV_VMCB_NESTED_ENLIGHTENMENTS */

#endif /* SELFTEST_KVM_MSR_FILTER_COMPAT_H */
