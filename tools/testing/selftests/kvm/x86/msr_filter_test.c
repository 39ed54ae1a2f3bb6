// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify who handles a guest's MSR accesses while userspace changes the MSR
 * filter: userspace, or a #GP, if the filter denies the access; otherwise, the
 * CPU if KVM passes the MSR through, and KVM if it doesn't.  Bad input to the
 * ioctl must leave the filter as it is.
 */
#include <sys/mman.h>

#include "kvm_test_harness.h"
#include "msr_filter.h"
#include "apic.h"

/* Each test runs in a process of its own. */
static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static u64 exit_reasons = KVM_MSR_EXIT_REASON_FILTER;
static bool is_svm;
static bool cstate_exits_disabled;

enum msr_kind {
	PLAIN,
	VOLATILE,	/* The value isn't what was last written. */
	CSTATE,		/* Passed through with KVM_X86_DISABLE_EXITS_CSTATE */
	SPEC_CTRL,	/* Passed through once it has been used */
};

static const struct test_msr {
	u32 index;
	enum msr_handler vmx_reader, vmx_writer, svm;
	enum msr_kind kind;
	u64 bits;
} msrs[] = {
	{ MSR_FS_BASE, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, -1ull },
	{ MSR_GS_BASE, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, -1ull },
	{ MSR_KERNEL_GS_BASE, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, -1ull },
	{ MSR_IA32_SYSENTER_CS, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, 0xffff },
	{ MSR_IA32_SYSENTER_ESP, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, 0xffffffff },
	{ MSR_IA32_SYSENTER_EIP, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, PLAIN, 0xffffffff },
	{ MSR_IA32_TSC, MSR_BY_CPU, MSR_BY_KVM, MSR_BY_KVM, VOLATILE, -1ull },
	{ MSR_IA32_SPEC_CTRL, MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU, SPEC_CTRL, 1 },
	{ MSR_CORE_C1_RES, MSR_BY_GP, MSR_BY_GP, MSR_BY_GP, CSTATE, 0 },
	{ MSR_CORE_C3_RESIDENCY, MSR_BY_GP, MSR_BY_GP, MSR_BY_GP, CSTATE, 0 },
	{ MSR_CORE_C6_RESIDENCY, MSR_BY_GP, MSR_BY_GP, MSR_BY_GP, CSTATE, 0 },
	{ MSR_CORE_C7_RESIDENCY, MSR_BY_GP, MSR_BY_GP, MSR_BY_GP, CSTATE, 0 },
	{ MSR_LSTAR, MSR_BY_KVM, MSR_BY_KVM, MSR_BY_CPU, PLAIN, -1ull },
	{ MSR_IA32_CR_PAT, MSR_BY_KVM, MSR_BY_KVM, MSR_BY_KVM, PLAIN, 0x0404040404 },
	/* Only AMD's CPUs have intercepts for MSRs in this range. */
	{ MSR_K7_HWCR, MSR_BY_KVM, MSR_BY_KVM, MSR_BY_KVM, VOLATILE, BIT_ULL(18) },
	{ MSR_NONE, MSR_BY_GP, MSR_BY_GP, MSR_BY_GP, VOLATILE, 0 },
};

static u8 deny[KVM_MSR_FILTER_MAX_BITMAP_SIZE];
static u8 allow[KVM_MSR_FILTER_MAX_BITMAP_SIZE] = {
	[0 ... KVM_MSR_FILTER_MAX_BITMAP_SIZE - 1] = 0xff,
};

