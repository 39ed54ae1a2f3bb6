/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of MSR filters use of the KVM selftest library and what the
 * libraries of older kernels lack, or have under the same name, but used in
 * another way, e.g. with vCPU IDs instead of vCPUs, which is the case before
 * 6.0.  With this the tests are the same for all kernels.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_COMPAT_H
#define SELFTEST_KVM_MSR_FILTER_COMPAT_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "vmx.h"

#define gva_t			vm_vaddr_t

/* TEST_REQUIRE() and struct kvm_vcpu are of the same age. */
#ifndef TEST_REQUIRE

#define TEST_REQUIRE(condition)						\
do {									\
	if (!(condition)) {						\
		print_skip("Requirement not met: %s", #condition);	\
		exit(KSFT_SKIP);					\
	}								\
} while (0)

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct kvm_run *run;
	u32 id;
};

struct kvm_x86_cpu_feature {
	u32 function;
	u32 index;
	/* EAX, EBX, ECX and EDX are 0, 1, 2 and 3. */
	u8 reg;
	u8 bit;
};

#define COMPAT_CPU_FEATURE(f, i, r, b)					\
	((struct kvm_x86_cpu_feature) { (f), (i), (r), (b) })
#define X86_FEATURE_VMX		COMPAT_CPU_FEATURE(0x1, 0, 2, 5)
#define X86_FEATURE_X2APIC	COMPAT_CPU_FEATURE(0x1, 0, 2, 21)
#define X86_FEATURE_SPEC_CTRL	COMPAT_CPU_FEATURE(0x7, 0, 3, 26)
#define X86_FEATURE_XFD		COMPAT_CPU_FEATURE(0xd, 1, 0, 4)

/* The register of CPUID that @feature is in; NULL where there is no such one */
static inline u32 *compat_cpuid_reg(struct kvm_cpuid2 *cpuid,
				    struct kvm_x86_cpu_feature feature)
{
	u32 i;

	for (i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == feature.function &&
		    cpuid->entries[i].index == feature.index)
			return &cpuid->entries[i].eax + feature.reg;
	}
	return NULL;
}

static inline bool kvm_cpu_has(struct kvm_x86_cpu_feature feature)
{
	u32 *reg = compat_cpuid_reg(kvm_get_supported_cpuid(), feature);

	return reg && (*reg & (1u << feature.bit));
}

/* What KVM supports, with @feature set or cleared if it is not NULL */
static inline void compat_set_cpuid(struct kvm_vcpu *vcpu, bool set,
				    const struct kvm_x86_cpu_feature *feature)
{
	struct kvm_cpuid2 *supported = kvm_get_supported_cpuid();
	size_t size = sizeof(*supported) +
		      supported->nent * sizeof(supported->entries[0]);
	struct kvm_cpuid2 *cpuid = malloc(size);
	u32 *reg;

	TEST_ASSERT(cpuid, "No memory for %u CPUID entries", supported->nent);
	memcpy(cpuid, supported, size);
	if (feature) {
		reg = compat_cpuid_reg(cpuid, *feature);
		TEST_ASSERT(reg, "CPUID has no leaf 0x%x.%u",
			    feature->function, feature->index);
		*reg &= ~(1u << feature->bit);
		*reg |= (u32)set << feature->bit;
	}
	(vcpu_set_cpuid)(vcpu->vm, vcpu->id, cpuid);
	free(cpuid);
}

#define vcpu_set_cpuid_feature(vcpu, feature)				\
	compat_set_cpuid(vcpu, true, &(feature))
#define vcpu_clear_cpuid_feature(vcpu, feature)				\
	compat_set_cpuid(vcpu, false, &(feature))

#define kvm_has_cap(cap)	(kvm_check_cap(cap) > 0)

#define vm_enable_cap(vm, cap, arg)					\
({									\
	struct kvm_enable_cap __cap = { (cap), 0, { (arg) } };		\
									\
	(vm_enable_cap)(vm, &__cap);					\
})

#define __vm_enable_cap(vm, cap, arg)					\
({									\
	struct kvm_enable_cap __cap = { (cap), 0, { (arg) } };		\
									\
	__vm_ioctl(vm, KVM_ENABLE_CAP, &__cap);				\
})

#define __vm_ioctl(vm, cmd, arg)	ioctl(vm_get_fd(vm), cmd, arg)

static inline void compat_run(struct kvm_vcpu *vcpu)
{
	(vcpu_run)(vcpu->vm, vcpu->id);
}

static inline u64 compat_get_ucall(struct kvm_vcpu *vcpu, struct ucall *uc)
{
	return (get_ucall)(vcpu->vm, vcpu->id, uc);
}

static inline u64 compat_get_msr(struct kvm_vcpu *vcpu, u32 index)
{
	return (vcpu_get_msr)(vcpu->vm, vcpu->id, index);
}

