// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM does when an allocation or a copy from userspace fails: in
 * KVM_X86_SET_MSR_FILTER, in KVM_CREATE_VCPU and in KVM_CREATE_VM.
 *
 * The kernel's fault injection makes one call fail at a time.  A number N that is
 * written to /proc/thread-self/fail-nth has the Nth injection point fail that this
 * task comes to, a point being an allocation of slab or of pages, or a copy from or
 * to userspace.  The file reads 0 if that has happened, and else what is left of N.
 * Documentation/fault-injection/fault-injection.rst has the rules.  Here N goes up
 * from 1 until a call has fewer points than that, so that every point fails once.
 *
 * For that, points are to be the same ones in each call.  Those of slab and of copies
 * are.  Pages come and go between them, as slab needs some now and then, which moves
 * all that follow.  So there is a sweep through slab and copies, and another one
 * through pages and copies.  Where too few calls fail, a sweep is tried again.
 *
 * What is to hold:
 *  - A call may survive the fault, as some allocations have a fallback, or nobody
 *    needs them, and has then done all that it is for.  Else it fails with ENOMEM
 *    or EFAULT, and with nothing else.  Without a fault it does not fail.
 *  - After a filter that could not be installed, the old one is in force: in full,
 *    for accesses that KVM passes through, and for those it emulates.
 *  - After a vCPU or a VM that could not be created, those that are there go on to
 *    work, and heed new filters.
 *  - The same call without a fault then works.
 * What is leaked is not seen here: everything is closed in the end, so that a scan
 * of kmemleak may tell.
 *
 * What a filter says is seen by a guest that reads and writes each of some MSRs, and
 * by its exits to userspace with KVM_MSR_EXIT_REASON_FILTER.  Two filters are
 * installed in turn, and each denies the very accesses that the other one allows.
 *
 * Output, one line a sweep: how many points were made to fail, how many calls failed
 * of that, and with what.  At least so many have to fail as all kernels are known to
 * have such allocations and copies, lest one whose fault injection does nothing passes.
 *
 * Exit status as in kselftest: 0 as it has to be, 1 not so, 4 KVM cannot filter MSRs
 * or the kernel cannot inject faults.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define TRIES		4

/* Of a VM, at most: a VM is replaced by a new one when it has so many. */
#define MAX_VCPUS	16

/* More points than any of these calls has, in a debug kernel too. */
#define MAX_POINTS	4096

#define FAULTS		"/sys/kernel/debug/"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

#define DENY_R		KVM_MSR_FILTER_READ
#define DENY_W		KVM_MSR_FILTER_WRITE
#define DENY_RW		FILTER_RW

/*
 * The MSRs that the guest accesses, with a value that they may have, and what one
 * filter denies of each.  The other filter denies the rest.
 */
static const struct {
	__u32 index;
	__u64 value;
	__u32 denied;
} msrs[] = {
	/* Passed through, unless denied. */
	{ 0xc0000100, 0, DENY_R },		/* FS_BASE */
	{ 0xc0000101, 0, DENY_W },		/* GS_BASE */
	{ 0x175, 0, DENY_RW },			/* SYSENTER_ESP */
	{ 0x176, 0, 0 },			/* SYSENTER_EIP */
	/* Emulated by KVM, always. */
	{ 0x277, PAT_VALUE, DENY_R },		/* PAT */
	{ 0x250, 0, DENY_W },			/* MTRRfix64K_00000 */
};

/*
 * Ranges of a filter, which together have all of these MSRs, each once for reads and
 * once for writes.  Their bitmaps are from a word to a KiB.
 */
static const struct {
	__u32 base, nmsrs;
} blocks[] = {
	{ 0x170, 0x10 },
	{ 0x240, 0x20 },
	{ 0x260, 0x1000 },
	{ 0xc0000000, 0x2000 },
};

#define NR_RANGES	(2 * ARRAY_SIZE(blocks))
#define MAX_BITMAP	(0x2000 / 8)

/* What is installed, and what it denies of each of the MSRs. */
struct filter {
	struct kvm_msr_filter arg;
	__u8 bitmap[NR_RANGES][MAX_BITMAP];
	__u32 denied[ARRAY_SIZE(msrs)];
};

/* One and the other, the one once more with its ranges in reverse, and no ranges. */
static struct filter one, other, same, none;