/* One MSR in the middle of a range */
static u8 allow_but_5th[8] = { 0xef, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static u8 deny_but_5th[8] = { 0x10 };

#define NR_MAX			(KVM_MSR_FILTER_MAX_BITMAP_SIZE * BITS_PER_BYTE)
#define LOW(flags, bitmap)	MSR_RANGE(flags, 0, NR_MAX, bitmap)
#define HIGH(flags, bitmap)	MSR_RANGE(flags, 0xc0000000, NR_MAX, bitmap)
#define ONE(flags, msr, bitmap)	MSR_RANGE(flags, msr, 1, bitmap)
#define UNUSED			MSR_RANGE(FILTER_RW, 0x5f000000, 64, deny)

#define ALLOW(_ranges...)						\
	{ .flags = KVM_MSR_FILTER_DEFAULT_ALLOW, .ranges = { _ranges } }
#define DENY(_ranges...)						\
	{ .flags = KVM_MSR_FILTER_DEFAULT_DENY, .ranges = { _ranges } }

static const struct kvm_msr_filter deny_all =
	DENY(ONE(FILTER_RW, MSR_NONE, deny));

/* All filters, in the order in which they are installed */
static const struct kvm_msr_filter filters[] = {
	ALLOW(ONE(FILTER_RW, MSR_FS_BASE, deny)),
	ALLOW(ONE(FILTER_R, MSR_FS_BASE, deny)),
	ALLOW(ONE(FILTER_W, MSR_FS_BASE, deny)),
	ALLOW(),
	ALLOW(LOW(FILTER_RW, deny)),
	ALLOW(HIGH(FILTER_RW, deny)),
	ALLOW(LOW(FILTER_R, deny), HIGH(FILTER_W, deny)),
	ALLOW(LOW(FILTER_W, deny), HIGH(FILTER_R, deny)),
	DENY(ONE(FILTER_R, MSR_FS_BASE, allow)),
	DENY(ONE(FILTER_W, MSR_FS_BASE, allow)),
	DENY(LOW(FILTER_RW, allow), HIGH(FILTER_RW, allow)),
	DENY(ONE(FILTER_RW, MSR_NONE, deny)),
	ALLOW(),
	/* MSRs right before and after a range, and its first and last MSR */
	ALLOW(MSR_RANGE(FILTER_RW, MSR_IA32_TSC - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_EIP + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_LSTAR - 1, 1, deny),
	      MSR_RANGE(FILTER_RW, MSR_KERNEL_GS_BASE + 1, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_NONE - 3, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_NONE + 1, 3, deny)),
	ALLOW(MSR_RANGE(FILTER_RW, MSR_IA32_TSC - 2, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_EIP, 3, deny),
	      MSR_RANGE(FILTER_RW, MSR_LSTAR - 1, 2, deny),
	      MSR_RANGE(FILTER_RW, MSR_KERNEL_GS_BASE, 3, deny),
	      MSR_RANGE(FILTER_R, MSR_NONE - 2, 3, deny)),
	ALLOW(MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_ESP - 4, 64, allow_but_5th),
	      MSR_RANGE(FILTER_RW, MSR_GS_BASE - 4, 64, allow_but_5th),
	      MSR_RANGE(FILTER_RW, MSR_NONE - 4, 64, deny_but_5th)),
	/* The first range that matches decides. */
	ALLOW(ONE(FILTER_RW, MSR_GS_BASE, allow),
	      ONE(FILTER_RW, MSR_IA32_SYSENTER_EIP, allow),
	      ONE(FILTER_W, MSR_NONE, deny), ONE(FILTER_RW, MSR_NONE, allow),
	      LOW(FILTER_RW, deny), HIGH(FILTER_RW, deny)),
	DENY(ONE(FILTER_RW, MSR_GS_BASE, deny),
	     ONE(FILTER_RW, MSR_IA32_SYSENTER_EIP, deny),
	     LOW(FILTER_RW, allow), HIGH(FILTER_RW, allow)),
	DENY(HIGH(FILTER_R, deny), LOW(FILTER_R, deny),
	     HIGH(FILTER_RW, allow), LOW(FILTER_RW, allow)),
	ALLOW(HIGH(FILTER_W, allow), LOW(FILTER_W, allow),
	      HIGH(FILTER_RW, deny), LOW(FILTER_RW, deny)),
	/* As many ranges as possible */
	ALLOW([0 ... 15] = UNUSED),
	ALLOW([0 ... 14] = UNUSED, [15] = MSR_RANGE(FILTER_RW, MSR_FS_BASE, 3, deny)),
	ALLOW([0 ... 14] = UNUSED, [15] = ONE(FILTER_RW, MSR_NONE, deny)),
	DENY([0 ... 14] = UNUSED, [15] = LOW(FILTER_RW, allow)),
	ALLOW(ONE(FILTER_W, MSR_K7_HWCR, deny)),
	ALLOW(),
};

static void guest_x2apic_code(struct guest_msr_access *access)
{
	x2apic_enable();
	guest_access_msrs(access);
}

static void create_vm(void)
{
	vm = vm_create(1);
	is_svm = kvm_cpu_has(X86_FEATURE_SVM);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, exit_reasons);
}

