/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What msr_filter_test.c uses of the KVM selftest library and what the library
 * of kernels before 6.0 lacks, or has under the same name, but with vCPU IDs
 * instead of vCPUs.  With this the test is the same for all kernels.
 */
#ifndef SELFTEST_KVM_MSR_FILTER_COMPAT_H
#define SELFTEST_KVM_MSR_FILTER_COMPAT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

#define COMPAT_VCPU_ID	0

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct kvm_run *run;
};

#ifndef TEST_REQUIRE
#define TEST_REQUIRE(condition)						\
do {									\
	if (!(condition)) {						\
		print_skip("Requirement not met: %s", #condition);	\
		exit(KSFT_SKIP);					\
	}								\
} while (0)
#endif

#define kvm_has_cap(cap)	(kvm_check_cap(cap) > 0)

#define vm_enable_cap(vm, cap, arg)					\
({									\
	struct kvm_enable_cap __cap = { (cap), 0, { (arg) } };		\
									\
	(vm_enable_cap)(vm, &__cap);					\
})

#define vcpu_run(vcpu)							\
	((vcpu_run)((vcpu)->vm, COMPAT_VCPU_ID))
#define get_ucall(vcpu, uc)						\
	((get_ucall)((vcpu)->vm, COMPAT_VCPU_ID, uc))
#define vcpu_get_msr(vcpu, msr)						\
	((vcpu_get_msr)((vcpu)->vm, COMPAT_VCPU_ID, msr))
#define vcpu_set_msr(vcpu, msr, value)					\
	((vcpu_set_msr)((vcpu)->vm, COMPAT_VCPU_ID, msr, value))

static inline struct kvm_vm *vm_create_with_one_vcpu(struct kvm_vcpu **vcpu,
						     void *guest_code)
{
	static struct kvm_vcpu the_vcpu;

	the_vcpu.vm = vm_create_default(COMPAT_VCPU_ID, 0, guest_code);
	the_vcpu.run = vcpu_state(the_vcpu.vm, COMPAT_VCPU_ID);
	*vcpu = &the_vcpu;
	return the_vcpu.vm;
}

/*
 * Before 5.14 there is no KVM_GET_STATS_FD.  Debugfs has the same counters, on
 * every kernel, as sums over the vCPUs of a VM, i.e. for the only vCPU here.
 *
 * Late 5.10.y kernels, 5.10.223 for one, also count an "exit" for each range
 * that kvm_msr_allowed() walks past, i.e. may report more exits than accesses
 * for an MSR that is intercepted, and a few for the update of the filter.
 */
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

#endif /* SELFTEST_KVM_MSR_FILTER_COMPAT_H */