struct guest {
	int vm;
	bool irqchip;
	unsigned int vcpus;
	__u8 *mem;
	struct vcpu {
		int fd;
		struct kvm_run *run;
	} vcpu[MAX_VCPUS];
};

/* What is made to fail in a sweep, besides copies. */
enum faults {
	SLAB,
	PAGES,
	NR_FAULTS,
};

/* What came of the calls of a sweep. */
struct tally {
	unsigned int points, enomem, efault;
};

/* A call, and what is known of it. */
struct part {
	const char *name;
	const char *holds;		/* what does, after a failure */
	void (*sweep)(const struct part *part, struct tally *tally);

	/* Of filters: from old, which the VM never had if it is a fresh one, to new. */
	struct filter *old, *new;
	bool fresh;

	/* Of vCPUs. */
	bool irqchip;

	/* Points to stop after; 0: after the last one. */
	unsigned int limit;

	/* So many calls fail, at least. */
	struct {
		unsigned int enomem, efault;
	} min[NR_FAULTS];
};

static int kvm, fail_nth, run_size;

/* For messages, too: the part, and which fault is or was the last one. */
static const char *name = "setup", *kind = "";
static unsigned int nth;

static void __noreturn __printf(1, 2) give_up(const char *format, ...)
{
	va_list args;

	printf("%s%s, fault %u: ", name, kind, nth);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

static void __noreturn die(const char *what)
{
	give_up("%s: %s", what, strerror(errno));
}

/* A file that this kernel may not have. */
static void set_knob(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(path);
	close(fd);
}

/*
 * Nothing fails by itself, as the probability is 0.  The knobs are for what fail-nth
 * makes fail: also what may sleep, and without a word.
 */
static bool set_up_injection(void)
{
	static const char * const needed[] = {
		FAULTS "failslab/ignore-gfp-wait",
		FAULTS "fail_page_alloc/ignore-gfp-wait",
		FAULTS "fail_usercopy/verbose",
		FAIL_NTH,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!access(needed[i], W_OK))
			continue;
		printf("fail: no %s here\n", needed[i]);
		return false;
	}

	set_knob(FAULTS "failslab/cache-filter", "N");
	set_knob(FAULTS "failslab/verbose", "0");
	set_knob(FAULTS "fail_page_alloc/ignore-gfp-wait", "N");
	set_knob(FAULTS "fail_page_alloc/ignore-gfp-highmem", "N");
	set_knob(FAULTS "fail_page_alloc/verbose", "0");
	set_knob(FAULTS "fail_usercopy/verbose", "0");

	fail_nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (fail_nth < 0)
		die(FAIL_NTH);

	/* Userspace is not to fault in pages while faults are injected. */
	if (mlockall(MCL_CURRENT))
		die("mlockall");
	return true;
}

/* What there is no knob for is kept out by a size that no allocation has. */
static void choose_faults(enum faults faults)
{
	kind = faults == SLAB ? ", slab" : ", pages";
	set_knob(FAULTS "failslab/ignore-gfp-wait", faults == SLAB ? "N" : "Y");
	set_knob(FAULTS "fail_page_alloc/min-order", faults == SLAB ? "64" : "0");
}

static void arm(void)
{
	char number[16];
	int len = snprintf(number, sizeof(number), "%u", nth);

	if (pwrite(fail_nth, number, len, 0) != len)
		die("write of " FAIL_NTH);
}

/*
 * Whether there was a fault since.  Where it has yet to come, it may hit what is
 * done here: either copy is an injection point itself.
 */
static bool disarm(void)
{
	char number[16] = "";
	ssize_t len = pread(fail_nth, number, sizeof(number) - 1, 0);
	bool early = len < 0 && errno == EFAULT;

	if (len <= 0 && !early)
		die("read of " FAIL_NTH);
	if (pwrite(fail_nth, "0", 1, 0) != 1 &&
	    (errno != EFAULT || pwrite(fail_nth, "0", 1, 0) != 1))
		die("write of 0 to " FAIL_NTH);
	return !early && !strtoul(number, NULL, 10);
}

/*
 * The ioctl with the nth fault: its result, and whether there has been such a fault.
 */
static int faulty_ioctl(int fd, unsigned long cmd, void *arg, bool *injected,
			struct tally *tally)
{
	int ret, error;

	if (nth > MAX_POINTS)
		give_up("there is no end of them");

	arm();
	ret = ioctl(fd, cmd, arg);
	error = errno;
	*injected = disarm();

