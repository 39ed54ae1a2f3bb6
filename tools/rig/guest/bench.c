// SPDX-License-Identifier: GPL-2.0-only
/*
 * What changes of a VM's MSR filter cost, and what MSR accesses cost with a filter.
 *
 *	bench			the figures of "make run"
 *	bench curves		the curves of "make bench"
 *
 * The cost of a filter change is what one vCPU pays for it: the KVM_RUN that
 * follows KVM_X86_SET_MSR_FILTER minus the KVM_RUN after that, both measured
 * with RDTSC around the ioctl, with a guest that does nothing but write to an
 * I/O port, so that every KVM_RUN is one VM-Entry and one VM-Exit.  The ioctl
 * that installs the filter is not in it.  It installs two filters in turn, that
 * differ in MSRs which no guest accesses but the hardware's MSR bitmap has: a
 * filter that says what the last one said is something else to KVM than a new
 * one.  The cost of an access is that of many, before the guest writes to the
 * port, by their number.
 *
 * With /dev/srcu-count, i.e. the module srcu-count.c, some curves are measured once
 * more, in SRCU sections of kvm->srcu instead of TSC counts: "srcu-NAME".
 *
 * The unit of all others is whatever the TSC counts.  Under Bochs with "clock: sync=none" it
 * advances by one per retired instruction, and the result is exact.  On a real
 * CPU it counts reference cycles, with noise: use ratios of one run only.
 *
 * Output, one line a filter: "cost,RANGES,ROUNDS,MIN,MEDIAN,MAX,AT_MEDIAN",
 * where AT_MEDIAN is how many of the ROUNDS measured exactly MEDIAN; of curves,
 * one line a point: "curve,NAME,X,ROUNDS,MIN,Q1,MEDIAN,Q3,MAX,AT_MEDIAN", with
 * the quartiles.  X is the number of the filter's ranges or, where NAME begins
 * with "vcpus", of vCPUs; the table tools/rig/tables/curves has what they are.
 *
 * Exit status as in kselftest: 0 done, 1 failed, 4 KVM cannot filter MSRs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define ROUNDS		64
#define WARMUP		4
#define TRIES		4

/* Of a VM, at most, and of a filter. */
#define MAX_VCPUS	64
#define MAX_RANGES	KVM_MSR_FILTER_MAX_RANGES
#define FULL_BITMAP	0x600

/* MSR accesses for each write to the port: few, lest a tick be among them. */
#define ACCESSES	16

/*
 * No MSR lives here, so ranges from here on match no access: in the hardware's
 * MSR bitmap, for the filters that are installed in turn, and outside.
 */
#define UNUSED_MSR(turn)	((turn) ? 0xf80 : 0xf00)
#define NO_MSR			0x4f000000

#define MSR_PAT		0x277		/* emulated by KVM, always */
#define MSR_TSC		0x10
#define MSR_TSC_DEADLINE	0x6e0

/* Far enough for a curve, and near enough for VMX's preemption timer. */
#define DEADLINE_AHEAD	0x80000000ull

#define APIC_SPIV	0xf0
#define APIC_LVTT	0x320
#define SPIV_ENABLED	0x1ff
#define LVTT_MASKED_DEADLINE	0x500ef

struct guest {
	int vm;
	unsigned int vcpus;
	__u8 *mem;
	int run_size;
	struct vcpu {
		int fd;
		struct kvm_run *run;
	} vcpu[MAX_VCPUS];
};

/* How the filters that are installed in turn differ. */
enum change {
	SAME,		/* not at all */
	OTHER,		/* in MSRs that no guest accesses */
	ONE,		/* in an MSR that is passed through */
	ALL,		/* in every MSR */
};

static const unsigned int some_ranges[] = { 0, 1, 2, 4, 8, MAX_RANGES };

static __u8 deny[FULL_BITMAP], allow[FULL_BITMAP];
static int kvm;

/* /dev/srcu-count, and the VM whose SRCU sections to count; -1: count by the TSC */
static int srcu_count = -1, counted_vm = -1;

