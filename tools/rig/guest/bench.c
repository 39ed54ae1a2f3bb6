// SPDX-License-Identifier: GPL-2.0-only
/*
 * What one vCPU pays for a change of the VM's MSR filter.
 *
 * The guest does nothing but write to an I/O port, so every KVM_RUN is one
 * VM-Entry and one VM-Exit.  The cost of a filter change is the KVM_RUN that
 * follows KVM_X86_SET_MSR_FILTER minus the KVM_RUN after that, both measured
 * with RDTSC around the ioctl; the ioctl that installs the filter is not in it.
 *
 * The unit is whatever the TSC counts.  Under Bochs with "clock: sync=none" it
 * advances by one per retired instruction, and the result is exact.  On a real
 * CPU it counts reference cycles, with noise: use ratios of one run only.
 *
 * Output, one line a filter: "cost,RANGES,ROUNDS,MIN,MEDIAN,MAX,AT_MEDIAN",
 * where AT_MEDIAN is how many of the ROUNDS measured exactly MEDIAN.
 *
 * Exit status as in kselftest: 0 done, 1 failed, 4 KVM cannot filter MSRs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/types.h>

#define KSFT_SKIP	4
#define ROUNDS		64
#define WARMUP		4
#define GUEST_MEM	0x10000
#define GUEST_RIP	0x1000

/* No MSR lives here, so ranges from here on match no access. */
#define UNUSED_MSR	0x4f000000

static int vm, vcpu;
static struct kvm_run *run;

static void die(const char *what)
{
	printf("bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int xioctl(int fd, unsigned long cmd, void *arg, const char *what)
{
	int ret = ioctl(fd, cmd, arg);

	if (ret < 0)
		die(what);
	return ret;
}

static inline __u64 rdtsc(void)
{
	__u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (__u64)hi << 32 | lo;
}

static void create_guest(int kvm)
{
	/* 1: out %al, $0x10; jmp 1b */
	static const __u8 code[] = { 0xe6, 0x10, 0xeb, 0xfc };
	struct kvm_userspace_memory_region region = {
		.memory_size = GUEST_MEM,
	};
	struct kvm_regs regs = { .rip = GUEST_RIP, .rflags = 2 };
	struct kvm_sregs sregs;
	__u8 *mem;
	int size;

	mem = mmap(NULL, GUEST_MEM, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		die("mmap of guest memory");
	memcpy(mem + GUEST_RIP, code, sizeof(code));
	region.userspace_addr = (unsigned long)mem;

	vm = xioctl(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	xioctl(vm, KVM_SET_USER_MEMORY_REGION, &region,
	       "KVM_SET_USER_MEMORY_REGION");
	vcpu = xioctl(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");

	size = xioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL,
		      "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap of the vCPU");

	xioctl(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	xioctl(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	xioctl(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static __u64 timed_run(void)
{
	__u64 start, end;
	int ret;

	start = rdtsc();
	ret = ioctl(vcpu, KVM_RUN, NULL);
	end = rdtsc();

	if (ret)
		die("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO) {
		printf("bench: exit reason %u, expected KVM_EXIT_IO (%u)\n",
		       run->exit_reason, KVM_EXIT_IO);
		exit(1);
	}
	return end - start;
}

static int compare(const void *a, const void *b)
{
	__s64 x = *(const __s64 *)a, y = *(const __s64 *)b;

	return (x > y) - (x < y);
}

/* Measure a filter of @nr ranges that match no MSR the guest accesses. */
static void measure(unsigned int nr)
{
	static __u8 bitmap[8] = { 0xff };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
	};
	__s64 cost[ROUNDS], median;
	unsigned int i, exact = 0;

	for (i = 0; i < nr; i++) {
		filter.ranges[i].flags = KVM_MSR_FILTER_READ |
					 KVM_MSR_FILTER_WRITE;
		filter.ranges[i].base = UNUSED_MSR + i;
		filter.ranges[i].nmsrs = 1;
		filter.ranges[i].bitmap = bitmap;
	}

	for (i = 0; i < WARMUP + ROUNDS; i++) {
		__s64 with, without;

		xioctl(vm, KVM_X86_SET_MSR_FILTER, &filter,
		       "KVM_X86_SET_MSR_FILTER");
		with = timed_run();
		without = timed_run();
		if (i >= WARMUP)
			cost[i - WARMUP] = with - without;
	}

	qsort(cost, ROUNDS, sizeof(cost[0]), compare);
	median = cost[ROUNDS / 2];
	for (i = 0; i < ROUNDS; i++)
		exact += cost[i] == median;

	printf("cost,%u,%u,%lld,%lld,%lld,%u\n", nr, ROUNDS, cost[0], median,
	       cost[ROUNDS - 1], exact);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		die("/dev/kvm");
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) <= 0) {
		printf("bench: no KVM_CAP_X86_MSR_FILTER here\n");
		return KSFT_SKIP;
	}

	create_guest(kvm);
	measure(1);
	measure(KVM_MSR_FILTER_MAX_RANGES);
	return 0;
}