	tally->points += *injected;
	if (ret >= 0)
		return ret;
	if (!*injected)
		give_up("the call failed without one: %s", strerror(error));

	switch (error) {
	case ENOMEM:
		tally->enomem++;
		break;
	case EFAULT:
		tally->efault++;
		break;
	default:
		give_up("the call failed with another error than ENOMEM or EFAULT: %s",
			strerror(error));
	}
	return ret;
}

/* The ports that the guest writes to, one for each access. */
#define PORT(msr, write)	(0x10 + 2 * (msr) + (write))

/* In real mode: RDMSR and WRMSR of each MSR, a write to a port after each access. */
static void write_code(__u8 *code)
{
	__u8 *start = code;
	unsigned int i;
	__s16 back;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		/* mov $index, %ecx; rdmsr; out; wrmsr; out */
		*code++ = 0x66;
		*code++ = 0xb9;
		memcpy(code, &msrs[i].index, 4);
		code += 4;
		*code++ = 0x0f;
		*code++ = 0x32;
		*code++ = 0xe6;
		*code++ = PORT(i, 0);
		*code++ = 0x0f;
		*code++ = 0x30;
		*code++ = 0xe6;
		*code++ = PORT(i, 1);
	}
	/* jmp start */
	*code++ = 0xe9;
	back = start - (code + 2);
	memcpy(code, &back, 2);
}

/* The vCPU that has been created as the VM's next one. */
static void add_vcpu(struct guest *guest, int fd)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct vcpu *vcpu = &guest->vcpu[guest->vcpus++];

	vcpu->fd = fd;
	vcpu->run = set_up_vcpu(fd, run_size);
	/* With an APIC in KVM, all but the first would wait for a SIPI. */
	if (guest->irqchip)
		xioctl(fd, KVM_SET_MP_STATE, &runnable, "KVM_SET_MP_STATE");
}

