// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that KVM heeds the MSR filter where it emulates WRMSR right after the
 * VM-Exit, before it does anything else: for IA32_TSC_DEADLINE, and x2APIC's
 * ICR, which can't be filtered.
 *
 * On VMX older kernels take that path only with the preemption timer, others
 * always.
 */
#include "msr_filter.h"
#include "apic.h"

#ifndef APIC_LVT_TIMER_TSCDEADLINE
#define APIC_LVTT			0x320
#define APIC_LVT_TIMER_TSCDEADLINE	(2 << 17)
#endif
#ifndef APIC_LVT_MASKED
#define APIC_LVT_MASKED			BIT(16)
#endif
#ifndef APIC_ICR
#define APIC_ICR			0x300
#endif

#define MSR_TSC_DEADLINE	0x6e0
#define MSR_X2APIC(reg)		(0x800 + ((reg) >> 4))

/* So far ahead that the deadline does not pass: minutes, at some GHz */
#define DEADLINE_AHEAD		BIT_ULL(40)

/* A fixed interrupt to an APIC that there is not: that is what is fast. */
#define ICR_VALUE		0x00000055000000f0ull

static u8 deny[sizeof(long)];
static u8 allow[sizeof(long)] = { 0xff };

#define TIMER_RANGE(_flags, _bitmap)	\
	MSR_RANGE(_flags, MSR_TSC_DEADLINE, 1, _bitmap)

/* A filter, and who deals with the accesses to IA32_TSC_DEADLINE then. */
static const struct timer_filter {
	const char *name;
	struct kvm_msr_filter filter;
	bool read_denied;
	bool write_denied;
} filters[] = {
	{ "no filter" },
	{ "writes denied",
	  { .ranges = { TIMER_RANGE(FILTER_W, deny) } },
	  .write_denied = true },
	{ "reads denied",
	  { .ranges = { TIMER_RANGE(FILTER_R, deny) } },
	  .read_denied = true },
	{ "reads and writes denied",
	  { .ranges = { TIMER_RANGE(FILTER_RW, deny) } },
	  .read_denied = true, .write_denied = true },
	{ "all denied",
	  { .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	    .ranges = { MSR_RANGE(FILTER_RW, 0x5f000000, 1, deny) } },
	  .read_denied = true, .write_denied = true },
	{ "all denied but writes",
	  { .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	    .ranges = { TIMER_RANGE(FILTER_W, allow) } },
	  .read_denied = true },
	{ "filter removed" },
};

static void guest_code(struct guest_msr_work *work)
{
	x2apic_enable();
	wrmsr(MSR_X2APIC(APIC_LVTT),
	      APIC_LVT_MASKED | APIC_LVT_TIMER_TSCDEADLINE | 0xef);
	guest_msr_code(work);
}

/*
 * Not all kernels count the VM-Exits that they deal with so early, and some CPUs
 * virtualize the ICR: who of the two dealt with an access is of no interest.
 */
static void expect_handler(struct kvm_vcpu *vcpu, u32 index, bool write,
			   u64 value, bool denied, enum msr_handler if_denied,
			   const char *when)
{
	struct msr_outcome outcome;

	outcome = vcpu_access_msr(vcpu, 0, index, write, value, -1ull);
	if (outcome.handler == MSR_BY_CPU && !outcome.gp)
		outcome.handler = MSR_BY_KVM;
	assert_msr_handler(&outcome, denied ? if_denied : MSR_BY_KVM, index,
			   write, when);
}

static void test_filter(struct kvm_vcpu *vcpu, const struct timer_filter *f,
			enum msr_handler if_denied)
{
	u64 before, now, deadline;

	vm_set_msr_filter(vcpu->vm, &f->filter);

	/* The timer holds the last deadline that was not denied, or none. */
	before = vcpu_get_msr(vcpu, MSR_TSC_DEADLINE);
	deadline = vcpu_get_msr(vcpu, MSR_IA32_TSC) + DEADLINE_AHEAD;
	expect_handler(vcpu, MSR_TSC_DEADLINE, true, deadline, f->write_denied,
		       if_denied, f->name);
	now = vcpu_get_msr(vcpu, MSR_TSC_DEADLINE);
	TEST_ASSERT(now == (f->write_denied ? before : deadline),
		    "%s: the deadline is 0x%lx, was 0x%lx, the guest wrote 0x%lx",
		    f->name, now, before, deadline);
	expect_handler(vcpu, MSR_TSC_DEADLINE, false, 0, f->read_denied,
		       if_denied, f->name);

	/* No filter is for the x2APIC. */
	expect_handler(vcpu, MSR_X2APIC(APIC_ICR), true, ICR_VALUE, false,
		       if_denied, f->name);
	printf("%s: ok\n", f->name);
}

static void test_filters(u64 exit_reasons, enum msr_handler if_denied)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	unsigned int i;

	vm = vm_create(1);
	vm_init_msr_test(vm);
	if (exit_reasons)
		vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, exit_reasons);
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	vcpu_init_msr_work(vcpu, 0);
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);

	printf("denied accesses are to be dealt with by %s\n",
	       msr_handler_names[if_denied]);
	for (i = 0; i < ARRAY_SIZE(filters); i++)
		test_filter(vcpu, &filters[i], if_denied);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_TSC_DEADLINE_TIMER));

	/* Line by line, should the test hang. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);

	test_filters(KVM_MSR_EXIT_REASON_FILTER, MSR_BY_USER);
	test_filters(0, MSR_BY_GP);
	return 0;
}