static inline int compat_set_msr(struct kvm_vcpu *vcpu, u32 index, u64 value)
{
	return (_vcpu_set_msr)(vcpu->vm, vcpu->id, index, value);
}

static inline void compat_must_set_msr(struct kvm_vcpu *vcpu, u32 index,
				       u64 value)
{
	(vcpu_set_msr)(vcpu->vm, vcpu->id, index, value);
}

#define vcpu_run(vcpu)			compat_run(vcpu)
#define get_ucall(vcpu, uc)		compat_get_ucall(vcpu, uc)
#define vcpu_get_msr(vcpu, msr)		compat_get_msr(vcpu, msr)
#define _vcpu_set_msr(vcpu, msr, value)	compat_set_msr(vcpu, msr, value)
#define vcpu_set_msr(vcpu, msr, value)	compat_must_set_msr(vcpu, msr, value)

#define vcpu_args_set(vcpu, num, args...)				\
({									\
	struct kvm_vcpu *__vcpu = (vcpu);				\
									\
	(vcpu_args_set)(__vcpu->vm, __vcpu->id, num, ##args);		\
})

static inline struct kvm_vcpu *compat_vcpu(struct kvm_vm *vm, u32 id)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	TEST_ASSERT(vcpu, "No memory for vCPU %u", id);
	vcpu->vm = vm;
	vcpu->run = vcpu_state(vm, id);
	vcpu->id = id;
	compat_set_cpuid(vcpu, false, NULL);
	return vcpu;
}

static inline struct kvm_vm *vm_create_with_one_vcpu(struct kvm_vcpu **vcpu,
						     void *guest_code)
{
	struct kvm_vm *vm = vm_create_default(0, 0, guest_code);

	*vcpu = compat_vcpu(vm, 0);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vm, 0);
	return vm;
}

/*
 * What creates a VM without vCPUs and loads the test into it differs from one
 * old library to the next.  One vCPU more, which nobody runs, is no harm.
 */
#define COMPAT_UNUSED_VCPU_ID	200

static inline struct kvm_vm *compat_vm_create(u32 nr_vcpus)
{
	struct kvm_vm *vm;

	vm = vm_create_default(COMPAT_UNUSED_VCPU_ID, 8 * nr_vcpus, NULL);
	vm_init_descriptor_tables(vm);
	return vm;
}

static inline struct kvm_vcpu *compat_vcpu_add(struct kvm_vm *vm, u32 id,
					       void *guest_code)
{
	vm_vcpu_add_default(vm, id, guest_code);
	vcpu_init_descriptor_tables(vm, id);
	return compat_vcpu(vm, id);
}

#define vm_create(nr_vcpus)		compat_vm_create(nr_vcpus)
#define vm_vcpu_add(vm, id, guest_code)	compat_vcpu_add(vm, id, guest_code)

#define kvm_vm_restart(vm)		((kvm_vm_restart)(vm, O_RDWR))

static inline struct kvm_vcpu *vm_vcpu_recreate(struct kvm_vm *vm, u32 id)
{
	(vm_vcpu_add)(vm, id);
	return compat_vcpu(vm, id);
}

/*
 * The library's functions fail where KVM lists MSRs that it refuses to set, as
 * 5.10.223 does with AMD's on Intel.  What the tests need is here.
 */
struct compat_x86_state {
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	union {
		struct kvm_nested_state nested;
		u8 nested_buffer[16384];
	};
};

static inline struct compat_x86_state *compat_save_state(struct kvm_vcpu *vcpu)
{
	struct compat_x86_state *state = calloc(1, sizeof(*state));

	TEST_ASSERT(state, "No memory for the state of vCPU %u", vcpu->id);
	vcpu_run_complete_io(vcpu->vm, vcpu->id);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_XSAVE, &state->xsave);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_XCRS, &state->xcrs);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_SREGS, &state->sregs);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_VCPU_EVENTS, &state->events);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_MP_STATE, &state->mp_state);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_REGS, &state->regs);
	state->nested.size = sizeof(state->nested_buffer);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_GET_NESTED_STATE, &state->nested);
	return state;
}

static inline void compat_load_state(struct kvm_vcpu *vcpu,
				     struct compat_x86_state *state)
{
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_XSAVE, &state->xsave);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_XCRS, &state->xcrs);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_SREGS, &state->sregs);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_VCPU_EVENTS, &state->events);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_MP_STATE, &state->mp_state);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_REGS, &state->regs);
	vcpu_ioctl(vcpu->vm, vcpu->id, KVM_SET_NESTED_STATE, &state->nested);
}

