// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that KVM_X86_SET_MSR_FILTER refuses bad input with the right errno,
 * and that the filter that was in force before stays in force: see who deals
 * with the guest's accesses afterwards, for filters that deny and one that
 * allows.
 */
#include <errno.h>
#include <sys/mman.h>

#include "msr_filter.h"

#define NR_MAX_MSRS	(KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8)
#define FLAG_UNKNOWN	4

static void guest_code(struct guest_msr_work *work)
{
	guest_msr_code(work);
}

static u8 deny[KVM_MSR_FILTER_MAX_BITMAP_SIZE + 8];
static u8 allow[KVM_MSR_FILTER_MAX_BITMAP_SIZE + 8] = {
	[0 ... KVM_MSR_FILTER_MAX_BITMAP_SIZE + 7] = 0xff,
};

/*
 * Where the bitmap of a case's first range is, if not where its filter says: up
 * to the end of a page that nothing follows, or 8 bytes beyond that.
 */
enum special_bitmap {
	NOT_SPECIAL,
	UP_TO_PAGE_END,
	BEYOND_PAGE_END,
};

#define FS_BASE_DENIED	MSR_RANGE(FILTER_RW, MSR_FS_BASE, 1, deny)
#define UNUSED		MSR_RANGE(FILTER_RW, 0x5f000000, 64, deny)

#define FILTER(_flags, _ranges...)	\
	{ .flags = (_flags), .ranges = { _ranges } }

/*
 * What is handed to the ioctl and what that returns: 0 or an errno.  Where it
 * would be right for a kernel to be stricter there are two.  And, for input
 * that is accepted, who deals with FS_BASE and reads of the TSC from then on.
 */