static void add_vcpu(void *guest_code)
{
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	vcpu_init_msr_access(vcpu);
}

static struct msr_outcome expected_outcome(const struct test_msr *msr, bool write,
					   const struct kvm_msr_filter *filter)
{
	struct msr_outcome expected = {
		.handler = is_svm ? msr->svm : write ? msr->vmx_writer :
						       msr->vmx_reader,
		.reason = KVM_MSR_EXIT_REASON_UNKNOWN,
	};

	if (msr->kind == CSTATE && cstate_exits_disabled && !is_svm)
		expected.handler = write ? MSR_BY_GP : MSR_BY_CPU;
	if (!msr_filter_allows(filter, msr->index, write)) {
		expected.handler = MSR_BY_GP;
		expected.reason = KVM_MSR_EXIT_REASON_FILTER;
	} else if (msr->kind == CSTATE && write && cstate_exits_disabled) {
		expected.reason = KVM_MSR_EXIT_REASON_INVAL;
	}
	if (expected.handler == MSR_BY_GP && (expected.reason & exit_reasons))
		expected.handler = MSR_BY_USER;
	return expected;
}

/* Verify the value where the access is handled. */
static void check_access(const struct test_msr *msr, bool write,
			 const struct kvm_msr_filter *filter)
{
	struct msr_outcome outcome, expected = expected_outcome(msr, write, filter);
	u64 old = MSR_VALUE_IN_MSR & msr->bits;
	u64 new = MSR_VALUE_WRITTEN & msr->bits;
	char when[32] = "no filter";

	if (filter >= filters && filter < filters + ARRAY_SIZE(filters))
		snprintf(when, sizeof(when), "filter %ld", filter - filters);
	else if (filter)
		snprintf(when, sizeof(when), "other filter");
	if (msr->kind == PLAIN)
		vcpu_set_msr(vcpu, msr->index, old);
	else if (msr->index == MSR_IA32_TSC)
		new = vcpu_get_msr(vcpu, msr->index);
	else
		new = msr->bits;

	outcome = vcpu_expect_msr_handler(vcpu, msr->index, write, new,
					  expected.handler, when);
	if (outcome.handler == MSR_BY_USER) {
		TEST_ASSERT_EQ(outcome.reason, expected.reason);
		if (!write)
			TEST_ASSERT_EQ(outcome.read, MSR_VALUE_FROM_USER);
		new = old;
	}
	if (msr->kind == PLAIN && !outcome.gp && write)
		TEST_ASSERT_EQ(vcpu_get_msr(vcpu, msr->index), new);
	else if (msr->kind == PLAIN && !outcome.gp && outcome.handler != MSR_BY_USER)
		TEST_ASSERT_EQ(outcome.read, old);
}

static bool has_spec_ctrl;

static void check_all(const struct kvm_msr_filter *filter)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		if (msrs[i].kind == SPEC_CTRL && !has_spec_ctrl)
			continue;
		check_access(&msrs[i], false, filter);
		check_access(&msrs[i], true, filter);
	}
}

static void check_filters(int nr_filters)
{
	int i;

	check_all(NULL);
	for (i = 0; i < nr_filters; i++) {
		/* Filters that were replaced must have no effect. */
		if (i % 3 == 1)
			vm_set_msr_filter(vm, filters[i].flags ? &msr_filter_none :
								 &deny_all);
		vm_set_msr_filter(vm, &filters[i]);
		check_all(&filters[i]);
	}
}

static void enable_spec_ctrl(void)
{
	has_spec_ctrl = !is_svm && vcpu_enable_spec_ctrl(vcpu);
	if (has_spec_ctrl)
		vcpu_set_msr(vcpu, MSR_IA32_SPEC_CTRL, 1);
}

TEST(denied_accesses_exit)
{
	create_vm();
	add_vcpu(guest_access_msrs);
	enable_spec_ctrl();
	check_filters(ARRAY_SIZE(filters));
}

TEST(denied_accesses_cause_gp)
{
	exit_reasons = 0;
	create_vm();
	add_vcpu(guest_access_msrs);
	check_filters(ARRAY_SIZE(filters) / 2);
}

TEST(unknown_and_invalid_accesses_exit)
{
	exit_reasons = KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN |
		       KVM_MSR_EXIT_REASON_INVAL;
	create_vm();
	add_vcpu(guest_access_msrs);
	check_filters(ARRAY_SIZE(filters) / 2);
}