#define kvm_x86_state			compat_x86_state
#define vcpu_save_state(vcpu)		compat_save_state(vcpu)
#define vcpu_load_state(vcpu, state)	compat_load_state(vcpu, state)
#define kvm_x86_state_cleanup(state)	free(state)

/* These libraries can't say what KVM has of Hyper-V, so it has nothing. */
#define HV_X64_NESTED_MSR_BITMAP	COMPAT_CPU_FEATURE(0x4000000a, 0, 0, 19)

static inline bool kvm_hv_cpu_has(struct kvm_x86_cpu_feature feature)
{
	return false;
}

static inline void vcpu_set_hv_cpuid(struct kvm_vcpu *vcpu)
{
	TEST_FAIL("No Hyper-V for vCPU %u", vcpu->id);
}

#define vcpu_enable_evmcs(vcpu)		vcpu_set_hv_cpuid(vcpu)

/* The one became the other in 5.13.  Which one there is, the linker knows. */
void vm_handle_exception(struct kvm_vm *vm, int vector,
			 void (*handler)(struct ex_regs *)) __weak;
void vm_install_exception_handler(struct kvm_vm *vm, int vector,
				  void (*handler)(struct ex_regs *)) __weak;

static inline void compat_install_handler(struct kvm_vm *vm, int vector,
					  void (*handler)(struct ex_regs *))
{
	if (vm_handle_exception)
		vm_handle_exception(vm, vector, handler);
	else
		vm_install_exception_handler(vm, vector, handler);
}

#define vm_install_exception_handler(vm, vector, handler)		\
	compat_install_handler(vm, vector, handler)

#else /* TEST_REQUIRE */

#define vm_get_fd(vm)		((vm)->fd)

/* From 6.10 on it is the library that calls these two, and nobody else can. */
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

/* From 6.2 on it is this macro, and all that is here as well. */
#ifndef HV_X64_NESTED_MSR_BITMAP
#define HV_X64_NESTED_MSR_BITMAP	KVM_X86_CPU_FEATURE(0x4000000A, 0, EAX, 19)

static inline bool kvm_hv_cpu_has(struct kvm_x86_cpu_feature feature)
{
	const struct kvm_cpuid2 *cpuid;
	u32 i;

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

#endif /* TEST_REQUIRE */

/* Until 6.1 these pages are struct vmx_pages's, next to the VMCS. */
#ifndef HV_VMX_SYNTHETIC_EXIT_REASON_TRAP_AFTER_FLUSH
#ifndef HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP
#define HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP	BIT(1)
#endif

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
#endif /* HV_VMX_SYNTHETIC_EXIT_REASON_TRAP_AFTER_FLUSH */

#ifndef REPORT_GUEST_ASSERT
static inline void compat_report_guest_assert(const struct ucall *uc)
{
	TEST_FAIL("%s at line %lu", (const char *)uc->args[0], uc->args[1]);
}

#define REPORT_GUEST_ASSERT(ucall)	compat_report_guest_assert(&(ucall))
#endif

/* Today the library allocates L2's stack: one for each VMCS that L1 prepares. */
#define COMPAT_NR_L2_STACKS	2
#define COMPAT_L2_STACK_SIZE	512

static inline void compat_prepare_vmcs(struct vmx_pages *vmx, void *l2_rip)
{
	static u64 stacks[COMPAT_NR_L2_STACKS][COMPAT_L2_STACK_SIZE]
		__aligned(16);
	static unsigned int nr;

	GUEST_ASSERT(nr < COMPAT_NR_L2_STACKS);
	/* As if by a call: the return address is where 16 bytes end. */
	(prepare_vmcs)(vmx, l2_rip, &stacks[nr++][COMPAT_L2_STACK_SIZE - 1]);
}

#define prepare_vmcs(vmx, l2_rip)	compat_prepare_vmcs(vmx, l2_rip)

/*
 * Before 5.14 there is no KVM_GET_STATS_FD, and for a long time no such macro
 * in the library.  Debugfs has the same counters, on every kernel, as sums over
 * the vCPUs of a VM, i.e. for the vCPU that runs if the others don't.
 *
 * Late 5.10.y kernels, 5.10.223 for one, also count an "exit" for each range
 * that kvm_msr_allowed() walks past, i.e. may report more exits than accesses
 * for an MSR that is intercepted, and a few for the update of the filter.
 */
#ifndef vcpu_get_stat
#define vcpu_get_stat(vcpu, stat)	compat_get_stat((vcpu)->vm, #stat)

static inline u64 compat_get_stat(struct kvm_vm *vm, const char *name)
{
	unsigned long long value;
	char path[128];
	FILE *file;
	int ret;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s",
		 getpid(), vm_get_fd(vm), name);
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
#endif /* vcpu_get_stat */

#endif /* SELFTEST_KVM_MSR_FILTER_COMPAT_H */