static const struct ioctl_case {
	const char *name;
	struct kvm_msr_filter filter;
	int error;
	int or_error;
	/* For the first range of the filter */
	enum special_bitmap bitmap;
	enum msr_handler fs_base_reader;
	enum msr_handler fs_base_writer;
	enum msr_handler tsc_reader;
} cases[] = {
	/* Flags */
	{ "an unknown flag", FILTER(2, FS_BASE_DENIED), EINVAL },
	{ "an unknown flag and a known one",
	  FILTER(KVM_MSR_FILTER_DEFAULT_DENY | 0x80000000, FS_BASE_DENIED),
	  EINVAL },
	{ "an unknown flag and nothing else", FILTER(2), EINVAL },
	{ "a range with no flags",
	  FILTER(0, MSR_RANGE(0, MSR_FS_BASE, 1, allow)), EINVAL },
	{ "a range with an unknown flag alone",
	  FILTER(0, MSR_RANGE(FLAG_UNKNOWN, MSR_FS_BASE, 1, allow)), EINVAL },
	{ "a range with an unknown flag and known ones",
	  FILTER(0, MSR_RANGE(FLAG_UNKNOWN | FILTER_RW, MSR_FS_BASE, 1, allow)),
	  EINVAL },
	{ "a good range, then one with no flags",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0x10, 1, deny),
		 MSR_RANGE(0, MSR_FS_BASE, 1, allow)), EINVAL },
	{ "15 good ranges, then one with an unknown flag",
	  FILTER(0, [0 ... 14] = UNUSED,
		 [15] = MSR_RANGE(FLAG_UNKNOWN, MSR_FS_BASE, 1, deny)),
	  EINVAL },

	/* Sizes */
	{ "denied by default with no ranges",
	  FILTER(KVM_MSR_FILTER_DEFAULT_DENY), EINVAL },
	{ "denied by default with ranges of no MSRs",
	  FILTER(KVM_MSR_FILTER_DEFAULT_DENY,
		 MSR_RANGE(FILTER_RW, MSR_FS_BASE, 0, deny),
		 MSR_RANGE(FILTER_RW, MSR_FS_BASE, 0, deny)), EINVAL },
	{ "a range of one MSR too many",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0, NR_MAX_MSRS + 1, deny)), EINVAL },
	{ "a range of 2^31 MSRs",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0, 0x80000000, deny)), EINVAL },
	{ "a range of 2^32 - 1 MSRs",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0, 0xffffffff, deny)), EINVAL },
	{ "a good range, then one too large",
	  FILTER(0, FS_BASE_DENIED, MSR_RANGE(FILTER_RW, 0x10, 0x10000, deny)),
	  EINVAL },

	/* Pointers */
	{ "no bitmap",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 1, NULL)), EFAULT },
	{ "a bitmap in the kernel",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 1,
			      (u8 *)0xffffffff81000000ul)), EFAULT },
	{ "a bitmap that begins where no memory is",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 64, NULL)), EFAULT,
	  .bitmap = BEYOND_PAGE_END },
	{ "a bitmap that ends where no memory is",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 128, NULL)), EFAULT,
	  .bitmap = BEYOND_PAGE_END },
	{ "a good range, then one with no bitmap",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0x10, 1, deny),
		 MSR_RANGE(FILTER_RW, MSR_FS_BASE, 1, NULL)), EFAULT },

	/* What looks odd, but isn't bad */
	{ "no ranges", FILTER(0) },
	{ "a range of no MSRs",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 0, deny)) },
	{ "a range of no MSRs, with no bitmap",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 0, NULL)) },
	/* KVM does not look at what it does not use, but might. */
	{ "a range of no MSRs, with unknown flags",
	  FILTER(0, MSR_RANGE(FLAG_UNKNOWN, MSR_FS_BASE, 0, deny)),
	  .or_error = EINVAL },
	{ "a range of no MSRs, then one of FS_BASE",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE, 0, allow),
		 FS_BASE_DENIED),
	  .fs_base_reader = MSR_BY_USER, .fs_base_writer = MSR_BY_USER },
	{ "denied by default with one range, of reads of FS_BASE",
	  FILTER(KVM_MSR_FILTER_DEFAULT_DENY,
		 MSR_RANGE(FILTER_R, MSR_FS_BASE, 1, allow)),
	  .fs_base_writer = MSR_BY_USER, .tsc_reader = MSR_BY_USER },
	{ "a range of as many MSRs as possible, up to FS_BASE",
	  FILTER(0, MSR_RANGE(FILTER_RW, MSR_FS_BASE - NR_MAX_MSRS + 1,
			      NR_MAX_MSRS, deny)),
	  .fs_base_reader = MSR_BY_USER, .fs_base_writer = MSR_BY_USER },
	{ "a bitmap up to where no memory is",
	  FILTER(0, MSR_RANGE(FILTER_W, MSR_FS_BASE, 64, NULL)),
	  .bitmap = UP_TO_PAGE_END, .fs_base_writer = MSR_BY_USER },
	{ "16 ranges, the last one of FS_BASE",
	  FILTER(0, [0 ... 14] = UNUSED, [15] = FS_BASE_DENIED),
	  .fs_base_reader = MSR_BY_USER, .fs_base_writer = MSR_BY_USER },
	/*
	 * Ranges that go beyond the last MSR index: KVM does not refuse them,
	 * but might.  They do not go on with MSR 0, in particular not with the
	 * TSC, which is MSR 0x10.
	 */
	{ "a range beyond the last MSR",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0xfffffff0, 0x40, deny)),
	  .or_error = EINVAL },
	{ "a range beyond the last MSR, then one of FS_BASE",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0xfffffff0, 0x40, deny),
		 MSR_RANGE(FILTER_R, MSR_FS_BASE, 1, deny)),
	  .or_error = EINVAL, .fs_base_reader = MSR_BY_USER },
	{ "a range that ends with the last MSR",
	  FILTER(0, MSR_RANGE(FILTER_RW, 0xffffffc0, 0x40, deny)) },
};

/* Filters that are in force when the ioctl is tried, and what they do */
static const struct in_force {
	const char *name;
	struct kvm_msr_filter filter;
	enum msr_handler fs_base_reader;
	enum msr_handler fs_base_writer;
	enum msr_handler tsc_reader;
} in_force[] = {
	{ "reads of FS_BASE denied",
	  FILTER(0, MSR_RANGE(FILTER_R, MSR_FS_BASE, 1, deny)),
	  MSR_BY_USER, MSR_BY_CPU, MSR_BY_CPU },
	{ "all denied but reads of FS_BASE",
	  FILTER(KVM_MSR_FILTER_DEFAULT_DENY,
		 MSR_RANGE(FILTER_R, MSR_FS_BASE, 1, allow)),
	  MSR_BY_CPU, MSR_BY_USER, MSR_BY_USER },
	{ "all allowed", FILTER(0), MSR_BY_CPU, MSR_BY_CPU, MSR_BY_CPU },
};

static void expect_handlers(struct kvm_vcpu *vcpu, enum msr_handler reader,
			    enum msr_handler writer, enum msr_handler tsc,
			    const char *when)
{
	vcpu_expect_msr_handler(vcpu, 0, MSR_FS_BASE, false, 0, reader, when);
	vcpu_expect_msr_handler(vcpu, 0, MSR_FS_BASE, true, 0, writer, when);
	vcpu_expect_msr_handler(vcpu, 0, MSR_IA32_TSC, false, 0, tsc, when);
}