/* No MSR may be missed, and no other MSR may be affected. */
TEST(each_msr_denied)
{
	struct kvm_msr_filter filter = ALLOW();
	int i;

	create_vm();
	add_vcpu(guest_access_msrs);
	enable_spec_ctrl();
	for (i = 0; i < 2 * ARRAY_SIZE(msrs); i++) {
		filter.ranges[0] = (struct kvm_msr_filter_range)
			ONE(msr_filter_flag(i % 2), msrs[i / 2].index, deny);
		vm_set_msr_filter(vm, &filter);
		check_all(&filter);
	}
}

TEST(passed_through_cstate_msrs)
{
	if (!(kvm_check_cap(KVM_CAP_X86_DISABLE_EXITS) & KVM_X86_DISABLE_EXITS_CSTATE))
		SKIP(return, "KVM can't disable exits for C-states");

	create_vm();
	vm_enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_CSTATE);
	cstate_exits_disabled = true;
	vm_set_msr_filter(vm, &deny_all);
	add_vcpu(guest_access_msrs);
	check_all(&deny_all);
	vm_set_msr_filter(vm, &msr_filter_none);
	check_filters(ARRAY_SIZE(filters));
}

static void expect(u32 msr, u64 value, enum msr_handler reader,
		   enum msr_handler writer, const char *when)
{
	vcpu_expect_msr_handler(vcpu, msr, false, 0, reader, when);
	vcpu_expect_msr_handler(vcpu, msr, true, value, writer, when);
}

/* KVM passes SPEC_CTRL through from the first write of a value other than 0. */
TEST(spec_ctrl)
{
	const u32 msr = MSR_IA32_SPEC_CTRL;

	create_vm();
	vm_deny_msr(vm, msr, FILTER_W);
	add_vcpu(guest_access_msrs);
	if (is_svm || !vcpu_enable_spec_ctrl(vcpu) ||
	    vcpu_access_msr(vcpu, msr, false, 0).gp)
		SKIP(return, "SPEC_CTRL isn't available");

	expect(msr, 1, MSR_BY_KVM, MSR_BY_USER, "not used, writes denied");
	vm_deny_msr(vm, msr, 0);
	expect(msr, 0, MSR_BY_KVM, MSR_BY_KVM, "not used, filter removed");
	vm_deny_msr(vm, msr, FILTER_R);
	vcpu_expect_msr_handler(vcpu, msr, true, 1, MSR_BY_CPU, "first write");
	expect(msr, 1, MSR_BY_USER, MSR_BY_CPU, "used, reads denied");
	vm_deny_msr(vm, msr, FILTER_W);
	expect(msr, 1, MSR_BY_CPU, MSR_BY_USER, "used, writes denied");
	vm_deny_msr(vm, msr, 0);
	expect(msr, 1, MSR_BY_CPU, MSR_BY_CPU, "used, filter removed");
}

/* x2APIC MSRs can't be filtered, but their neighbors can. */
TEST(x2apic)
{
	const u32 apic_msrs[] = { APIC_BASE_MSR + (APIC_ID >> 4),
				  APIC_BASE_MSR + (APIC_TASKPRI >> 4), 0x8ff };
	struct kvm_msr_filter range = ALLOW(MSR_RANGE(FILTER_RW, 0x7ff, 0x102, deny));
	enum msr_handler handler;
	int i;

	create_vm();
	add_vcpu(guest_x2apic_code);
	for (i = 0; i < ARRAY_SIZE(apic_msrs); i++) {
		vm_set_msr_filter(vm, &msr_filter_none);
		handler = vcpu_access_msr(vcpu, apic_msrs[i], false, 0).handler;
		vm_set_msr_filter(vm, &range);
		vcpu_expect_msr_handler(vcpu, apic_msrs[i], false, 0, handler,
					"x2APIC MSRs denied");
		vm_set_msr_filter(vm, &deny_all);
		vcpu_expect_msr_handler(vcpu, apic_msrs[i], false, 0, handler,
					"all MSRs denied");
	}
	vm_set_msr_filter(vm, &range);
	expect(0x7ff, 0, MSR_BY_USER, MSR_BY_USER, "x2APIC MSRs denied");
	expect(0x900, 0, MSR_BY_USER, MSR_BY_USER, "x2APIC MSRs denied");
}