static void __noreturn die(const char *what)
{
	printf("bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline __u64 rdtsc(void)
{
	__u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (__u64)hi << 32 | lo;
}

static __u64 counter(void)
{
	int sections;

	if (counted_vm < 0)
		return rdtsc();
	sections = ioctl(srcu_count, 0, counted_vm);
	if (sections < 0)
		die("/dev/srcu-count");
	return sections;
}

static void create_vcpu(struct guest *guest, unsigned long id)
{
	struct vcpu *vcpu = &guest->vcpu[id];

	vcpu->fd = xioctl(guest->vm, KVM_CREATE_VCPU, (void *)id,
			  "KVM_CREATE_VCPU");
	vcpu->run = set_up_vcpu(vcpu->fd, guest->run_size);
}

/* A guest with so many vCPUs, and with an APIC in KVM if it is to have a timer. */
static void create_guest(struct guest *guest, unsigned int vcpus,
			 const __u8 *code, size_t size, bool apic)
{
	unsigned int i;

	guest->vm = xioctl(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	guest->mem = add_memory(guest->vm);
	memcpy(guest->mem + GUEST_RIP, code, size);
	if (apic)
		xioctl(guest->vm, KVM_CREATE_IRQCHIP, NULL,
		       "KVM_CREATE_IRQCHIP");
	guest->run_size = xioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL,
				 "KVM_GET_VCPU_MMAP_SIZE");
	guest->vcpus = vcpus;
	for (i = 0; i < vcpus; i++)
		create_vcpu(guest, i);
}

static void destroy_guest(struct guest *guest)
{
	unsigned int i;

	for (i = 0; i < guest->vcpus; i++) {
		munmap(guest->vcpu[i].run, guest->run_size);
		close(guest->vcpu[i].fd);
	}
	close(guest->vm);
	munmap(guest->mem, GUEST_MEM);
}

/* A guest that does nothing but write to a port. */
static void create_idle_guest(struct guest *guest, unsigned int vcpus)
{
	/* 1: out %al, $0x10; jmp 1b */
	static const __u8 code[] = { 0xe6, 0x10, 0xeb, 0xfc };

	create_guest(guest, vcpus, code, sizeof(code), false);
}

static __u64 timed_run(struct vcpu *vcpu)
{
	__u64 start, end;
	int ret;

	start = counter();
	ret = ioctl(vcpu->fd, KVM_RUN, NULL);
	end = counter();

	if (ret)
		die("KVM_RUN");
	if (vcpu->run->exit_reason != KVM_EXIT_IO) {
		printf("bench: exit reason %u, expected KVM_EXIT_IO (%u)\n",
		       vcpu->run->exit_reason, KVM_EXIT_IO);
		exit(1);
	}
	return end - start;
}

static void set_range(struct kvm_msr_filter_range *range, __u32 base,
		      __u32 nmsrs, __u8 *bitmap)
{
	range->flags = FILTER_RW;
	range->base = base;
	range->nmsrs = nmsrs;
	range->bitmap = bitmap;
}

/* A filter of @nr ranges, one of the two that are installed in turn. */
static void make_filter(struct kvm_msr_filter *filter, unsigned int nr,
			enum change change, unsigned int turn)
{
	unsigned int i;

	memset(filter, 0, sizeof(*filter));
	filter->flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
	if (change == SAME)
		turn = 0;
	if (change == ALL && turn)
		filter->flags = KVM_MSR_FILTER_DEFAULT_DENY;
	for (i = 0; i < nr; i++)
		set_range(&filter->ranges[i],
			  UNUSED_MSR(change == OTHER && turn) + i, 1, deny);
	if (change == ONE)
		set_range(&filter->ranges[nr - 1], MSR_FS_BASE, 1,
			  turn ? deny : allow);
}

static __u64 install(struct guest *guest, struct kvm_msr_filter *filter)
{
	__u64 start = rdtsc();

	xioctl(guest->vm, KVM_X86_SET_MSR_FILTER, filter,
	       "KVM_X86_SET_MSR_FILTER");
	return rdtsc() - start;
}

/* What was measured, as often as there are rounds. */
struct spread {
	__s64 min, q1, median, q3, max;
	unsigned int at_median;
};

static int compare(const void *a, const void *b)
{
	__s64 x = *(const __s64 *)a, y = *(const __s64 *)b;

	return (x > y) - (x < y);
}

static void get_spread(__s64 *cost, struct spread *spread)
{
	unsigned int i;

	qsort(cost, ROUNDS, sizeof(cost[0]), compare);
	spread->min = cost[0];
	spread->q1 = cost[ROUNDS / 4];
	spread->median = cost[ROUNDS / 2];
	spread->q3 = cost[ROUNDS * 3 / 4];
	spread->max = cost[ROUNDS - 1];
	spread->at_median = 0;
	for (i = 0; i < ROUNDS; i++)
		spread->at_median += cost[i] == spread->median;
}

static void print_point(const char *curve, unsigned int x,
			const struct spread *spread)
{
	printf("curve,%s%s,%u,%u,%lld,%lld,%lld,%lld,%lld,%u\n",
	       counted_vm < 0 ? "" : "srcu-", curve, x, ROUNDS, spread->min,
	       spread->q1, spread->median, spread->q3, spread->max,
	       spread->at_median);
}

static void print_costs(const char *curve, unsigned int x, __s64 *cost)
{
	struct spread spread;

	get_spread(cost, &spread);
	print_point(curve, x, &spread);
}

/*
 * A round is a change there and one back, and the cost half of both: to deny costs
 * something else than to allow.
 */
static void try_changes(struct guest *guest, struct kvm_msr_filter *filter,
			unsigned int changes, struct spread *spread)
{
	__s64 cost[ROUNDS];
	unsigned int i, j;

	for (i = 0; i < WARMUP + ROUNDS; i++) {
		__s64 with = 0, without = 0;

		for (j = 0; j < changes; j++) {
			install(guest, &filter[(i * changes + j) & 1]);
			with += timed_run(&guest->vcpu[0]);
			without += timed_run(&guest->vcpu[0]);
		}
		if (i >= WARMUP)
			cost[i - WARMUP] = (with - without) / changes;
	}
	get_spread(cost, spread);
}

/*
 * The kernel may have work left from the ioctl, and do that while the vCPU runs;
 * where the rounds keep step with it, they are tried again.
 */
static void measure_changes(struct guest *guest, unsigned int nr,
			    enum change change, struct spread *spread)
{
	unsigned int changes = change == ONE || change == ALL ? 2 : 1;
	struct kvm_msr_filter filter[2];
	unsigned int i;

	make_filter(&filter[0], nr, change, 0);
	make_filter(&filter[1], nr, change, 1);

	for (i = 0; i < TRIES; i++) {
		try_changes(guest, filter, changes, spread);
		if (spread->at_median > ROUNDS / 2)
			break;
	}
}

/* With @srcu, count SRCU sections, and only for filters of one range. */
static void change_curves(bool srcu)
{
	static const struct {
		const char *name;
		enum change change;
		unsigned int min;
	} curves[] = {
		{ "change-same", SAME, 0 },
		{ "change-other", OTHER, 1 },
		{ "change-one", ONE, 1 },
		{ "change-all", ALL, 1 },
	};
	struct spread spread;
	struct guest guest;
	unsigned int i, j;

	create_idle_guest(&guest, 1);
	counted_vm = srcu ? guest.vm : -1;
	for (i = 0; i < ARRAY_SIZE(curves); i++) {
		for (j = 0; j < ARRAY_SIZE(some_ranges); j++) {
			if (some_ranges[j] < curves[i].min ||
			    (srcu && some_ranges[j] != 1))
				continue;
			measure_changes(&guest, some_ranges[j],
					curves[i].change, &spread);
			print_point(curves[i].name, some_ranges[j], &spread);
		}
	}
	counted_vm = -1;
	destroy_guest(&guest);
}

/*
 * The sum over vCPUs of what a filter change costs each, and what the ioctl costs
 * with so many of them.  All vCPUs run once with the new filter, and then once
 * more: either way KVM goes from one to the next.
 */
static void measure_vcpus(unsigned int nr)
{
	static __s64 cost[MAX_VCPUS][ROUNDS], set[ROUNDS];
	struct spread sum = { .at_median = ROUNDS }, spread;
	struct kvm_msr_filter filter[2];
	struct guest guest;
	unsigned int i, j;

	create_idle_guest(&guest, nr);
	make_filter(&filter[0], 1, OTHER, 0);
	make_filter(&filter[1], 1, OTHER, 1);

	for (i = 0; i < WARMUP + ROUNDS; i++) {
		unsigned int round = i < WARMUP ? 0 : i - WARMUP;

		set[round] = install(&guest, &filter[i & 1]);
		for (j = 0; j < nr; j++)
			cost[j][round] = timed_run(&guest.vcpu[j]);
		for (j = 0; j < nr; j++)
			cost[j][round] -= timed_run(&guest.vcpu[j]);
	}
	destroy_guest(&guest);

	for (j = 0; j < nr; j++) {
		get_spread(cost[j], &spread);
		sum.min += spread.min;
		sum.q1 += spread.q1;
		sum.median += spread.median;
		sum.q3 += spread.q3;
		sum.max += spread.max;
		if (spread.at_median < sum.at_median)
			sum.at_median = spread.at_median;
	}
	print_point("vcpus-change", nr, &sum);
	print_costs("vcpus-ioctl", nr, set);
}

/* The ioctl itself, with one vCPU, which does not run. */
static void measure_ioctl(struct guest *guest, unsigned int nr,
			  enum change change, bool full, const char *curve)
{
	static __u8 bitmap[2][FULL_BITMAP];
	struct kvm_msr_filter filter[2];
	__s64 cost[ROUNDS];
	unsigned int i, j;

	for (j = 0; j < 2; j++) {
		make_filter(&filter[j], nr, change, j);
		if (!full)
			continue;
		memset(bitmap[j], 0xff, FULL_BITMAP);
		bitmap[j][UNUSED_MSR(j) / 8] = 0;
		set_range(&filter[j].ranges[0], 0, FULL_BITMAP * 8, bitmap[j]);
		for (i = 1; i < nr; i++)
			set_range(&filter[j].ranges[i],
				  NO_MSR + i * FULL_BITMAP * 8,
				  FULL_BITMAP * 8, allow);
	}
	for (i = 0; i < WARMUP + ROUNDS; i++) {
		__u64 took = install(guest, &filter[i & 1]);

		if (i >= WARMUP)
			cost[i - WARMUP] = took;
		/* It is to find no work left from the last one. */
		timed_run(&guest->vcpu[0]);
	}
	print_costs(curve, nr, cost);
}

static void ioctl_curves(void)
{
	struct guest guest;
	unsigned int j;

	create_idle_guest(&guest, 1);
	for (j = 0; j < ARRAY_SIZE(some_ranges); j++) {
		measure_ioctl(&guest, some_ranges[j], SAME, false,
			      "ioctl-same");
		/* No two filters without a range differ. */
		if (!some_ranges[j])
			continue;
		measure_ioctl(&guest, some_ranges[j], OTHER, false,
			      "ioctl-other");
		measure_ioctl(&guest, some_ranges[j], OTHER, true,
			      "ioctl-full");
	}
	destroy_guest(&guest);
}

static void allow_msrs(__u8 *bitmap, unsigned int first, unsigned int last)
{
	for (; first <= last; first++)
		bitmap[first / 8] |= 1 << first % 8;
}

/* VirtualBox on KVM: deny by default, and three ranges of 4096 MSRs each. */
static void make_virtualbox_filter(struct kvm_msr_filter *filter)
{
	static __u8 low[512], high[512], amd[512];

	allow_msrs(low, 0x10, 0x10);
	allow_msrs(low, 0x174, 0x176);
	allow_msrs(low, 0x277, 0x277);
	allow_msrs(high, 0x80, 0x84);
	allow_msrs(high, 0x100, 0x103);
	allow_msrs(amd, 0x114, 0x114);
	allow_msrs(amd, 0x117, 0x117);
	memset(filter, 0, sizeof(*filter));
	filter->flags = KVM_MSR_FILTER_DEFAULT_DENY;
	set_range(&filter->ranges[0], 0, 4096, low);
	set_range(&filter->ranges[1], 0xc0000000, 4096, high);
	set_range(&filter->ranges[2], 0xc0010000, 4096, amd);
}

/* QEMU with RAPL: one more ioctl for each MSR, with all ranges so far. */
static void make_qemu_filter(struct kvm_msr_filter *filter, unsigned int nr)
{
	static const __u32 msrs[] = { 0x35, 0x606, 0x610, 0x614, 0x611 };
	unsigned int i;

	memset(filter, 0, sizeof(*filter));
	for (i = 0; i < nr; i++) {
		set_range(&filter->ranges[i], msrs[i], 1, deny);
		filter->ranges[i].flags = KVM_MSR_FILTER_READ;
	}
}

/* What the ioctl costs to install filters of VMMs, one after the other. */
static void real_filters(void)
{
	static __s64 cost[7][ROUNDS];
	struct kvm_msr_filter filter[7] = {};
	struct guest guest;
	unsigned int i, j;

	make_virtualbox_filter(&filter[0]);
	for (j = 1; j <= 5; j++)
		make_qemu_filter(&filter[j], j);
	set_range(&filter[6].ranges[0], 0x200, 512, deny);

	create_idle_guest(&guest, 1);
	for (i = 0; i < WARMUP + ROUNDS; i++) {
		for (j = 0; j < ARRAY_SIZE(filter); j++) {
			__u64 took = install(&guest, &filter[j]);

			if (i >= WARMUP)
				cost[j][i - WARMUP] = took;
			timed_run(&guest.vcpu[0]);
		}
	}
	destroy_guest(&guest);

	print_costs("ioctl-virtualbox", 3, cost[0]);
	for (j = 1; j <= 5; j++)
		print_costs("ioctl-qemu", j, cost[j]);
	print_costs("ioctl-512", 1, cost[6]);
}

/* The MSR's number and value, which the guest finds in its registers. */
static void set_access(struct guest *guest, __u32 msr, __u64 value)
{
	struct kvm_regs regs;

	xioctl(guest->vcpu[0].fd, KVM_GET_REGS, &regs, "KVM_GET_REGS");
	regs.rip = GUEST_RIP;
	regs.rcx = msr;
	regs.rax = (__u32)value;
	regs.rdx = value >> 32;
	xioctl(guest->vcpu[0].fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static __u64 guest_tsc(struct guest *guest)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = MSR_TSC };

	if (xioctl(guest->vcpu[0].fd, KVM_GET_MSRS, &msrs,
		   "KVM_GET_MSRS") != 1)
		die("KVM_GET_MSRS of the TSC");
	return msrs.entry.data;
}

static void set_apic_reg(struct kvm_lapic_state *apic, unsigned int reg,
			 __u32 value)
{
	memcpy(apic->regs + reg, &value, sizeof(value));
}

/* The timer of the APIC is to wait for a deadline, and to interrupt nobody then. */
static void set_up_timer(struct guest *guest)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid = { .head.nent = 256 };
	struct kvm_lapic_state apic;
	unsigned int i;

	xioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid,
	       "KVM_GET_SUPPORTED_CPUID");
	for (i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 1)
			cpuid.entry[i].ecx |= 1u << 24;
	xioctl(guest->vcpu[0].fd, KVM_SET_CPUID2, &cpuid, "KVM_SET_CPUID2");

	xioctl(guest->vcpu[0].fd, KVM_GET_LAPIC, &apic, "KVM_GET_LAPIC");
	set_apic_reg(&apic, APIC_SPIV, SPIV_ENABLED);
	set_apic_reg(&apic, APIC_LVTT, LVTT_MASKED_DEADLINE);
	xioctl(guest->vcpu[0].fd, KVM_SET_LAPIC, &apic, "KVM_SET_LAPIC");
}