static void test_case(struct kvm_vcpu *vcpu, const struct ioctl_case *c,
		      const struct in_force *before, u8 *page_end)
{
	struct kvm_msr_filter filter = c->filter;
	char when[256];
	int ret;

	if (c->bitmap == UP_TO_PAGE_END)
		filter.ranges[0].bitmap = page_end - 8;
	else if (c->bitmap == BEYOND_PAGE_END)
		filter.ranges[0].bitmap =
			page_end + 8 - filter.ranges[0].nmsrs / 8;

	vm_set_msr_filter(vcpu->vm, &before->filter);
	expect_handlers(vcpu, before->fs_base_reader, before->fs_base_writer,
			before->tsc_reader, before->name);

	ret = __vm_ioctl(vcpu->vm, KVM_X86_SET_MSR_FILTER, &filter);
	if (ret)
		ret = errno;
	TEST_ASSERT(ret == c->error || (c->or_error && ret == c->or_error),
		    "%s: got %d (%s), expected %d (%s)", c->name, ret,
		    strerror(ret), c->error, strerror(c->error));

	if (ret) {
		snprintf(when, sizeof(when), "%s, then %s is refused",
			 before->name, c->name);
		expect_handlers(vcpu, before->fs_base_reader,
				before->fs_base_writer, before->tsc_reader,
				when);
	} else {
		snprintf(when, sizeof(when), "%s, then %s", before->name,
			 c->name);
		expect_handlers(vcpu, c->fs_base_reader, c->fs_base_writer,
				c->tsc_reader, when);
	}
	if (before == in_force)
		printf("%s: %s\n", c->name, ret ? strerror(ret) : "accepted");
}

/* A pointer to nothing, or to half of it, instead of a filter */
static void test_no_filter(struct kvm_vcpu *vcpu, u8 *page_end)
{
	void * const pointers[] = {
		NULL,
		page_end,
		page_end - sizeof(struct kvm_msr_filter) / 2,
	};
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(pointers); i++) {
		vm_set_msr_filter(vcpu->vm, &in_force[0].filter);
		ret = __vm_ioctl(vcpu->vm, KVM_X86_SET_MSR_FILTER,
				 (struct kvm_msr_filter *)pointers[i]);
		TEST_ASSERT(ret == -1 && errno == EFAULT,
			    "A filter at %p, the memory ends at %p: got %d (%s), expected %d (%s)",
			    pointers[i], page_end, ret, strerror(errno), EFAULT,
			    strerror(EFAULT));
		expect_handlers(vcpu, MSR_BY_USER, MSR_BY_CPU, MSR_BY_CPU,
				"no filter");
	}
	printf("no filter: %s\n", strerror(EFAULT));
}

/* Bad input to the capability leaves it and the filter as they are. */
static void test_capability(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	int ret;

	vm_set_msr_filter(vm, &in_force[0].filter);
	ret = __vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, 1ull << 63);
	TEST_ASSERT(ret == -1 && errno == EINVAL,
		    "KVM_CAP_X86_USER_SPACE_MSR, unknown reason: got %d (%s), expected %d (%s)",
		    ret, strerror(errno), EINVAL, strerror(EINVAL));
	expect_handlers(vcpu, MSR_BY_USER, MSR_BY_CPU, MSR_BY_CPU,
			"unknown exit reason");

	/* Off: the filter stays in force, and a denied access causes a #GP. */
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, 0);
	expect_handlers(vcpu, MSR_BY_GP, MSR_BY_CPU, MSR_BY_CPU,
			"capability disabled");
	vm_set_msr_filter(vm, &in_force[1].filter);
	expect_handlers(vcpu, MSR_BY_CPU, MSR_BY_GP, MSR_BY_GP,
			"capability disabled, another filter");
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	expect_handlers(vcpu, MSR_BY_CPU, MSR_BY_USER, MSR_BY_USER,
			"capability enabled again");
	printf("KVM_CAP_X86_USER_SPACE_MSR: ok\n");
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	unsigned int i, j;
	u8 *page;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	/* Which MSRs are passed through is known of VMX only. */
	TEST_REQUIRE(this_cpu_has(X86_FEATURE_VMX));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	page = mmap(NULL, 2 * getpagesize(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(page != MAP_FAILED, "mmap: %s", strerror(errno));
	TEST_ASSERT(!mprotect(page + getpagesize(), getpagesize(), PROT_NONE),
		    "mprotect: %s", strerror(errno));

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_init_msr_test(vm);
	vcpu_init_msr_work(vcpu, 0);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		for (j = 0; j < ARRAY_SIZE(in_force); j++)
			test_case(vcpu, &cases[i], &in_force[j],
				  page + getpagesize());
	}
	test_no_filter(vcpu, page + getpagesize());
	test_capability(vcpu);

	kvm_vm_free(vm);
	return 0;
}