/* Bad input, and bitmaps at the end of accessible memory */
static const struct {
	struct kvm_msr_filter filter;
	int error;
	/* The first bitmap, in longs, ends at this offset from the end of memory. */
	int end;
} bad[] = {
	{ { .flags = 2, .ranges = { ONE(FILTER_RW, MSR_GS_BASE, deny) } }, EINVAL },
	{ { .flags = 2 }, EINVAL },
	{ DENY(), EINVAL },
	{ DENY(MSR_RANGE(FILTER_RW, MSR_GS_BASE, 0, deny)), EINVAL },
	{ ALLOW(ONE(0, MSR_GS_BASE, deny)), EINVAL },
	{ ALLOW(ONE(4, MSR_GS_BASE, deny)), EINVAL },
	{ ALLOW(ONE(4 | FILTER_RW, MSR_GS_BASE, deny)), EINVAL },
	{ ALLOW(UNUSED, ONE(0, MSR_GS_BASE, deny)), EINVAL },
	{ ALLOW([0 ... 14] = UNUSED, [15] = ONE(4, MSR_GS_BASE, deny)), EINVAL },
	{ ALLOW(MSR_RANGE(FILTER_RW, 0, NR_MAX + 1, deny)), EINVAL },
	{ ALLOW(MSR_RANGE(FILTER_RW, 0, 0x80000000, deny)), EINVAL },
	{ ALLOW(MSR_RANGE(FILTER_RW, 0, 0xffffffff, deny)), EINVAL },
	{ ALLOW(UNUSED, MSR_RANGE(FILTER_RW, 0x10, 0x10000, deny)), EINVAL },
	{ ALLOW(ONE(FILTER_RW, MSR_GS_BASE, NULL)), EFAULT },
	{ ALLOW(ONE(FILTER_RW, MSR_GS_BASE, (u8 *)0xffffffff81000000ul)), EFAULT },
	{ ALLOW(MSR_RANGE(FILTER_RW, MSR_GS_BASE, 64, NULL)), EFAULT, 8 },
	{ ALLOW(MSR_RANGE(FILTER_RW, MSR_GS_BASE, 128, NULL)), EFAULT, 8 },
	/* KVM reads bitmaps in units of long. */
	{ ALLOW(ONE(FILTER_RW, MSR_GS_BASE, NULL)), EFAULT, 7 },
	{ ALLOW(UNUSED, ONE(FILTER_RW, MSR_GS_BASE, NULL)), EFAULT },
};

TEST(bad_input)
{
	const struct kvm_msr_filter deny_reads = ALLOW(ONE(FILTER_R, MSR_FS_BASE, deny));
	struct kvm_msr_filter filter;
	int i, ret, size = getpagesize();
	u8 *mem, *end;

	create_vm();
	add_vcpu(guest_access_msrs);
	mem = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed");
	end = mem + size;
	TEST_ASSERT(!mprotect(end, size, PROT_NONE), "mprotect() failed");

	vm_set_msr_filter(vm, &deny_reads);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		filter = bad[i].filter;
		if (bad[i].end)
			filter.ranges[0].bitmap =
				end + bad[i].end -
				DIV_ROUND_UP(filter.ranges[0].nmsrs, 64) * sizeof(long);
		ret = __vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
		TEST_ASSERT(ret == -1 && errno == bad[i].error,
			    "Filter %d: %d (%s), expected %s", i, ret,
			    strerror(errno), strerror(bad[i].error));
		expect(MSR_FS_BASE, 0, MSR_BY_USER, MSR_BY_CPU, "bad filter");
		expect(MSR_GS_BASE, 0, MSR_BY_CPU, MSR_BY_CPU, "bad filter");
	}
	ret = __vm_ioctl(vm, KVM_X86_SET_MSR_FILTER,
			 (struct kvm_msr_filter *)(end - sizeof(filter) / 2));
	TEST_ASSERT(ret == -1 && errno == EFAULT, "Half a filter: %d", ret);

	/* A bitmap that ends right at the end of memory is good. */
	filter = (struct kvm_msr_filter)
		ALLOW(MSR_RANGE(FILTER_RW, MSR_GS_BASE, 64, end - 8));
	vm_set_msr_filter(vm, &filter);
	expect(MSR_GS_BASE, 0, MSR_BY_USER, MSR_BY_USER, "denied");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_VMX) || kvm_cpu_has(X86_FEATURE_SVM));

	return test_harness_run(argc, argv);
}