/*
 * The guest writes to the port after many accesses, then at once, then starts
 * over; @last is whether the filter's last range is the one that allows them.
 */
static void measure_accesses(struct guest *guest, unsigned int nr, __u32 msr,
			     bool last, const char *curve)
{
	struct kvm_msr_filter filter;
	__s64 cost[ROUNDS];
	__u64 value = PAT_VALUE;
	unsigned int i;

	make_filter(&filter, nr, SAME, 0);
	if (last)
		set_range(&filter.ranges[nr - 1], msr, 1, allow);
	/* Without ranges, the VM has never had a filter. */
	if (nr)
		install(guest, &filter);
	if (msr == MSR_TSC_DEADLINE)
		value = guest_tsc(guest) + DEADLINE_AHEAD;
	set_access(guest, msr, value);

	for (i = 0; i < WARMUP + ROUNDS; i++) {
		__s64 with = timed_run(&guest->vcpu[0]);
		__s64 without = timed_run(&guest->vcpu[0]);

		if (i >= WARMUP)
			cost[i - WARMUP] = (with - without + ACCESSES / 2) /
					   ACCESSES;
	}
	print_costs(curve, nr, cost);
}

static void access_curve(bool write, __u32 msr, const char *curve,
			 const char *curve_last, bool srcu)
{
	/* 1: the accesses; out %al, $0x10; out %al, $0x10; jmp 1b */
	static const __u8 outs[] = { 0xe6, 0x10, 0xe6, 0x10, 0xeb,
				     (__u8)-(2 * ACCESSES + 6) };
	__u8 code[2 * ACCESSES + sizeof(outs)];
	bool timer = msr == MSR_TSC_DEADLINE;
	struct guest guest;
	unsigned int i;

	for (i = 0; i < ACCESSES; i++) {
		code[2 * i] = 0x0f;
		code[2 * i + 1] = write ? 0x30 : 0x32;
	}
	memcpy(code + 2 * ACCESSES, outs, sizeof(outs));
	create_guest(&guest, 1, code, sizeof(code), timer);
	if (timer)
		set_up_timer(&guest);
	counted_vm = srcu ? guest.vm : -1;

	for (i = 0; i < ARRAY_SIZE(some_ranges); i++) {
		measure_accesses(&guest, some_ranges[i], msr, false, curve);
		if (some_ranges[i])
			measure_accesses(&guest, some_ranges[i], msr, true,
					 curve_last);
	}
	counted_vm = -1;
	destroy_guest(&guest);
}