/* What becomes of a VM that has just been created: a guest with one vCPU. */
static void set_up_guest(struct guest *guest, int vm, bool irqchip)
{
	struct kvm_enable_cap exits = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args[0] = KVM_MSR_EXIT_REASON_FILTER,
	};

	memset(guest, 0, sizeof(*guest));
	guest->vm = vm;
	guest->irqchip = irqchip;
	guest->mem = add_memory(vm);
	write_code(guest->mem + GUEST_RIP);

	xioctl(vm, KVM_ENABLE_CAP, &exits,
	       "KVM_ENABLE_CAP of KVM_CAP_X86_USER_SPACE_MSR");
	if (irqchip)
		xioctl(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	add_vcpu(guest, xioctl(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU"));
}

static void create_guest(struct guest *guest, bool irqchip)
{
	set_up_guest(guest, xioctl(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM"),
		     irqchip);
}

static void destroy_guest(struct guest *guest)
{
	unsigned int i;

	for (i = 0; i < guest->vcpus; i++) {
		munmap(guest->vcpu[i].run, run_size);
		close(guest->vcpu[i].fd);
	}
	close(guest->vm);
	munmap(guest->mem, GUEST_MEM);
}

/*
 * A filter that denies what msrs[] says or, if @rest, what that does not, with its
 * ranges as in blocks[], or in @reverse.  No two of them overlap.
 */
static void make_filter(struct filter *filter, bool rest, bool reverse)
{
	unsigned int i, j;

	filter->arg.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		filter->denied[i] = msrs[i].denied ^ (rest ? DENY_RW : 0);

	for (i = 0; i < NR_RANGES; i++) {
		unsigned int at = reverse ? NR_RANGES - 1 - i : i;
		struct kvm_msr_filter_range *range = &filter->arg.ranges[at];

		range->flags = i & 1 ? DENY_W : DENY_R;
		range->base = blocks[i / 2].base;
		range->nmsrs = blocks[i / 2].nmsrs;
		range->bitmap = filter->bitmap[at];
		memset(range->bitmap, 0xff, MAX_BITMAP);
		for (j = 0; j < ARRAY_SIZE(msrs); j++) {
			__u32 bit = msrs[j].index - range->base;

			if (bit < range->nmsrs && filter->denied[j] & range->flags)
				range->bitmap[bit / 8] &= ~(1 << bit % 8);
		}
	}
}

static void install(struct guest *guest, struct filter *filter)
{
	xioctl(guest->vm, KVM_X86_SET_MSR_FILTER, &filter->arg,
	       "KVM_X86_SET_MSR_FILTER without a fault");
}

/* Let the guest do one access: whether that is denied. */
static bool access_is_denied(struct vcpu *vcpu, unsigned int msr, bool write,
			     const char *when)
{
	struct kvm_run *run = vcpu->run;
	__u32 expected = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	const char *what = write ? "WRMSR" : "RDMSR";
	bool denied;

	if (ioctl(vcpu->fd, KVM_RUN, NULL))
		give_up("KVM_RUN, %s of 0x%x, %s: %s", what, msrs[msr].index, when,
			strerror(errno));
	denied = run->exit_reason == expected;
	if (denied) {
		if (run->msr.index != msrs[msr].index ||
		    run->msr.reason != KVM_MSR_EXIT_REASON_FILTER)
			give_up("%s of 0x%x, %s: exit for 0x%x, reason 0x%x", what,
				msrs[msr].index, when, run->msr.index,
				run->msr.reason);
		run->msr.error = 0;
		if (!write)
			run->msr.data = msrs[msr].value;
		if (ioctl(vcpu->fd, KVM_RUN, NULL))
			give_up("KVM_RUN after a denied %s of 0x%x, %s: %s", what,
				msrs[msr].index, when, strerror(errno));
	}
	if (run->exit_reason != KVM_EXIT_IO ||
	    run->io.port != PORT(msr, write))
		give_up("%s of 0x%x, %s: exit reason %u, port 0x%x, expected %u, 0x%x",
			what, msrs[msr].index, when, run->exit_reason,
			run->exit_reason == KVM_EXIT_IO ? run->io.port : 0,
			KVM_EXIT_IO, PORT(msr, write));
	return denied;
}

/* The filter is in force, in full. */
static void check(struct vcpu *vcpu, const struct filter *filter,
		  const char *when)
{
	unsigned int i, write;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		for (write = 0; write < 2; write++) {
			bool expected = filter->denied[i] &
					(write ? DENY_W : DENY_R);

			if (access_is_denied(vcpu, i, write, when) == expected)
				continue;
			give_up("%s: %s of 0x%x is %s", when,
				write ? "WRMSR" : "RDMSR", msrs[i].index,
				expected ? "allowed" : "denied");
		}
	}
}

static void sweep_filter(const struct part *part, struct tally *tally)
{
	struct guest guest;
	bool injected;

	create_guest(&guest, false);
	if (!part->fresh)
		install(&guest, part->old);
	check(&guest.vcpu[0], part->old, "before all faults");

	do {
		nth++;
		if (faulty_ioctl(guest.vm, KVM_X86_SET_MSR_FILTER,
				 &part->new->arg, &injected, tally) < 0) {
			check(&guest.vcpu[0], part->old,
			      "after a call that failed");
			install(&guest, part->new);
		}
		check(&guest.vcpu[0], part->new,
		      "after a call that did not fail");

		if (part->fresh) {
			destroy_guest(&guest);
			create_guest(&guest, false);
		} else {
			install(&guest, part->old);
		}
		check(&guest.vcpu[0], part->old, "with the old filter again");
	} while (injected);
	destroy_guest(&guest);
}

static void sweep_vcpu(const struct part *part, struct tally *tally)
{
	struct filter *now = &one;
	struct guest guest;
	bool injected;

	create_guest(&guest, part->irqchip);
	install(&guest, now);

	do {
		unsigned long id = guest.vcpus;
		int fd;

		if (id == MAX_VCPUS) {
			destroy_guest(&guest);
			create_guest(&guest, part->irqchip);
			install(&guest, now);
			id = guest.vcpus;
		}

		nth++;
		fd = faulty_ioctl(guest.vm, KVM_CREATE_VCPU, (void *)id,
				  &injected, tally);
		if (fd < 0) {
			check(&guest.vcpu[0], now,
			      "the first vCPU, after one could not be created");
			/* KVM goes through all vCPUs for a new filter. */
			now = now == &one ? &other : &one;
			install(&guest, now);
			check(&guest.vcpu[0], now,
			      "the first vCPU, with a new filter");
			fd = xioctl(guest.vm, KVM_CREATE_VCPU, (void *)id,
				    "KVM_CREATE_VCPU without a fault");
		}
		add_vcpu(&guest, fd);
		check(&guest.vcpu[id], now, "a new vCPU");
		check(&guest.vcpu[0], now, "the first vCPU, next to a new one");
	} while (injected);
	destroy_guest(&guest);
}

static void sweep_vm(const struct part *part, struct tally *tally)
{
	struct guest guest, before;
	bool injected;

	create_guest(&before, part->irqchip);
	install(&before, &other);

	do {
		int vm;

		nth++;
		vm = faulty_ioctl(kvm, KVM_CREATE_VM, NULL, &injected, tally);
		if (vm < 0)
			vm = xioctl(kvm, KVM_CREATE_VM, NULL,
				    "KVM_CREATE_VM without a fault");
		set_up_guest(&guest, vm, part->irqchip);
		install(&guest, &one);
		check(&guest.vcpu[0], &one, "a new VM");
		check(&before.vcpu[0], &other, "an older VM");
		destroy_guest(&guest);
	} while (injected && nth < part->limit);
	destroy_guest(&before);
}

/*
 * A filter is an allocation and a copy, and so is each of its bitmaps; slab that
 * lacks a page tries once more with less.  Removing it is a copy, and in some kernels
 * an allocation.  A vCPU: itself, its MCE banks, its FPU,
 * its emulator, and a file with its name; and pages for kvm_run, for PIO, the VMCS
 * and the MSR bitmap.  With an irqchip it has an APIC, with a page of registers.  A
 * VM: four buses, and a file; and pages, for want of which 7.3 was seen to fail twice,
 * once and not at all.  Its files in debugfs have hundreds of points, which are not
 * worth minutes of emulation.
 */
#define WITH_RANGES	{ { 1 + NR_RANGES, 1 + NR_RANGES }, { 0, 1 } }
#define REMOVAL		{ { 0, 1 }, { 0, 1 } }

static const struct part parts[] = {
	{ "filter, another", "old filter in force", sweep_filter,
	  .old = &one, .new = &other, .min = WITH_RANGES },
	{ "filter, one that denies the same", "old filter in force", sweep_filter,
	  .old = &one, .new = &same, .min = WITH_RANGES },
	{ "filter, none any more", "old filter in force", sweep_filter,
	  .old = &one, .new = &none, .min = REMOVAL },
	{ "filter, after none", "no filter in force", sweep_filter,
	  .old = &none, .new = &one, .min = WITH_RANGES },
	{ "filter, a VM's first", "no filter in force", sweep_filter,
	  .old = &none, .new = &other, .fresh = true, .min = WITH_RANGES },
	{ "KVM_CREATE_VCPU", "VM at work", sweep_vcpu,
	  .min = { { 6, 0 }, { 4, 0 } } },
	{ "KVM_CREATE_VCPU with an irqchip", "VM at work", sweep_vcpu,
	  .irqchip = true, .min = { { 7, 0 }, { 5, 0 } } },
	{ "KVM_CREATE_VM", "KVM at work", sweep_vm, .limit = 64,
	  .min = { { 5, 0 }, { 0, 0 } } },
};

static void sweep(const struct part *part, enum faults faults)
{
	unsigned int min_enomem = part->min[faults].enomem;
	unsigned int min_efault = part->min[faults].efault;
	struct tally tally;
	unsigned int i;

	name = part->name;
	choose_faults(faults);
	for (i = 0; i < TRIES; i++) {
		memset(&tally, 0, sizeof(tally));
		nth = 0;
		part->sweep(part, &tally);
		if (tally.enomem >= min_enomem && tally.efault >= min_efault)
			break;
	}
	if (i == TRIES)
		give_up("too few calls failed: ENOMEM %u, expected %u, EFAULT %u, expected %u",
			tally.enomem, min_enomem, tally.efault, min_efault);

	printf("%s%s: %u points, %u calls failed (ENOMEM %u, EFAULT %u), %s after each: ok\n",
	       name, kind, tally.points, tally.enomem + tally.efault,
	       tally.enomem, tally.efault, part->holds);
	fflush(stdout);
}

int main(void)
{
	unsigned int i, j;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) <= 0) {
		printf("fail: no KVM_CAP_X86_MSR_FILTER here\n");
		return KSFT_SKIP;
	}
	run_size = xioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL,
			  "KVM_GET_VCPU_MMAP_SIZE");
	make_filter(&one, false, false);
	make_filter(&other, true, false);
	make_filter(&same, false, true);
	if (!set_up_injection())
		return KSFT_SKIP;

	for (i = 0; i < ARRAY_SIZE(parts); i++)
		for (j = 0; j < NR_FAULTS; j++)
			sweep(&parts[i], j);
	return 0;
}
