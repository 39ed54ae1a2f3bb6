// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that KVM honors the MSR filter when it emulates WRMSR in the VM-Exit
 * fastpath, i.e. for IA32_TSC_DEADLINE, and that the filter has no effect on
 * x2APIC's ICR, the other MSR that has a fastpath.
 */
#include "kvm_test_harness.h"
#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "apic.h"

#define LVTT_TSC_DEADLINE	(BIT(18) | APIC_LVT_MASKED | 0xef)
#define NR_WRITES		16

/* Far enough ahead to not expire: days, at a few GHz */
#define DEADLINE(nr)		(BIT_ULL(50) + (nr))

/* A fixed IPI to an APIC that doesn't exist; the fastpath handles fixed IPIs. */
#define ICR_VALUE		0x00000055000000f0ull

static u8 deny[8];
static u8 allow[8] = { 0xff };

static const struct {
	const char *name;
	struct kvm_msr_filter filter;
	bool write_denied;
} filters[] = {
	{ "no filter" },
	{ "writes denied",
	  { .ranges = { { KVM_MSR_FILTER_WRITE, 1, MSR_IA32_TSC_DEADLINE, deny } } },
	  true },
	{ "reads denied",
	  { .ranges = { { KVM_MSR_FILTER_READ, 1, MSR_IA32_TSC_DEADLINE, deny } } } },
	{ "denied by default",
	  { .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	    .ranges = { { KVM_MSR_FILTER_READ, 1, MSR_IA32_TSC_DEADLINE, allow } } },
	  true },
	{ "reads denied by default",
	  { .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	    .ranges = { { KVM_MSR_FILTER_WRITE, 1, MSR_IA32_TSC_DEADLINE, allow } } } },
	{ "x2APIC's ICR denied",
	  { .ranges = { { KVM_MSR_FILTER_WRITE, 1, APIC_BASE_MSR + (APIC_ICR >> 4), deny } } } },
	{ "filter removed" },
};

static void guest_code(void)
{
	u64 nr_gps;
	int i;

	x2apic_enable();
	wrmsr(APIC_BASE_MSR + (APIC_LVTT >> 4), LVTT_TSC_DEADLINE);
	GUEST_SYNC(0);

	for (;;) {
		nr_gps = 0;
		for (i = 0; i < NR_WRITES; i++) {
			if (wrmsr_safe(MSR_IA32_TSC_DEADLINE, DEADLINE(i)))
				nr_gps++;
			wrmsr(APIC_BASE_MSR + (APIC_ICR >> 4), ICR_VALUE);
		}
		GUEST_SYNC(nr_gps);
	}
}

/* Returns the number of writes that exited to userspace, which ignores them. */
static int run_writes(struct kvm_vcpu *vcpu, u32 exit_reason, u64 first_value)
{
	int nr;

	for (nr = 0; ; nr++) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == exit_reason)
			return nr;
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_X86_WRMSR);
		TEST_ASSERT_EQ(vcpu->run->msr.reason, KVM_MSR_EXIT_REASON_FILTER);
		TEST_ASSERT_EQ(vcpu->run->msr.index, MSR_IA32_TSC_DEADLINE);
		TEST_ASSERT_EQ(vcpu->run->msr.data, first_value + nr);
		vcpu->run->msr.error = 0;
	}
}

static void test_filters(u64 exit_reasons)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	int i, nr;
	u64 now;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, exit_reasons);
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	TEST_ASSERT_EQ(run_writes(vcpu, KVM_EXIT_IO, 0), 0);

	for (i = 0; i < ARRAY_SIZE(filters); i++) {
		struct kvm_msr_filter filter = filters[i].filter;
		int nr_denied = filters[i].write_denied ? NR_WRITES : 0;

		vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
		vcpu_set_msr(vcpu, MSR_IA32_TSC_DEADLINE, DEADLINE(NR_WRITES));

		nr = run_writes(vcpu, KVM_EXIT_IO, DEADLINE(0));
		TEST_ASSERT(nr == (exit_reasons ? nr_denied : 0),
			    "%s: %d of %d writes exited to userspace, expected %d",
			    filters[i].name, nr, NR_WRITES,
			    exit_reasons ? nr_denied : 0);

		TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
		TEST_ASSERT(uc.args[1] == (exit_reasons ? 0 : nr_denied),
			    "%s: %lu of %d writes caused a #GP, expected %d",
			    filters[i].name, uc.args[1], NR_WRITES,
			    exit_reasons ? 0 : nr_denied);

		/* Denied writes don't arm the timer. */
		now = vcpu_get_msr(vcpu, MSR_IA32_TSC_DEADLINE);
		TEST_ASSERT(now == DEADLINE(nr_denied ? NR_WRITES : NR_WRITES - 1),
			    "%s: the deadline is 0x%lx", filters[i].name, now);
	}
	kvm_vm_free(vm);
}

TEST(denied_writes_exit)
{
	test_filters(KVM_MSR_EXIT_REASON_FILTER);
}

TEST(denied_writes_cause_gp)
{
	test_filters(0);
}

/* Real mode code at address 0, as the library creates only VMs with an irqchip */
extern char real_mode_code, real_mode_code_end;
asm(".pushsection .rodata\n"
	"real_mode_code:\n"
	".code16\n"
	"movl $0x6e0, %ecx\n"
	"xorl %edx, %edx\n"
	"xorl %eax, %eax\n"
	"1: incl %eax\n"
	"wrmsr\n"
	"cmpl $16, %eax\n"
	"jne 1b\n"
	"hlt\n"
	".code64\n"
	"real_mode_code_end:\n"
	".popsection");

/*
 * Without an in-kernel local APIC, KVM drops writes in the fastpath.  Userspace
 * that emulates the APIC depends on the filter to see them.
 */
TEST(no_irqchip)
{
	struct kvm_msr_filter filter = {
		.ranges = { { KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 8,
			      MSR_IA32_TSC_DEADLINE, deny } },
	};
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;

	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, 1, 0);
	memcpy(addr_gpa2hva(vm, 0), &real_mode_code,
	       &real_mode_code_end - &real_mode_code);

	vcpu = __vm_vcpu_add(vm, 0);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	regs.rip = 0;
	vcpu_regs_set(vcpu, &regs);

	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
	TEST_ASSERT_EQ(run_writes(vcpu, KVM_EXIT_HLT, 1), NR_WRITES);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_TSC_DEADLINE_TIMER));

	return test_harness_run(argc, argv);
}