static void curves(void)
{
	unsigned int nr;

	change_curves(false);
	for (nr = 1; nr <= MAX_VCPUS; nr *= 2)
		measure_vcpus(nr);
	ioctl_curves();
	real_filters();
	access_curve(false, MSR_PAT, "rdmsr", "rdmsr-last", false);
	access_curve(true, MSR_PAT, "wrmsr", "wrmsr-last", false);
	access_curve(true, MSR_TSC_DEADLINE, "deadline",
		     "deadline-last", false);

	srcu_count = open("/dev/srcu-count", O_RDWR | O_CLOEXEC);
	if (srcu_count < 0)
		return;
	change_curves(true);
	access_curve(false, MSR_PAT, "rdmsr", "rdmsr-last", true);
	access_curve(true, MSR_TSC_DEADLINE, "deadline",
		     "deadline-last", true);
}

static void figure(struct guest *guest, unsigned int nr)
{
	struct spread spread;

	measure_changes(guest, nr, OTHER, &spread);
	printf("cost,%u,%u,%lld,%lld,%lld,%u\n", nr, ROUNDS, spread.min,
	       spread.median, spread.max, spread.at_median);
}

static void figures(void)
{
	struct guest guest;

	create_idle_guest(&guest, 1);
	figure(&guest, 1);
	figure(&guest, MAX_RANGES);
}

int main(int argc, char **argv)
{
	bool all = argc == 2 && !strcmp(argv[1], "curves");

	if (argc > 1 && !all) {
		printf("usage: bench [curves]\n");
		return 1;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) <= 0) {
		printf("bench: no KVM_CAP_X86_MSR_FILTER here\n");
		return KSFT_SKIP;
	}
	memset(allow, 0xff, sizeof(allow));

	if (all)
		curves();
	else
		figures();
	return 0;
}
