// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random programs of what userspace and guests can do to MSR filters and to
 * what they hang on: new filters, good and bad ones, accesses of vCPUs, L1 and
 * L2 to whichever MSR, vCPUs that come and go, saved and restored state.  A
 * model says who has to deal with each access.
 *
 * A program has a seed, and is the same for the same seed everywhere.  One that
 * fails is shrunk to the fewest steps that still fail, and printed as C, which
 * -DFUZZ_PROGRAM='"FILE"' builds into this test in the place of random ones.
 *
 * Who deals with an access is told by exits to userspace and to L1, by #GPs, and
 * by the time: a VM-Exit takes much longer than the CPU alone.
 */
#define _GNU_SOURCE /* for sched_setaffinity() */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msr_filter.h"
#include "hyperv.h"
#include "svm_util.h"
#include "vmx.h"

#define NR_VCPUS	3
#define MAX_STEPS	64
#define MAX_RANGES	KVM_MSR_FILTER_MAX_RANGES
#define MAX_NMSRS	(KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8)
#define MAX_ACCESSES	80

/* Once in a while the host's interrupts come between: try again. */
#define NR_TRIES	4

/* That a step takes at most, with the check after it */
#define STEP_SECONDS	20

#define MSR_X2APIC_LVTT		0x832
#define LVTT_DEADLINE_MASKED	(BIT(18) | BIT(16) | 0xef)
#define APIC_BASE_EXTD		0x400
/* So far ahead that the deadline does not pass: minutes, at some GHz */
#define DEADLINE_AHEAD		BIT_ULL(40)

/* As in msr_filter_svm_l2_test: out of the way of the rest of the memory */
#define MSRPM_SLOT	10
#define MSRPM_GPA	0xc0000000ul
#define MSRPM_PAGES	2

/*
 * Programs
 */

enum fuzz_op {
	/* A new VM with one vCPU; always the first step, and only that */
	FUZZ_VM,
	/* Nothing but the check that any step may end with */
	FUZZ_NOTHING,
	FUZZ_SET_FILTER,
	/* KVM_CAP_X86_USER_SPACE_MSR: .arg is what to exit for. */
	FUZZ_EXIT_REASONS,
	/* KVM_X86_DISABLE_EXITS_CSTATE */
	FUZZ_DISABLE_EXITS,
	/* One more vCPU */
	FUZZ_ADD_VCPU,
	/*
	 * The same two, but on two CPUs: the vCPU runs, or is being created and
	 * has come .arg of FUZZ_RACE_STEPS far, when the filter is set.
	 */
	FUZZ_RACE_FILTER,
	FUZZ_RACE_VCPU,
	/*
	 * Set the CPUID once more: KVM looks at what it passes through again.
	 * .arg is whether the vCPU loses SPEC_CTRL, or gets it back.
	 */
	FUZZ_CPUID,
	/* Make use of SPEC_CTRL: .arg is whether it is the guest that does. */
	FUZZ_SPEC_CTRL,
	/* The guest uses SVM's LBRs from here on, or no longer: .arg. */
	FUZZ_LBR,
	/* From here on, run on CPU .arg. */
	FUZZ_CPU,
	/* Save and restore all vCPUs, where they are or in a copy of the VM. */
	FUZZ_RESTORE,
	FUZZ_COPY,
	/* L1 of vCPU 0 enters L2: .arg is FUZZ_L2_*. */
	FUZZ_ENTER,
	/* L2 exits to L1. */
	FUZZ_LEAVE,
	/* L1 intercepts MSR .arg, or no longer: .flags is FUZZ_L1_*. */
	FUZZ_L1_BITMAP,

	NR_FUZZ_OPS
};

/* For FUZZ_VM and FUZZ_ADD_VCPU, also by CPUID, of those that have it */
#define FUZZ_X2APIC		BIT(0)
#define FUZZ_NO_SPEC_CTRL	BIT(5)
/* For FUZZ_VM: it has an L2, and an enlightened VMCS or MSRPM. */
#define FUZZ_NESTED		BIT(1)
#define FUZZ_ENLIGHTENED	BIT(2)
#define FUZZ_CSTATE		BIT(3)
#define FUZZ_FILTER_EXITS	BIT(4)

/*
 * For FUZZ_ENTER: the second L2; L1 has no bitmap; L1 does not say that nothing
 * of its bitmap has changed even if so; L1 has the TSC stored when L2 exits; L1
 * virtualizes L2's x2APIC.
 */
#define FUZZ_L2_OTHER		BIT(0)
#define FUZZ_L2_NO_BITMAP	BIT(1)
#define FUZZ_L2_DIRTY		BIT(2)
#define FUZZ_L2_STORES		BIT(3)
#define FUZZ_L2_X2APIC		BIT(4)

/* For FUZZ_L1_BITMAP: besides FILTER_R and FILTER_W */
#define FUZZ_L1_LETS_GO		BIT(2)
#define FUZZ_L1_OTHER		BIT(3)

/* When a copy gets its filter: for FUZZ_COPY */
enum fuzz_copy {
	FUZZ_FILTER_FIRST,
	FUZZ_FILTER_BEFORE_LOAD,
	FUZZ_FILTER_LAST,
};

#define FUZZ_RACE_STEPS	64

/* What is in a range's bitmap */
enum fuzz_bits {
	FUZZ_DENY,
	FUZZ_ALLOW,
	/* All but bit .arg of it */
	FUZZ_DENY_BUT,
	FUZZ_ALLOW_BUT,
	/* Seeded with .arg */
	FUZZ_RANDOM,
	/* A bitmap that there is not */
	FUZZ_NULL,

	NR_FUZZ_BITS
};

struct fuzz_range {
	u32 flags;
	u32 base;
	u32 nmsrs;
	enum fuzz_bits bits;
	u32 arg;
};

/*
 * Any step can follow any other: one that makes no sense where it is does
 * nothing, so that what is left of a program is one, too.
 */
struct fuzz_step {
	enum fuzz_op op;
	/* The vCPU that it is about, of those that there are */
	u32 vcpu;
	/* The vCPU whose accesses are checked afterwards, plus one */
	u32 check;
	u32 arg;
	u32 flags;
	u32 nr_ranges;
	struct fuzz_range ranges[MAX_RANGES];
};

struct fuzz_program {
	u32 nr_steps;
	struct fuzz_step steps[MAX_STEPS];
};

static const char * const op_names[] = {
	[FUZZ_VM] = "FUZZ_VM",
	[FUZZ_NOTHING] = "FUZZ_NOTHING",
	[FUZZ_SET_FILTER] = "FUZZ_SET_FILTER",
	[FUZZ_EXIT_REASONS] = "FUZZ_EXIT_REASONS",
	[FUZZ_DISABLE_EXITS] = "FUZZ_DISABLE_EXITS",
	[FUZZ_ADD_VCPU] = "FUZZ_ADD_VCPU",
	[FUZZ_RACE_FILTER] = "FUZZ_RACE_FILTER",
	[FUZZ_RACE_VCPU] = "FUZZ_RACE_VCPU",
	[FUZZ_CPUID] = "FUZZ_CPUID",
	[FUZZ_SPEC_CTRL] = "FUZZ_SPEC_CTRL",
	[FUZZ_LBR] = "FUZZ_LBR",
	[FUZZ_CPU] = "FUZZ_CPU",
	[FUZZ_RESTORE] = "FUZZ_RESTORE",
	[FUZZ_COPY] = "FUZZ_COPY",
	[FUZZ_ENTER] = "FUZZ_ENTER",
	[FUZZ_LEAVE] = "FUZZ_LEAVE",
	[FUZZ_L1_BITMAP] = "FUZZ_L1_BITMAP",
};

static const char * const bits_names[] = {
	[FUZZ_DENY] = "FUZZ_DENY",
	[FUZZ_ALLOW] = "FUZZ_ALLOW",
	[FUZZ_DENY_BUT] = "FUZZ_DENY_BUT",
	[FUZZ_ALLOW_BUT] = "FUZZ_ALLOW_BUT",
	[FUZZ_RANDOM] = "FUZZ_RANDOM",
	[FUZZ_NULL] = "FUZZ_NULL",
};

/* How often each step comes, in a hundred or so */
static const unsigned int op_weights[NR_FUZZ_OPS] = {
	[FUZZ_NOTHING] = 4,
	[FUZZ_SET_FILTER] = 40,
	[FUZZ_EXIT_REASONS] = 3,
	[FUZZ_DISABLE_EXITS] = 1,
	[FUZZ_ADD_VCPU] = 3,
	[FUZZ_RACE_FILTER] = 6,
	[FUZZ_RACE_VCPU] = 2,
	[FUZZ_CPUID] = 3,
	[FUZZ_SPEC_CTRL] = 5,
	[FUZZ_LBR] = 3,
	[FUZZ_CPU] = 2,
	[FUZZ_RESTORE] = 2,
	[FUZZ_COPY] = 2,
	[FUZZ_ENTER] = 16,
	[FUZZ_LEAVE] = 8,
	[FUZZ_L1_BITMAP] = 9,
};

/*
 * MSRs
 */

#define CPU	BIT(MSR_BY_CPU)
#define KVM	BIT(MSR_BY_KVM)
#define GP	BIT(MSR_BY_GP)
#define ANY	(CPU | KVM | GP)

enum msr_kind {
	PLAIN,
	/* Passed through from its first use on */
	SPEC_CTRL,
	/* Passed through if guests may stop the CPU */
	CSTATE,
	/* A time to write, and not the time that it takes */
	TSC,
	DEADLINE,
	/* SVM: passed through while the guest uses LBRs */
	LBR,
	/* Not filtered */
	X2APIC,
	/* KVM does not know it. */
	UNKNOWN,
};

/*
 * Who may deal with accesses that the filter allows: on VMX L1's reads and
 * writes, and L2's where L1 does not intercept them; on SVM all of them.  What
 * is not to be written in earnest is written only where the filter denies it.
 */
static const struct fuzz_msr {
	u32 index;
	enum msr_kind kind;
	u8 reader;
	u8 writer;
	u8 l2;
	u8 svm;
	/* The bits that the MSR has; 0: only denied writes, or 0 itself */
	u64 bits;
} msrs[] = {
#define BASE(_name)	\
	{ MSR_##_name, PLAIN, CPU, CPU, CPU, CPU, -1ull }
	BASE(FS_BASE),
	BASE(GS_BASE),
	BASE(KERNEL_GS_BASE),
#define SYSENTER(_name, _bits)	\
	{ MSR_IA32_SYSENTER_##_name, PLAIN, CPU, CPU, CPU | KVM, CPU | KVM, _bits }
	SYSENTER(CS, 0xffff),
	SYSENTER(ESP, -1ull),
	SYSENTER(EIP, -1ull),
	{ MSR_IA32_SPEC_CTRL, SPEC_CTRL, CPU, CPU, CPU | KVM, ANY },
	{ MSR_IA32_PRED_CMD, PLAIN, GP, ANY, ANY, ANY },
	{ MSR_IA32_TSC, TSC, CPU, KVM, CPU | KVM, CPU | KVM, -1ull },
	{ MSR_IA32_TSC_DEADLINE, DEADLINE, CPU | KVM, CPU | KVM, CPU | KVM, CPU | KVM,
	  -1ull },
	{ MSR_CORE_C1_RES, CSTATE, GP, GP, ANY, GP },
	{ MSR_CORE_C3_RESIDENCY, CSTATE, GP, GP, ANY, GP },
	{ MSR_CORE_C6_RESIDENCY, CSTATE, GP, GP, ANY, GP },
	{ MSR_CORE_C7_RESIDENCY, CSTATE, GP, GP, ANY, GP },
	{ MSR_LSTAR, PLAIN, KVM, KVM, KVM, CPU, -1ull },
	{ MSR_STAR, PLAIN, KVM, KVM, KVM, CPU, -1ull },
	{ MSR_IA32_CR_PAT, PLAIN, KVM, KVM, KVM, KVM },
	{ MSR_EFER, PLAIN, KVM, KVM, KVM, KVM },
	{ MSR_IA32_APICBASE, PLAIN, KVM, KVM, KVM, KVM },
	{ MSR_IA32_MISC_ENABLE, PLAIN, KVM, KVM, KVM, ANY },
	{ MSR_K7_HWCR, PLAIN, KVM, KVM, KVM, KVM },
#define LAST(_name)	\
	{ MSR_IA32_LAST##_name, LBR, KVM | GP, KVM | GP, KVM | GP, KVM | GP }
	LAST(BRANCHFROMIP),
	LAST(BRANCHTOIP),
	LAST(INTFROMIP),
	LAST(INTTOIP),
	{ 0x802, X2APIC, ANY, ANY, ANY, ANY },
	{ 0x808, X2APIC, ANY, ANY, ANY, ANY },
	{ 0x8ff, X2APIC, ANY, ANY, ANY, ANY },
	{ 0x7ff, UNKNOWN, GP, GP, GP, GP },
	{ 0x900, UNKNOWN, GP, GP, GP, GP },
	{ MSR_NONE, UNKNOWN, GP, GP, GP, GP },
	/* MSRs that there are not, but are for those whose bits are mixed up */
	{ 0x101, UNKNOWN, GP, GP, GP, GP },
	{ 0xc0000010, UNKNOWN, GP, GP, GP, GP },
	{ 0xc0000175, UNKNOWN, GP, GP, GP, GP },
};

#define NR_MSRS	ARRAY_SIZE(msrs)
/* Those that all vCPUs have passed through, or nearly so */
#define NR_RACE_MSRS	3

/*
 * Guests
 */

#define SYNC_STARTED	0x80

enum fuzz_order {
	ORDER_ACCESS,
	ORDER_ENTER,
	ORDER_LEAVE,
};

/* In the guest's memory: what is to be accessed, and what came of it */
struct fuzz_access {
	u64 index;
	u64 write;
	u64 kind;
	u64 value;

	u64 time;
	u64 read;
	u64 nr_exits;
	u64 nr_tries;
	u64 gp;
	/* By userspace, and by L1, for which exit reason */
	u64 by_user;
	u64 user_reason;
	u64 l1_reason;
};

static struct fuzz_guest {
	u64 order;
	u64 x2apic;
	u64 l2;
	u64 no_bitmap;
	u64 bitmap_is_clean;
	/* L2 has an x2APIC; 0: L1 can't virtualize any. */
	u64 l2_x2apic;
	u64 l2_apic_gpa;
	/* How long it takes the CPU at most */
	u64 limit;
	/* Wait, having said so, until told to go on. */
	u64 waits;
	u64 is_waiting;
	u64 goes_on;
	/* What is stored when L2 exits */
	u64 nr_stored;
	u64 stored_gpa;
	struct vmx_msr_entry stored;
	u64 nr;
	u64 cur;
	struct fuzz_access accesses[MAX_ACCESSES];
} __aligned(64) guests[NR_VCPUS];

/* L2's, if it is virtualized */
static u8 l2_apic[4096] __aligned(4096);

static inline u64 guest_now(void)
{
	u32 eax, edx;

	asm volatile("lfence; rdtsc; lfence" : "=a"(eax), "=d"(edx) : : "memory");
	return (u64)edx << 32 | eax;
}

static void guest_access(struct fuzz_guest *g, struct fuzz_access *a)
{
	u64 before, time;
	unsigned int i;

	if (a->write && a->kind == TSC)
		a->value = guest_now();
	else if (a->write && a->kind == DEADLINE)
		a->value = guest_now() + DEADLINE_AHEAD;

	for (i = 0; i < NR_TRIES; i++) {
		before = guest_now();
		if (a->write)
			a->gp = wrmsr_safe(a->index, a->value);
		else
			a->gp = rdmsr_safe(a->index, &a->read);
		time = guest_now() - before;

		if (!i || time < a->time)
			a->time = time;
		a->nr_tries++;
		if (time >= g->limit)
			a->nr_exits++;
		if (time < g->limit || READ_ONCE(a->by_user))
			break;
	}
}

/*
 * An interrupt makes the guest exit whatever its RFLAGS.IF.  Bochs only looks for
 * one when that changes.
 */
static void guest_wait(struct fuzz_guest *g)
{
	unsigned int i;

	for (i = 1; !READ_ONCE(g->goes_on); i++) {
		WRITE_ONCE(g->is_waiting, true);
		if (!(i % 2048))
			asm volatile("sti; nop; cli");
	}
}

/* Where it was, should L1 have come between */
static void guest_access_all(struct fuzz_guest *g)
{
	u64 cur;

	if (READ_ONCE(g->waits))
		guest_wait(g);
	while ((cur = READ_ONCE(g->cur)) < READ_ONCE(g->nr)) {
		guest_access(g, &g->accesses[cur]);
		WRITE_ONCE(g->cur, cur + 1);
	}
}

static void guest_start(struct fuzz_guest *g)
{
	if (g->x2apic)
		wrmsr(MSR_X2APIC_LVTT, LVTT_DEADLINE_MASKED);
}

static void guest_code(struct fuzz_guest *g)
{
	guest_start(g);
	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		guest_access_all(g);
	}
}

/* L2 begins anew each time that it is entered, as L1 keeps none of its state. */
static void guest_vmx_l2_code(void)
{
	struct fuzz_guest *g = &guests[0];

	for (;;) {
		guest_access_all(g);
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(g->order) == ORDER_LEAVE)
			vmcall();
	}
}

static void guest_vmx_run_l2(struct fuzz_guest *g, u64 l2_rsp, bool *launched)
{
	u64 controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL);
	u64 reason;

	controls |= CPU_BASED_USE_MSR_BITMAPS;
	if (READ_ONCE(g->no_bitmap))
		controls &= ~CPU_BASED_USE_MSR_BITMAPS;
	if (g->l2_apic_gpa) {
		controls |= CPU_BASED_TPR_SHADOW;
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, g->l2_apic_gpa);
		vmwrite(SECONDARY_VM_EXEC_CONTROL,
			READ_ONCE(g->l2_x2apic) ?
			SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE : 0);
	}
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls);
	if (g->stored_gpa) {
		vmwrite(VM_EXIT_MSR_STORE_ADDR, g->stored_gpa);
		vmwrite(VM_EXIT_MSR_STORE_COUNT, READ_ONCE(g->nr_stored));
	}

	for (;;) {
		vmwrite(GUEST_RIP, (u64)guest_vmx_l2_code);
		vmwrite(GUEST_RSP, l2_rsp);
		GUEST_ASSERT(!(*launched ? vmresume() : vmlaunch()));
		*launched = true;

		reason = vmreadz(VM_EXIT_REASON);
		if (reason == EXIT_REASON_VMCALL)
			break;
		GUEST_ASSERT(reason == EXIT_REASON_MSR_READ ||
			     reason == EXIT_REASON_MSR_WRITE);
		GUEST_ASSERT(g->cur < g->nr);
		g->accesses[g->cur].l1_reason = reason;
		g->cur++;
	}
}

static void guest_vmx_code(struct fuzz_guest *g, struct vmx_pages *vmx0,
			   struct vmx_pages *vmx1)
{
	struct vmx_pages *vmx[NR_L2S] = { vmx0, vmx1 };
	bool launched[NR_L2S] = {};
	u64 l2_rsp[NR_L2S];
	unsigned int i;

	guest_start(g);
	/* Not so for a VM that had the memory before, perhaps */
	enable_evmcs = false;
	GUEST_ASSERT(prepare_for_vmx_operation(vmx0));
	for (i = 0; i < NR_L2S; i++) {
		GUEST_ASSERT(load_vmcs(vmx[i]));
		prepare_vmcs(vmx[i], guest_vmx_l2_code);
		l2_rsp[i] = vmreadz(GUEST_RSP);
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(g->order) == ORDER_ENTER) {
			i = READ_ONCE(g->l2);
			GUEST_ASSERT(!vmptrld(vmx[i]->vmcs_gpa));
			guest_vmx_run_l2(g, l2_rsp[i], &launched[i]);
		} else {
			guest_access_all(g);
		}
	}
}

static void guest_evmcs_code(struct fuzz_guest *g, struct vmx_pages *vmx,
			     struct hyperv_test_pages *hv)
{
	bool launched = false;
	u64 l2_rsp;

	guest_start(g);
	enable_vp_assist(hv->vp_assist_gpa, hv->vp_assist);
	evmcs_enable();
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_evmcs(hv));
	prepare_vmcs(vmx, guest_vmx_l2_code);
	l2_rsp = vmreadz(GUEST_RSP);
	current_evmcs->hv_enlightenments_control.msr_bitmap = 1;

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(g->order) == ORDER_ENTER) {
			if (READ_ONCE(g->bitmap_is_clean))
				current_evmcs->hv_clean_fields |=
					HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
			else
				current_evmcs->hv_clean_fields &=
					~HV_VMX_ENLIGHTENED_CLEAN_FIELD_MSR_BITMAP;
			guest_vmx_run_l2(g, l2_rsp, &launched);
		} else {
			guest_access_all(g);
		}
	}
}

static void guest_svm_l2_code(void)
{
	struct fuzz_guest *g = &guests[0];

	for (;;) {
		guest_access_all(g);
		GUEST_SYNC(SYNC_IN_L2);
		if (READ_ONCE(g->order) == ORDER_LEAVE)
			vmmcall();
	}
}

static void guest_svm_code(struct fuzz_guest *g, struct svm_test_data *svm,
			   u64 enlightened)
{
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct hv_vmcb_enlightenments *hve = (void *)control->reserved_sw;
	u64 l2_rip, l2_rsp;

	guest_start(g);
	generic_svm_setup(svm, guest_svm_l2_code);
	l2_rip = svm->vmcb->save.rip;
	l2_rsp = svm->vmcb->save.rsp;
	control->msrpm_base_pa = MSRPM_GPA;
	if (enlightened) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		hve->hv_enlightenments_control.msr_bitmap = 1;
	}

	for (;;) {
		GUEST_SYNC(SYNC_IN_L1);
		if (READ_ONCE(g->order) != ORDER_ENTER) {
			guest_access_all(g);
			continue;
		}

		control->intercept |= BIT_ULL(INTERCEPT_MSR_PROT);
		if (READ_ONCE(g->no_bitmap))
			control->intercept &= ~BIT_ULL(INTERCEPT_MSR_PROT);
		control->clean |= HV_VMCB_NESTED_ENLIGHTENMENTS;
		if (!READ_ONCE(g->bitmap_is_clean))
			control->clean &= ~HV_VMCB_NESTED_ENLIGHTENMENTS;
		for (;;) {
			svm->vmcb->save.rip = l2_rip;
			svm->vmcb->save.rsp = l2_rsp;
			run_guest(svm->vmcb, svm->vmcb_gpa);
			if (control->exit_code != SVM_EXIT_MSR)
				break;
			GUEST_ASSERT(g->cur < g->nr);
			g->accesses[g->cur].l1_reason =
				control->exit_info_1 ? EXIT_REASON_MSR_WRITE :
						       EXIT_REASON_MSR_READ;
			g->cur++;
		}
		GUEST_ASSERT(control->exit_code == SVM_EXIT_VMMCALL);
	}
}

/*
 * The model, and the VM that it is of
 */

struct fuzz_vcpu {
	struct kvm_vcpu *vcpu;
	struct fuzz_guest *g;
	bool x2apic;
	bool cstate;
	/* SPEC_CTRL has been used; the CPUID does not have it. */
	bool spec_ctrl;
	bool no_spec_ctrl;
	/* SVM: LBRs are in use. */
	bool lbr;
	/* Was being created when the last filter was set */
	bool raced;
	/* Has not run since it was restored */
	bool restored;
	bool in_l2;
	/* Of vCPU 0: whose bitmap it is, and whether L1 has one */
	unsigned int l2;
	bool no_bitmap;
	/* L1 has something stored when L2 exits. */
	bool stores;
};

/* A filter, and the bitmaps of its ranges */
struct fuzz_filter {
	struct kvm_msr_filter filter;
	u8 bitmaps[MAX_RANGES][KVM_MSR_FILTER_MAX_BITMAP_SIZE];
};

static struct fuzz_vm {
	struct kvm_vm *vm;
	/* How many programs have used its memory, and that has L1's MSRPM */
	unsigned int nr_uses;
	bool has_msrpm;

	u32 arg;
	bool cstate;
	u64 exit_reasons;
	unsigned int nr_vcpus;
	struct fuzz_vcpu vcpus[NR_VCPUS];
	unsigned int nr_l2s;
	/* L1's bitmaps, and those that have changed since L2 was entered */
	u8 *bitmaps[NR_L2S];
	bool bitmap_changed;
	/* An exit to L1 has been a VM-Abort, and that was right. */
	bool is_dead;
	/* The one in force, the next one; that there is one in force */
	struct fuzz_filter *filter, *next_filter;
	bool has_filter;
} vm;

static bool is_svm;
static bool has_nested;
static bool has_enlightened;
static bool has_spec_ctrl;
static bool has_lbr;
static bool has_l2_x2apic;
static bool has_deadline;
static bool has_filtered_lists;
static unsigned int nr_cpus;
static cpu_set_t all_cpus;
static u64 time_limit, tsc_limit;

#define MAX_FAILURES	32
#define FAILURE_LENGTH	80

/* What processes have done, for the one that has started them */
static struct fuzz_progress {
	u64 seed;
	u32 step;
	/* What the last process has failed of, if it is not known */
	char failure[FAILURE_LENGTH];
	/* What is known, and not to end programs once more */
	u32 nr_failures;
	char failures[MAX_FAILURES][FAILURE_LENGTH];
	u64 nr_programs;
	u64 nr_steps;
	u64 nr_accesses;
	u64 nr_by[MSR_BY_L1 + 1];
} *progress;

/* Whether a failure is to end the program, by what is to be said of it */
static __printf(1, 2)
bool is_new_failure(const char *fmt, ...)
{
	char failure[FAILURE_LENGTH];
	unsigned int i;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(failure, sizeof(failure), fmt, ap);
	va_end(ap);
	for (i = 0; i < progress->nr_failures; i++) {
		if (!strcmp(progress->failures[i], failure))
			return false;
	}
	memcpy(progress->failure, failure, sizeof(failure));
	return true;
}

/*
 * Random numbers: the same everywhere
 */

static u64 random_state;

static u32 random_u32(void)
{
	u64 z;

	random_state += 0x9e3779b97f4a7c15ull;
	z = random_state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) >> 16;
}

static u32 random_below(u32 limit)
{
	return random_u32() % limit;
}

static bool random_percent(u32 percent)
{
	return random_below(100) < percent;
}

static u32 random_msr(void)
{
	u32 nr = random_below(100);

	/* The first ones are what it is all about. */
	if (nr < 50)
		return msrs[random_below(9)].index;
	/* Filters have other ways for those that no CPU has bits for. */
	return nr < 62 ? MSR_NONE : msrs[random_below(NR_MSRS)].index;
}

static u32 random_nmsrs(void)
{
	switch (random_below(16)) {
	case 0:
		return 0;
	case 1:
		return MAX_NMSRS;
	case 2:
		return random_percent(30) ? MAX_NMSRS + 1 + random_below(64) :
					    random_below(MAX_NMSRS);
	case 3:
	case 4:
	case 5:
		return 1 + random_below(256);
	default:
		return 1 + random_below(4);
	}
}

static void random_range(struct fuzz_range *range)
{
	static const u32 flags[] = { FILTER_RW, FILTER_RW, FILTER_R, FILTER_W };

	range->flags = flags[random_below(ARRAY_SIZE(flags))];
	if (random_percent(1))
		range->flags = random_percent(50) ? 0 : random_u32();

	range->nmsrs = random_nmsrs();
	range->base = random_msr();
	switch (random_below(16)) {
	case 0:
		range->base = random_percent(50) ? 0 : 0xc0000000;
		break;
	case 1:
		range->base = -1u - random_below(64);
		break;
	case 2:
		range->base = random_u32();
		break;
	case 3:
	case 4:
	case 5:
		/* Up to an MSR, or not quite */
		range->base -= range->nmsrs - random_below(2);
		break;
	case 6:
	case 7:
		range->base -= random_below(64);
		break;
	case 8:
		range->base++;
		break;
	}

	range->bits = FUZZ_DENY;
	if (random_percent(50))
		range->bits = random_below(random_percent(2) ? NR_FUZZ_BITS :
							       FUZZ_NULL);
	range->arg = range->bits == FUZZ_RANDOM ? random_u32() :
		     range->bits >= FUZZ_DENY_BUT ? random_below(64) : 0;
}

static void random_filter(struct fuzz_step *step, const struct fuzz_step *last)
{
	unsigned int i;

	/* None, the last one once more, or something like that */
	if (random_percent(15))
		return;
	if (last && random_percent(30)) {
		step->flags = last->flags;
		step->nr_ranges = last->nr_ranges;
		memcpy(step->ranges, last->ranges, sizeof(step->ranges));
		if (step->nr_ranges && random_percent(80)) {
			i = random_below(step->nr_ranges);
			switch (random_below(4)) {
			case 0:
				step->ranges[i].flags ^= FILTER_R;
				break;
			case 1:
				step->ranges[i].flags ^= FILTER_W;
				break;
			case 2:
				step->ranges[i].bits =
					random_below(FUZZ_DENY_BUT);
				break;
			default:
				random_range(&step->ranges[i]);
			}
		}
		return;
	}

	if (random_percent(20))
		step->flags = KVM_MSR_FILTER_DEFAULT_DENY;
	if (random_percent(2))
		step->flags |= random_u32();
	step->nr_ranges = random_percent(10) ? 1 + random_below(MAX_RANGES) :
					       1 + random_below(3);
	if (random_percent(4))
		step->nr_ranges = MAX_RANGES;
	for (i = 0; i < step->nr_ranges; i++) {
		random_range(&step->ranges[i]);
		if (i && random_percent(25))
			step->ranges[i].base = step->ranges[i - 1].base;
	}
}

static enum fuzz_op random_op(void)
{
	unsigned int op, sum = 0, nr;

	for (op = 0; op < NR_FUZZ_OPS; op++)
		sum += op_weights[op];
	nr = random_below(sum);
	for (op = 0; nr >= op_weights[op]; op++)
		nr -= op_weights[op];
	return op;
}

/* What it does is the same on every kernel, whatever that has of it. */
static void random_step(struct fuzz_step *step, const struct fuzz_step *last)
{
	static const u32 reasons[] = {
		0, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_FILTER,
		KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN |
		KVM_MSR_EXIT_REASON_INVAL,
	};

	memset(step, 0, sizeof(*step));
	step->op = random_op();
	step->vcpu = random_below(NR_VCPUS);
	if (random_percent(65))
		step->check = 1 + (random_percent(60) ? 0 :
						random_below(NR_VCPUS));

	switch (step->op) {
	case FUZZ_RACE_VCPU:
		step->arg = random_below(FUZZ_RACE_STEPS);
		random_filter(step, last);
		break;
	case FUZZ_SET_FILTER:
	case FUZZ_RACE_FILTER:
		random_filter(step, last);
		break;
	case FUZZ_EXIT_REASONS:
		step->arg = reasons[random_below(ARRAY_SIZE(reasons))];
		break;
	case FUZZ_ADD_VCPU:
		step->arg = random_below(2) * FUZZ_X2APIC |
			    random_percent(30) * FUZZ_NO_SPEC_CTRL;
		break;
	case FUZZ_SPEC_CTRL:
	case FUZZ_CPUID:
	case FUZZ_CPU:
		step->arg = random_below(2);
		break;
	case FUZZ_LBR:
		step->arg = random_percent(70);
		break;
	case FUZZ_COPY:
		step->arg = random_below(FUZZ_FILTER_LAST + 1);
		break;
	case FUZZ_ENTER:
		step->arg = random_below(2) * FUZZ_L2_OTHER +
			    random_percent(15) * FUZZ_L2_NO_BITMAP +
			    random_percent(20) * FUZZ_L2_STORES +
			    random_percent(30) * FUZZ_L2_X2APIC +
			    random_below(2) * FUZZ_L2_DIRTY;
		break;
	case FUZZ_L1_BITMAP:
		/* L2 may have these without L1 as well as without KVM. */
		step->arg = random_percent(60) ? msrs[random_below(3)].index :
						 random_msr();
		step->flags = 1 + random_below(FILTER_RW) +
			      random_percent(35) * FUZZ_L1_LETS_GO +
			      random_below(2) * FUZZ_L1_OTHER;
		break;
	default:
		break;
	}
}

static void random_program(struct fuzz_program *program, u64 seed, u32 nr_steps)
{
	struct fuzz_step *step = program->steps, *last = NULL;
	unsigned int i;

	random_state = seed * 0x2545f4914f6cdd1dull;
	memset(program, 0, sizeof(*program));
	program->nr_steps = nr_steps;

	step->op = FUZZ_VM;
	step->check = random_below(2);
	step->arg = random_percent(50) * FUZZ_X2APIC |
		    random_percent(50) * FUZZ_NESTED |
		    random_percent(40) * FUZZ_ENLIGHTENED |
		    random_percent(30) * FUZZ_CSTATE |
		    random_percent(20) * FUZZ_NO_SPEC_CTRL |
		    random_percent(85) * FUZZ_FILTER_EXITS;
	for (i = 1; i < nr_steps; i++) {
		random_step(++step, last);
		if (step->op == FUZZ_SET_FILTER || step->op == FUZZ_RACE_FILTER)
			last = step;
	}
}

/*
 * Filters
 */

static void set_bits(u8 *bitmap, const struct fuzz_range *range)
{
	u32 size = DIV_ROUND_UP(range->nmsrs, 64) * 8, i;
	u64 state = random_state;

	if (size > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		size = KVM_MSR_FILTER_MAX_BITMAP_SIZE;
	if (range->bits == FUZZ_ALLOW || range->bits == FUZZ_ALLOW_BUT)
		memset(bitmap, 0xff, size);
	else
		memset(bitmap, 0, size);
	switch (range->bits) {
	case FUZZ_DENY_BUT:
	case FUZZ_ALLOW_BUT:
		if (range->arg / 8 < size)
			bitmap[range->arg / 8] ^= 1 << (range->arg % 8);
		break;
	case FUZZ_RANDOM:
		random_state = range->arg;
		for (i = 0; i < size; i++)
			bitmap[i] = random_u32();
		random_state = state;
		break;
	default:
		break;
	}
}

/* What the ioctl returns for it: bits of what is wrong, or might be */
#define BAD_EINVAL	BIT(0)
#define BAD_EFAULT	BIT(1)
#define MAYBE_EINVAL	BIT(2)
#define MAYBE_EFAULT	BIT(3)

static u32 make_filter(struct fuzz_filter *f, const struct fuzz_step *step)
{
	bool empty = true;
	unsigned int i;
	u32 bad = 0;

	memset(&f->filter, 0, sizeof(f->filter));
	f->filter.flags = step->flags;
	if (step->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		bad |= BAD_EINVAL;

	for (i = 0; i < step->nr_ranges; i++) {
		const struct fuzz_range *range = &step->ranges[i];

		f->filter.ranges[i] = (struct kvm_msr_filter_range) {
			.flags = range->flags,
			.base = range->base,
			.nmsrs = range->nmsrs,
			.bitmap = range->bits == FUZZ_NULL ? NULL :
							     f->bitmaps[i],
		};
		set_bits(f->bitmaps[i], range);
		if (!range->nmsrs) {
			if (!range->flags || range->flags & ~FILTER_RW)
				bad |= MAYBE_EINVAL;
			continue;
		}

		empty = false;
		if (!range->flags || range->flags & ~FILTER_RW ||
		    range->nmsrs > MAX_NMSRS)
			bad |= BAD_EINVAL;
		if (range->bits == FUZZ_NULL)
			bad |= bad & BAD_EINVAL ? MAYBE_EFAULT : BAD_EFAULT;
		if (range->base + range->nmsrs - 1 < range->base)
			bad |= MAYBE_EINVAL;
	}
	if (empty && (step->flags & KVM_MSR_FILTER_DEFAULT_DENY))
		bad |= BAD_EINVAL;
	return bad;
}

/* The next filter, of which @bad is to be said */
static void install_filter(u32 bad)
{
	struct fuzz_filter *f = vm.next_filter;
	unsigned int i;
	int ret;

	ret = __vm_ioctl(vm.vm, KVM_X86_SET_MSR_FILTER, &f->filter);
	if (ret) {
		if (errno == EINVAL && bad & (BAD_EINVAL | MAYBE_EINVAL))
			return;
		if (errno == EFAULT && bad & (BAD_EFAULT | MAYBE_EFAULT))
			return;
		TEST_ASSERT(!is_new_failure("a good filter is refused"),
			    "The filter is refused: %s", strerror(errno));
		return;
	}

	if (bad & (BAD_EINVAL | BAD_EFAULT))
		TEST_ASSERT(!is_new_failure("a bad filter is accepted"),
			    "The filter is accepted, expected %s",
			    bad & BAD_EINVAL ? "EINVAL" : "EFAULT");
	vm.next_filter = vm.filter;
	vm.filter = f;
	vm.has_filter = true;
	for (i = 0; i < NR_VCPUS; i++)
		vm.vcpus[i].raced = false;
}

static void set_filter(const struct fuzz_step *step)
{
	install_filter(make_filter(vm.next_filter, step));
}

/* The one in force, once more, for a copy of the VM */
static void copy_filter(void)
{
	if (vm.has_filter)
		vm_ioctl(vm.vm, KVM_X86_SET_MSR_FILTER, &vm.filter->filter);
}

/*
 * Who has to deal with an access
 */

static bool is_allowed(u32 index, bool write)
{
	return msr_filter_allows(vm.has_filter ? &vm.filter->filter : NULL,
				 index, write);
}

static bool l1_intercepts(const struct fuzz_vcpu *v, u32 index, bool write)
{
	u32 bit = index & 0x1fff;
	u8 *bitmap = vm.bitmaps[v->l2];

	if (v->no_bitmap)
		return !is_svm;
	if (is_svm) {
		if (index <= 0x1fff)
			bit = bit * 2 + write;
		else if (index - 0xc0000000 <= 0x1fff)
			bit = 0x4000 + bit * 2 + write;
		else if (index - 0xc0010000 <= 0x1fff)
			bit = 0x8000 + bit * 2 + write;
		else
			return true;
	} else {
		bit += write ? 0x4000 : 0;
		if (index - 0xc0000000 <= 0x1fff)
			bit += 0x2000;
		else if (index > 0x1fff)
			return true;
	}
	return bitmap[bit / 8] & (1 << (bit % 8));
}

static void set_l1_intercept(const struct fuzz_step *step)
{
	unsigned int l2 = step->flags & FUZZ_L1_OTHER ? vm.nr_l2s - 1 : 0;
	u32 index = step->arg, write, bit;

	if (index > 0x1fff && index - 0xc0000000 > 0x1fff)
		return;

	for (write = 0; write < 2; write++) {
		if (!(step->flags & msr_filter_flag(write)))
			continue;
		bit = index & 0x1fff;
		if (is_svm)
			bit = (index > 0x1fff ? 0x4000 : 0) + bit * 2 + write;
		else
			bit += (write ? 0x4000 : 0) +
			       (index > 0x1fff ? 0x2000 : 0);
		if (step->flags & FUZZ_L1_LETS_GO)
			vm.bitmaps[l2][bit / 8] &= ~(1 << (bit % 8));
		else
			vm.bitmaps[l2][bit / 8] |= 1 << (bit % 8);
	}
	vm.bitmap_changed = true;
}

static u32 allowed_handlers(const struct fuzz_vcpu *v,
			    const struct fuzz_msr *msr, bool write)
{
	if (msr->kind == SPEC_CTRL && !v->spec_ctrl)
		return KVM | GP;
	/* KVM need not take it back. */
	if (msr->kind == SPEC_CTRL && v->no_spec_ctrl)
		return ANY;
	if (msr->kind == LBR && v->lbr)
		return write ? ANY : CPU;
	/* An L1 without an x2APIC has none of its MSRs. */
	if (msr->kind == X2APIC && !is_svm && !v->in_l2 && !v->x2apic)
		return GP;
	if (msr->kind == CSTATE && !is_svm && v->cstate && !write)
		return v->in_l2 ? ANY : CPU;
	if (is_svm)
		return msr->svm;
	if (v->in_l2)
		return msr->l2;
	return write ? msr->writer : msr->reader;
}

/* The handlers that are right, as bits, and the reason if it is userspace */
static u32 expected_handlers(const struct fuzz_vcpu *v,
			     const struct fuzz_msr *msr, bool write,
			     u32 *reasons)
{
	u32 handlers;

	*reasons = 0;
	if (v->in_l2 && l1_intercepts(v, msr->index, write))
		return BIT(MSR_BY_L1);

	if (!is_allowed(msr->index, write)) {
		*reasons = KVM_MSR_EXIT_REASON_FILTER;
		return vm.exit_reasons & KVM_MSR_EXIT_REASON_FILTER ?
		       BIT(MSR_BY_USER) : GP;
	}

	handlers = allowed_handlers(v, msr, write);
	*reasons = vm.exit_reasons & (KVM_MSR_EXIT_REASON_UNKNOWN |
				      KVM_MSR_EXIT_REASON_INVAL);
	if ((handlers & GP) && *reasons)
		handlers |= BIT(MSR_BY_USER);
	return handlers;
}

/*
 * Running vCPUs
 */

static void handle_msr_exit(struct fuzz_vcpu *v)
{
	struct kvm_run *run = v->vcpu->run;
	struct fuzz_access *a = &v->g->accesses[v->g->cur];
	u32 expected;

	TEST_ASSERT(v->g->cur < v->g->nr,
		    "vCPU exits for MSR 0x%x, which it was not to access",
		    run->msr.index);
	expected = a->write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	TEST_ASSERT(run->exit_reason == expected && run->msr.index == a->index,
		    "Exit reason %u for MSR 0x%x, expected %u for 0x%lx",
		    run->exit_reason, run->msr.index, expected,
		    (unsigned long)a->index);
	TEST_ASSERT(!a->write || run->msr.data == a->value,
		    "Userspace got 0x%llx for MSR 0x%lx, the guest wrote 0x%lx",
		    run->msr.data, (unsigned long)a->index,
		    (unsigned long)a->value);
	if (!a->write)
		run->msr.data = MSR_VALUE_FROM_USER;
	run->msr.error = 0;
	a->user_reason = run->msr.reason;
	a->by_user++;
}

/* Would exits of L2 to L1 be VM-Aborts? */
static bool exits_abort(const struct fuzz_vcpu *v)
{
	return v->stores && !is_allowed(v->g->stored.index, false);
}

static void run_vcpu(struct fuzz_vcpu *v, enum fuzz_order order)
{
	u64 expected = v->in_l2 ? SYNC_IN_L2 : SYNC_IN_L1;
	struct kvm_run *run = v->vcpu->run;
	struct ucall uc;
	u64 cmd;

	v->g->order = order;
	v->restored = false;
	for (;;) {
		vcpu_run(v->vcpu);
		if (run->exit_reason != KVM_EXIT_X86_RDMSR &&
		    run->exit_reason != KVM_EXIT_X86_WRMSR)
			break;
		handle_msr_exit(v);
	}
	if (order == ORDER_LEAVE && exits_abort(v)) {
		vm.is_dead = run->exit_reason == KVM_EXIT_SHUTDOWN;
		if (vm.is_dead)
			return;
		TEST_ASSERT(!is_new_failure("L2 has 0x%x stored",
					    v->g->stored.index),
			    "L2 exits, and 0x%x is stored, expected a VM-Abort",
			    v->g->stored.index);
	}
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO,
		    "Exit reason %u, expected %u", run->exit_reason,
		    KVM_EXIT_IO);

	cmd = get_ucall(v->vcpu, &uc);
	if (cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(cmd == UCALL_SYNC && uc.args[1] == expected,
		    "ucall %lu, stage 0x%lx, expected stage 0x%lx",
		    (unsigned long)cmd, (unsigned long)uc.args[1],
		    (unsigned long)expected);
	TEST_ASSERT(v->g->cur == v->g->nr,
		    "%lu of %lu accesses have been done",
		    (unsigned long)v->g->cur, (unsigned long)v->g->nr);
}

/* The guest has nothing to access, yet. */
static void clear_accesses(struct fuzz_vcpu *v)
{
	v->g->nr = 0;
	v->g->cur = 0;
	v->g->limit = time_limit;
}

static void add_access(struct fuzz_vcpu *v, const struct fuzz_msr *msr,
		       bool write, u64 value)
{
	TEST_ASSERT(v->g->nr < MAX_ACCESSES, "Too many accesses");
	v->g->accesses[v->g->nr++] = (struct fuzz_access) {
		.index = msr->index,
		.write = write,
		.kind = msr->kind,
		.value = value,
	};
}

static enum msr_handler access_handler(const struct fuzz_access *a)
{
	if (a->l1_reason)
		return MSR_BY_L1;
	if (a->by_user)
		return MSR_BY_USER;
	if (a->time < time_limit)
		return MSR_BY_CPU;
	return a->gp ? MSR_BY_GP : MSR_BY_KVM;
}

static const char *handlers_in_words(u32 handlers, char *words, size_t size)
{
	unsigned int i, len = 0;

	words[0] = '\0';
	for (i = 0; i <= MSR_BY_L1; i++) {
		if (handlers & BIT(i))
			len += snprintf(words + len, size - len, "%s%s",
					len ? " or " : "",
					msr_handler_names[i]);
	}
	return words;
}

/* Userspace learns why, and the guest gets what userspace has. */
static void check_exit(const struct fuzz_vcpu *v, const struct fuzz_access *a,
		       u32 reasons)
{
	const char *what = a->write ? "write" : "read";
	unsigned int level = 1 + v->in_l2;

	if (!(a->user_reason & reasons))
		TEST_ASSERT(!is_new_failure("L%u %s 0x%lx: reason %lu", level,
					    what, (unsigned long)a->index,
					    (unsigned long)a->user_reason),
			    "L%u: the %s of MSR 0x%lx exits for reason %lu, expected of 0x%x",
			    level, what, (unsigned long)a->index,
			    (unsigned long)a->user_reason, reasons);
	if (!a->write && !a->gp && a->read != MSR_VALUE_FROM_USER)
		TEST_ASSERT(!is_new_failure("L%u value 0x%lx", level,
					    (unsigned long)a->index),
			    "L%u: MSR 0x%lx reads as 0x%lx, expected userspace's 0x%lx",
			    level, (unsigned long)a->index,
			    (unsigned long)a->read,
			    (unsigned long)MSR_VALUE_FROM_USER);
}

static void check_access(const struct fuzz_vcpu *v, const struct fuzz_msr *msr,
			 const struct fuzz_access *a)
{
	enum msr_handler handler = access_handler(a);
	const char *what = a->write ? "write" : "read";
	unsigned int level = 1 + v->in_l2;
	u32 expected, reasons;
	char words[128];

	progress->nr_by[handler]++;
	expected = expected_handlers(v, msr, a->write, &reasons);
	/* The time is not known: whoever has not sent it elsewhere */
	if (a->write && (msr->kind == TSC || msr->kind == DEADLINE) &&
	    expected & (CPU | KVM))
		expected |= CPU | KVM;

	if (!(expected & BIT(handler)))
		TEST_ASSERT(!is_new_failure("L%u %s 0x%x: %s%s", level, what,
					    msr->index,
					    msr_handler_names[handler],
					    v->raced ? ", new vCPU" : ""),
			    "vCPU %u, L%u: the %s of MSR 0x%x is dealt with by %s, expected %s (time %lu, of %lu; %lu tries)",
			    (unsigned int)(v - vm.vcpus), level, what,
			    msr->index, msr_handler_names[handler],
			    handlers_in_words(expected, words, sizeof(words)),
			    (unsigned long)a->time, (unsigned long)time_limit,
			    (unsigned long)a->nr_tries);
	else if (handler == MSR_BY_USER)
		check_exit(v, a, reasons);
	else if (handler == MSR_BY_L1)
		TEST_ASSERT(a->l1_reason == (a->write ? EXIT_REASON_MSR_WRITE :
							EXIT_REASON_MSR_READ),
			    "The %s of MSR 0x%x exits to L1 for reason %lu",
			    what, msr->index, (unsigned long)a->l1_reason);
}

static bool is_effective(const struct fuzz_access *a)
{
	return !a->l1_reason && !a->by_user && !a->gp;
}

/* Not more than two seconds from what was written, in either direction */
static bool is_tsc(u64 value, u64 written)
{
	return !tsc_limit || value - written + tsc_limit < 2 * tsc_limit;
}

/* A write that was denied does not show, and others do. */
static void check_value(const struct fuzz_vcpu *v, const struct fuzz_msr *msr,
			const struct fuzz_access *write,
			const struct fuzz_access *read)
{
	bool is_seen = read->read == write->value;

	if (write->index != read->index || !write->write || read->write ||
	    !msr->bits || !is_effective(read))
		return;
	if (msr->kind == DEADLINE && !v->x2apic)
		return;
	/* It may be the host's TSC that has been written. */
	if (msr->kind == TSC)
		is_seen = is_effective(write) && is_tsc(read->read, write->value);

	if (is_seen == is_effective(write))
		return;
	TEST_ASSERT(!is_new_failure("L%u value 0x%x", 1 + v->in_l2, msr->index),
		    "vCPU %u, L%u: MSR 0x%x reads as 0x%lx, after a write of 0x%lx that %s",
		    (unsigned int)(v - vm.vcpus), 1 + v->in_l2, msr->index,
		    (unsigned long)read->read, (unsigned long)write->value,
		    is_effective(write) ? "is allowed" : "is not");
}

static bool is_present(const struct fuzz_msr *msr)
{
	if (msr->kind == SPEC_CTRL)
		return has_spec_ctrl;
	if (msr->kind == DEADLINE)
		return has_deadline;
	return true;
}

/* Values of which no two that are near are the same; all are canonical. */
static u64 new_value(const struct fuzz_msr *msr)
{
	static u64 nr;

	if (msr->kind == SPEC_CTRL)
		return 0;
	return (MSR_VALUE_WRITTEN + (++nr << 4)) & msr->bits;
}

/* Have the vCPU access all MSRs, where it is. */
static void check_vcpu(struct fuzz_vcpu *v)
{
	const struct fuzz_msr *of[MAX_ACCESSES];
	unsigned int i, write, nr = 0;
	u64 exits, limit = 16;
	u32 handlers, reasons;

	clear_accesses(v);
	for (i = 0; i < 2 * NR_MSRS; i++) {
		const struct fuzz_msr *msr = &msrs[i / 2];
		u64 value = new_value(msr);

		/* Writes first */
		write = !(i % 2);
		if (!is_present(msr))
			continue;
		handlers = expected_handlers(v, msr, write, &reasons);
		if (handlers == BIT(MSR_BY_L1) && exits_abort(v))
			continue;
		if (write && !msr->bits && msr->kind != SPEC_CTRL &&
		    handlers & ANY && reasons != KVM_MSR_EXIT_REASON_FILTER)
			continue;
		if (write && msr->kind == SPEC_CTRL)
			value = v->spec_ctrl;
		of[nr++] = msr;
		add_access(v, msr, write, value);
	}

	exits = vcpu_get_stat(v->vcpu, exits);
	run_vcpu(v, ORDER_ACCESS);
	exits = vcpu_get_stat(v->vcpu, exits) - exits;

	for (i = 0; i < nr; i++) {
		const struct fuzz_access *a = &v->g->accesses[i];

		check_access(v, of[i], a);
		if (i && of[i - 1] == of[i])
			check_value(v, of[i], a - 1, a);
		/* L1 takes any number of them. */
		limit += v->in_l2 ? 1000 : a->nr_exits + 1;
	}
	if (exits > 2 * limit)
		TEST_ASSERT(!is_new_failure("VM-Exits"),
			    "KVM counts %lu VM-Exits, expected %lu",
			    (unsigned long)exits, (unsigned long)limit);
	progress->nr_accesses += nr;
}

/*
 * Steps
 */

static void enable_exits(void)
{
	vm_enable_cap(vm.vm, KVM_CAP_X86_USER_SPACE_MSR, vm.exit_reasons);
}

/* How long it took to create the last vCPU */
static u64 creation_time;

static bool is_enlightened(void)
{
	return (vm.arg & FUZZ_NESTED) && (vm.arg & FUZZ_ENLIGHTENED);
}

/* What userspace tells KVM of a vCPU before that runs for the first time */
static void init_vcpu(struct fuzz_vcpu *v)
{
	if (v == vm.vcpus && is_enlightened())
		vcpu_set_hv_cpuid(v->vcpu);
	if (has_deadline)
		vcpu_set_cpuid_feature(v->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	if (has_spec_ctrl)
		vcpu_set_or_clear_cpuid_feature(v->vcpu, X86_FEATURE_SPEC_CTRL,
						!v->no_spec_ctrl);
	if (v == vm.vcpus && is_enlightened() && !is_svm)
		vcpu_enable_evmcs(v->vcpu);
	v->cstate = vm.cstate;
}

/* By userspace: the filter might deny it to the guest. */
static void enable_x2apic(struct kvm_vcpu *vcpu)
{
	u64 base = vcpu_get_msr(vcpu, MSR_IA32_APICBASE);

	vcpu_set_msr(vcpu, MSR_IA32_APICBASE, base | APIC_BASE_EXTD);
}

/*
 * With the CPUID that it has, or without SPEC_CTRL, if that it has, and the other
 * way round: newer kernels refuse that once the vCPU has run.
 */
static void set_cpuid(struct fuzz_vcpu *v, bool toggle)
{
	struct kvm_cpuid_entry2 *entry;

	/* What KVM has changed of it since, it wants to get back. */
	vcpu_ioctl(v->vcpu, KVM_GET_CPUID2, v->vcpu->cpuid);
	if (!toggle || !has_spec_ctrl) {
		vcpu_set_cpuid(v->vcpu);
		return;
	}

	entry = vcpu_get_cpuid_entry(v->vcpu, X86_FEATURE_SPEC_CTRL.function);
	entry->edx ^= BIT(X86_FEATURE_SPEC_CTRL.bit);
	if (__vcpu_set_cpuid(v->vcpu)) {
		TEST_ASSERT(errno == EINVAL, "KVM_SET_CPUID2: %s",
			    strerror(errno));
		entry->edx ^= BIT(X86_FEATURE_SPEC_CTRL.bit);
		return;
	}
	v->no_spec_ctrl = !v->no_spec_ctrl;
}

/* @arg is FUZZ_X2APIC and FUZZ_NO_SPEC_CTRL. */
static struct fuzz_vcpu *new_vcpu(void *code, u32 arg)
{
	unsigned int nr = vm.nr_vcpus++;
	struct fuzz_vcpu *v = &vm.vcpus[nr];

	memset(v, 0, sizeof(*v));
	creation_time = rdtsc();
	v->vcpu = vm_vcpu_add(vm.vm, nr, code);
	creation_time = rdtsc() - creation_time;
	v->g = addr_gva2hva(vm.vm, (gva_t)&guests[nr]);
	memset(v->g, 0, sizeof(*v->g));
	v->x2apic = arg & FUZZ_X2APIC;
	v->no_spec_ctrl = arg & FUZZ_NO_SPEC_CTRL;
	v->g->x2apic = v->x2apic;
	vcpu_args_set(v->vcpu, 1, &guests[nr]);
	init_vcpu(v);
	if (v->x2apic)
		enable_x2apic(v->vcpu);
	return v;
}

static void new_nested_vcpu(u32 arg)
{
	gva_t vmx[NR_L2S], hv, svm;
	struct fuzz_vcpu *v;
	unsigned int i;

	if (is_svm) {
		v = new_vcpu(guest_svm_code, arg);
		if (!vm.has_msrpm)
			vm_userspace_mem_region_add(vm.vm,
						    VM_MEM_SRC_ANONYMOUS,
						    MSRPM_GPA, MSRPM_SLOT,
						    MSRPM_PAGES, 0);
		vm.has_msrpm = true;
		vm.bitmaps[0] = addr_gpa2hva(vm.vm, MSRPM_GPA);
		memset(vm.bitmaps[0], 0, MSRPM_PAGES * getpagesize());
		vcpu_alloc_svm(vm.vm, &svm);
		vm.nr_l2s = 1;
		vcpu_args_set(v->vcpu, 3, &guests[0], svm,
			      (u64)is_enlightened());
		return;
	}

	vm.nr_l2s = is_enlightened() ? 1 : NR_L2S;
	v = new_vcpu(is_enlightened() ? (void *)guest_evmcs_code :
					(void *)guest_vmx_code, arg);
	for (i = 0; i < vm.nr_l2s; i++)
		vm.bitmaps[i] = vcpu_alloc_vmx(vm.vm, &vmx[i])->msr_hva;
	if (is_enlightened()) {
		vcpu_alloc_hyperv_test_pages(vm.vm, &hv);
		vcpu_args_set(v->vcpu, 3, &guests[0], vmx[0], hv);
	} else {
		vcpu_args_set(v->vcpu, 3, &guests[0], vmx[0], vmx[1]);
		v->g->stored.index = MSR_IA32_TSC;
		v->g->stored_gpa = addr_gva2gpa(vm.vm,
						(gva_t)&guests[0].stored);
		if (has_l2_x2apic)
			v->g->l2_apic_gpa = addr_gva2gpa(vm.vm, (gva_t)l2_apic);
	}
}

static void disable_exits(void)
{
	u64 can = kvm_check_cap(KVM_CAP_X86_DISABLE_EXITS);

	if (!(can & KVM_X86_DISABLE_EXITS_CSTATE))
		return;

	/* Newer kernels refuse that once there are vCPUs. */
	if (__vm_enable_cap(vm.vm, KVM_CAP_X86_DISABLE_EXITS,
			    KVM_X86_DISABLE_EXITS_CSTATE))
		TEST_ASSERT(errno == EINVAL && vm.nr_vcpus,
			    "KVM_CAP_X86_DISABLE_EXITS: %s", strerror(errno));
	else
		vm.cstate = true;
}

/* The vCPU comes to where it is about to access MSRs. */
static void start_vcpu(struct fuzz_vcpu *v)
{
	clear_accesses(v);
	run_vcpu(v, ORDER_ACCESS);
}

/*
 * To load the test into memory takes longer than all the rest, so a few VMs
 * have one memory.  Each needs some for itself: as much as so many vCPUs'.
 */
#define USES_OF_MEMORY	16
#define VCPUS_OF_MEMORY	(USES_OF_MEMORY * 10)

static void new_vm(u32 arg)
{
	struct fuzz_vm old = vm;

	memset(&vm, 0, sizeof(vm));
	vm.filter = old.filter;
	vm.next_filter = old.next_filter;
	if (old.vm && old.nr_uses < USES_OF_MEMORY) {
		vm.vm = old.vm;
		vm.nr_uses = old.nr_uses;
		vm.has_msrpm = old.has_msrpm;
		kvm_vm_release(vm.vm);
		kvm_vm_restart(vm.vm);
	} else {
		kvm_vm_free(old.vm);
		vm.vm = vm_create(VCPUS_OF_MEMORY);
	}
	vm.nr_uses++;

	if (!has_nested)
		arg &= ~FUZZ_NESTED;
	if (!has_enlightened)
		arg &= ~FUZZ_ENLIGHTENED;
	vm.arg = arg;
	if (arg & FUZZ_FILTER_EXITS)
		vm.exit_reasons = KVM_MSR_EXIT_REASON_FILTER;
	enable_exits();
	if (arg & FUZZ_CSTATE)
		disable_exits();

	if (arg & FUZZ_NESTED)
		new_nested_vcpu(arg);
	else
		new_vcpu(guest_code, arg);
	start_vcpu(&vm.vcpus[0]);
}

static void use_spec_ctrl(struct fuzz_vcpu *v, bool by_guest)
{
	const struct fuzz_msr *msr = &msrs[6];
	const struct fuzz_access *a = &v->g->accesses[0];
	struct kvm_vcpu *vcpu = v->vcpu;
	u32 reasons;

	TEST_ASSERT(msr->kind == SPEC_CTRL, "Not SPEC_CTRL: 0x%x", msr->index);
	if (!has_spec_ctrl)
		return;
	if (!by_guest) {
		vcpu_set_msr(vcpu, MSR_IA32_SPEC_CTRL, 1);
		v->spec_ctrl = true;
		return;
	}

	if (expected_handlers(v, msr, true, &reasons) == BIT(MSR_BY_L1) &&
	    exits_abort(v))
		return;
	clear_accesses(v);
	add_access(v, msr, true, 1);
	run_vcpu(v, ORDER_ACCESS);
	if (is_effective(a)) {
		/* The first access is KVM's, those after it may be the CPU's. */
		if (v->spec_ctrl)
			check_access(v, msr, a);
		v->spec_ctrl = true;
	} else {
		check_access(v, msr, a);
	}
}

/* DEBUGCTL is KVM's, whether LBRs are in use or not. */
static void use_lbr(struct fuzz_vcpu *v, bool use)
{
	static const struct fuzz_msr msr = {
		MSR_IA32_DEBUGCTLMSR, PLAIN, KVM, KVM, KVM, KVM
	};
	const struct fuzz_access *a = &v->g->accesses[0];

	if (!has_lbr)
		return;

	clear_accesses(v);
	add_access(v, &msr, true, use ? DEBUGCTLMSR_LBR : 0);
	run_vcpu(v, ORDER_ACCESS);
	check_access(v, &msr, a);
	if (is_effective(a))
		v->lbr = use;
}

/* While VMX is on, these can't be set, not even to what they are. */
static void drop_vmx_msrs(struct kvm_x86_state *state)
{
	struct kvm_msr_entry *entries = state->msrs.entries;
	u32 i, nr = 0;

	for (i = 0; i < state->msrs.nmsrs; i++)
		if (entries[i].index < MSR_IA32_VMX_BASIC ||
		    entries[i].index > MSR_IA32_VMX_VMFUNC)
			entries[nr++] = entries[i];
	state->msrs.nmsrs = nr;
}

/*
 * Restored, and saved again before it has run, an enlightened VMCS is what happens
 * to be in KVM's shadow VMCS: KVM maps it on the first run only.  No filter has a
 * part in that.
 */
static bool can_save_vm(void)
{
	return is_svm || !is_enlightened() || !vm.vcpus[0].restored;
}

/*
 * Up to 5.12, SVM takes L2's controls for L1's if nested state is restored while L2 is
 * active, no matter what the filter is.  KVM_CAP_SREGS2 is from 5.14.
 */
static bool can_restore_in_place(void)
{
	return !is_svm || !vm.vcpus[0].in_l2 || kvm_has_cap(KVM_CAP_SREGS2);
}

/* The state of all vCPUs, and where it goes to */
static void restore_vm(bool copy, enum fuzz_copy when)
{
	struct kvm_x86_state *states[NR_VCPUS];
	struct kvm_lapic_state apics[NR_VCPUS];
	unsigned int i;

	for (i = 0; i < vm.nr_vcpus; i++) {
		states[i] = vcpu_save_state(vm.vcpus[i].vcpu);
		vcpu_ioctl(vm.vcpus[i].vcpu, KVM_GET_LAPIC, &apics[i]);
	}

	if (copy) {
		kvm_vm_release(vm.vm);
		kvm_vm_restart(vm.vm);
		enable_exits();
		if (vm.cstate)
			vm_enable_cap(vm.vm, KVM_CAP_X86_DISABLE_EXITS,
				      KVM_X86_DISABLE_EXITS_CSTATE);
		if (when == FUZZ_FILTER_FIRST)
			copy_filter();
		for (i = 0; i < vm.nr_vcpus; i++) {
			vm.vcpus[i].vcpu = vm_vcpu_recreate(vm.vm, i);
			init_vcpu(&vm.vcpus[i]);
		}
	}

	if (copy && when == FUZZ_FILTER_BEFORE_LOAD)
		copy_filter();
	for (i = 0; i < vm.nr_vcpus; i++) {
		if (!copy)
			drop_vmx_msrs(states[i]);
		vcpu_load_state(vm.vcpus[i].vcpu, states[i]);
		vcpu_ioctl(vm.vcpus[i].vcpu, KVM_SET_LAPIC, &apics[i]);
		kvm_x86_state_cleanup(states[i]);
		vm.vcpus[i].restored = true;
		/* Not all kernels have it saved. */
		if (has_lbr && copy)
			vm.vcpus[i].lbr =
				vcpu_get_msr(vm.vcpus[i].vcpu,
					     MSR_IA32_DEBUGCTLMSR);
		/* It is in use from its first value on that is not 0. */
		if (has_spec_ctrl && copy)
			vm.vcpus[i].spec_ctrl =
				vcpu_get_msr(vm.vcpus[i].vcpu,
					     MSR_IA32_SPEC_CTRL);
	}
	if (copy && when == FUZZ_FILTER_LAST)
		copy_filter();
}

static void enter_l2(struct fuzz_vcpu *v, u32 arg)
{
	v->l2 = arg & FUZZ_L2_OTHER ? vm.nr_l2s - 1 : 0;
	v->no_bitmap = arg & FUZZ_L2_NO_BITMAP;
	v->g->l2 = v->l2;
	v->g->no_bitmap = v->no_bitmap;
	v->g->l2_x2apic = arg & FUZZ_L2_X2APIC;
	v->stores = arg & FUZZ_L2_STORES && has_filtered_lists &&
		    v->g->stored_gpa;
	v->g->nr_stored = v->stores;
	v->g->bitmap_is_clean = !vm.bitmap_changed && !(arg & FUZZ_L2_DIRTY);
	/* Without a bitmap KVM does not look at what has changed in it. */
	if (!v->no_bitmap)
		vm.bitmap_changed = false;
	clear_accesses(v);
	v->in_l2 = true;
	run_vcpu(v, ORDER_ENTER);
}

static void leave_l2(struct fuzz_vcpu *v)
{
	clear_accesses(v);
	v->in_l2 = false;
	v->g->stored.value = 0;
	run_vcpu(v, ORDER_LEAVE);
	if (v->stores && !vm.is_dead)
		TEST_ASSERT(v->g->stored.value || exits_abort(v),
			    "L2 exits, and 0x%x is not stored",
			    v->g->stored.index);
}

static void go_to_cpu(unsigned int nr)
{
	cpu_set_t cpus;
	unsigned int i;

	nr %= nr_cpus;
	for (i = 0; !CPU_ISSET(i, &all_cpus) || nr--; i++)
		;
	CPU_ZERO(&cpus);
	CPU_SET(i, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "sched_setaffinity() failed");
}

/*
 * What happens on two CPUs at once
 */

static u64 race_begins;
static bool race_is_ready;

static void *vcpu_thread(void *arg)
{
	go_to_cpu(1);
	run_vcpu(arg, ORDER_ACCESS);
	return NULL;
}

/* Once the ioctl has returned, the guest's very next accesses obey. */
static void race_filter(struct fuzz_vcpu *v, const struct fuzz_step *step)
{
	u32 bad;
	pthread_t thread;
	unsigned int i;

	/* L2 could exit to L1, and that would be the end. */
	if (nr_cpus < 2 || v->stores) {
		set_filter(step);
		return;
	}

	clear_accesses(v);
	for (i = 0; i < 2 * NR_RACE_MSRS; i++)
		add_access(v, &msrs[i / 2], i % 2, new_value(&msrs[i / 2]));
	v->g->is_waiting = false;
	v->g->goes_on = false;
	v->g->waits = true;

	bad = make_filter(vm.next_filter, step);
	go_to_cpu(0);
	TEST_ASSERT(!pthread_create(&thread, NULL, vcpu_thread, v),
		    "No thread for the vCPU");
	while (!READ_ONCE(v->g->is_waiting))
		;
	install_filter(bad);
	WRITE_ONCE(v->g->goes_on, true);
	pthread_join(thread, NULL);
	v->g->waits = false;

	for (i = 0; i < v->g->nr; i++)
		check_access(v, &msrs[i / 2], &v->g->accesses[i]);
}

static void *filter_thread(void *bad)
{
	u64 begins;

	go_to_cpu(1);
	__atomic_store_n(&race_is_ready, true, __ATOMIC_RELEASE);
	while (!(begins = __atomic_load_n(&race_begins, __ATOMIC_ACQUIRE)))
		;
	while (rdtsc() < begins)
		;
	install_filter(*(u32 *)bad);
	return NULL;
}

/* The new vCPU obeys, too. */
static void race_vcpu(const struct fuzz_step *step)
{
	struct fuzz_vcpu *v;
	pthread_t thread;
	u64 delay;
	u32 bad;

	if (vm.nr_vcpus == NR_VCPUS)
		return;
	if (nr_cpus < 2) {
		set_filter(step);
		start_vcpu(new_vcpu(guest_code, 0));
		return;
	}

	bad = make_filter(vm.next_filter, step);
	go_to_cpu(0);
	race_is_ready = false;
	race_begins = 0;
	TEST_ASSERT(!pthread_create(&thread, NULL, filter_thread, &bad),
		    "No thread for the filter");
	while (!__atomic_load_n(&race_is_ready, __ATOMIC_ACQUIRE))
		;
	delay = creation_time * step->arg / FUZZ_RACE_STEPS;
	__atomic_store_n(&race_begins, rdtsc() + delay, __ATOMIC_RELEASE);
	v = new_vcpu(guest_code, 0);
	pthread_join(thread, NULL);
	v->raced = true;
	start_vcpu(v);
}

static void do_step(const struct fuzz_step *step)
{
	struct fuzz_vcpu *v = &vm.vcpus[vm.nr_vcpus ? step->vcpu % vm.nr_vcpus :
						      0];
	struct fuzz_vcpu *first = &vm.vcpus[0];

	switch (step->op) {
	case FUZZ_VM:
		new_vm(step->arg);
		break;
	case FUZZ_SET_FILTER:
		set_filter(step);
		break;
	case FUZZ_EXIT_REASONS:
		vm.exit_reasons = step->arg;
		enable_exits();
		break;
	case FUZZ_DISABLE_EXITS:
		disable_exits();
		break;
	case FUZZ_ADD_VCPU:
		if (vm.nr_vcpus < NR_VCPUS)
			start_vcpu(new_vcpu(guest_code, step->arg));
		break;
	case FUZZ_RACE_FILTER:
		race_filter(v, step);
		break;
	case FUZZ_RACE_VCPU:
		race_vcpu(step);
		break;
	case FUZZ_CPUID:
		if (v != first || !(vm.arg & FUZZ_NESTED))
			set_cpuid(v, step->arg);
		break;
	case FUZZ_SPEC_CTRL:
		use_spec_ctrl(v, step->arg);
		break;
	case FUZZ_LBR:
		if (v != first || !(vm.arg & FUZZ_NESTED))
			use_lbr(v, step->arg);
		break;
	case FUZZ_CPU:
		go_to_cpu(step->arg);
		break;
	case FUZZ_RESTORE:
		if (can_save_vm() && can_restore_in_place())
			restore_vm(false, FUZZ_FILTER_LAST);
		break;
	case FUZZ_COPY:
		if (can_save_vm())
			restore_vm(true, step->arg);
		break;
	case FUZZ_ENTER:
		if ((vm.arg & FUZZ_NESTED) && !first->in_l2)
			enter_l2(first, step->arg);
		break;
	case FUZZ_LEAVE:
		if (first->in_l2)
			leave_l2(first);
		break;
	case FUZZ_L1_BITMAP:
		if ((vm.arg & FUZZ_NESTED) && !first->in_l2)
			set_l1_intercept(step);
		break;
	default:
		break;
	}
}

static void run_program(const struct fuzz_program *program)
{
	unsigned int i;

	for (i = 0; i < program->nr_steps; i++) {
		const struct fuzz_step *step = &program->steps[i];

		progress->step = i;
		alarm(STEP_SECONDS);
		do_step(step);
		if (vm.is_dead)
			break;
		if (step->check)
			check_vcpu(&vm.vcpus[(step->check - 1) % vm.nr_vcpus]);
		progress->nr_steps++;
	}
	/* All of them at last */
	for (i = 0; i < vm.nr_vcpus && !vm.is_dead; i++)
		check_vcpu(&vm.vcpus[i]);
	progress->nr_programs++;
}

/*
 * What this host can do, and how long it takes
 */

static struct fuzz_times {
	u64 nothing;
	u64 exit;
	/* Reads of it end in no #GP. */
	u64 has_spec_ctrl;
	/* DEBUGCTL.LBR stays set. */
	u64 has_lbr;
	u64 is_svm;
} guest_times;

static void guest_time_code(void)
{
	u64 before, time;
	u32 eax = -1, ebx, ecx, edx = -1;
	unsigned int i;

	guest_times.has_spec_ctrl = !rdmsr_safe(MSR_IA32_SPEC_CTRL, &time);
	if (guest_times.is_svm) {
		guest_times.has_lbr =
			!wrmsr_safe(MSR_IA32_DEBUGCTLMSR, DEBUGCTLMSR_LBR) &&
			rdmsr(MSR_IA32_DEBUGCTLMSR);
	}

	guest_times.nothing = -1ull;
	guest_times.exit = -1ull;
	for (i = 0; i < 16; i++) {
		before = guest_now();
		time = guest_now() - before;
		if (time < guest_times.nothing)
			guest_times.nothing = time;

		before = guest_now();
		cpuid(0, &eax, &ebx, &ecx, &edx);
		time = guest_now() - before;
		if (time < guest_times.exit)
			guest_times.exit = time;
	}
	GUEST_SYNC(SYNC_STARTED);
}

static bool l1_may_virtualize_x2apic(void)
{
	const u32 x2apic = SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
			   SECONDARY_EXEC_APIC_REGISTER_VIRT;

	return kvm_cpu_has(X86_FEATURE_VMX) &&
	       (kvm_get_feature_msr(MSR_IA32_VMX_TRUE_PROCBASED_CTLS) >> 32 &
		CPU_BASED_TPR_SHADOW) &&
	       (kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 &
		x2apic) == x2apic;
}

static void look_at_host(void)
{
	struct fuzz_times *times;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *probe;
	int tsc_khz;

	is_svm = !this_cpu_has(X86_FEATURE_VMX);
	has_nested = kvm_cpu_has(is_svm ? X86_FEATURE_SVM : X86_FEATURE_VMX) &&
		     kvm_has_cap(KVM_CAP_NESTED_STATE);
	has_enlightened = has_nested && kvm_has_nested_hyperv();
	has_deadline = kvm_has_cap(KVM_CAP_TSC_DEADLINE_TIMER);
	has_l2_x2apic = has_nested && l1_may_virtualize_x2apic();

	probe = vm_create(1);
	vcpu = vm_vcpu_add(probe, 0, guest_time_code);
	/* Newer kernels keep the CPUID of a vCPU that has run as it is. */
	has_spec_ctrl = !is_svm && vcpu_enable_spec_ctrl(vcpu);
	times = addr_gva2hva(probe, (gva_t)&guest_times);
	times->is_svm = is_svm;
	vcpu_run(vcpu);
	time_limit = (times->nothing + times->exit) / 3;
	printf("time: %lu for nothing, %lu for a VM-Exit, %lu or more is one\n",
	       (unsigned long)times->nothing, (unsigned long)times->exit,
	       (unsigned long)time_limit);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
		    times->nothing * 4 < times->exit,
		    "It can't be told here who deals with an access");
	/* CPUID alone may not do it. */
	has_spec_ctrl &= times->has_spec_ctrl;
	has_lbr = times->has_lbr;
	tsc_khz = __vcpu_ioctl(vcpu, KVM_GET_TSC_KHZ, NULL);
	if (tsc_khz > 0)
		tsc_limit = 2000ull * tsc_khz;
	kvm_vm_free(probe);

	TEST_ASSERT(!sched_getaffinity(0, sizeof(all_cpus), &all_cpus),
		    "sched_getaffinity() failed");
	nr_cpus = CPU_COUNT(&all_cpus);
}

/* Linux 5.18 to 6.11 say that MSR lists of nested VM-Exits are not. */
static void look_at_lists(void)
{
	const struct fuzz_step deny_lstar = {
		.nr_ranges = 1,
		.ranges = { { FILTER_R, MSR_LSTAR, 1 } },
	};
	struct fuzz_vcpu *v = &vm.vcpus[0];

	if (is_svm || !has_nested)
		return;
	new_vm(FUZZ_NESTED);
	set_filter(&deny_lstar);
	v->g->stored.index = MSR_LSTAR;
	has_filtered_lists = true;
	enter_l2(v, FUZZ_L2_STORES);
	v->g->order = ORDER_LEAVE;
	vcpu_run(v->vcpu);
	has_filtered_lists = v->vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN;
	kvm_vm_free(vm.vm);
	vm.vm = NULL;
	if (!has_filtered_lists)
		printf("skipped: stored when L2 exits: KVM does not filter that\n");
}

/*
 * Processes: whatever fails, fails in one of its own
 */

#define PROGRAMS_PER_PROCESS	64

static bool is_quiet;

static void begin_process(void)
{
	int fd;

	progress->failure[0] = '\0';
	alarm(STEP_SECONDS);
	if (!is_quiet)
		return;
	fd = open("/dev/null", O_WRONLY);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
}

static bool process_fails(pid_t pid)
{
	int status;

	TEST_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid,
		    "No process: %s", strerror(errno));
	if (WIFSIGNALED(status))
		snprintf(progress->failure, sizeof(progress->failure),
			 "signal %d", WTERMSIG(status));
	return status;
}

static bool program_fails(const struct fuzz_program *program)
{
	pid_t pid = fork();

	if (!pid) {
		begin_process();
		run_program(program);
		exit(0);
	}
	return process_fails(pid);
}

/* The seed that fails is in progress->seed. */
static bool some_program_fails(u64 seed, u64 nr, u32 nr_steps)
{
	static struct fuzz_program program;
	pid_t pid = fork();

	if (!pid) {
		begin_process();
		for (; nr; nr--, seed++) {
			progress->seed = seed;
			random_program(&program, seed, nr_steps);
			run_program(&program);
		}
		exit(0);
	}
	return process_fails(pid);
}

/*
 * Shrinking: take away what it fails without
 */

#define MAX_TRIES	400

static bool shrinks = true;
static unsigned int nr_tries;
static char the_failure[FAILURE_LENGTH];

static bool still_fails(struct fuzz_program *program,
			const struct fuzz_program *smaller)
{
	if (nr_tries >= MAX_TRIES || !memcmp(program, smaller, sizeof(*program)))
		return false;
	nr_tries++;
	/* In the same way, that is */
	if (!program_fails(smaller) || strcmp(progress->failure, the_failure))
		return false;
	*program = *smaller;
	return true;
}

/* Whole steps, but the first, which makes the VM: many at a time, then few */
static void shrink_steps(struct fuzz_program *program)
{
	struct fuzz_program smaller;
	unsigned int nr, from;

	for (nr = program->nr_steps / 2; nr; nr /= 2) {
		from = program->nr_steps;
		while (from > 1) {
			from = from > nr + 1 ? from - nr : 1;
			if (from + nr > program->nr_steps)
				continue;
			smaller = *program;
			smaller.nr_steps -= nr;
			memmove(&smaller.steps[from], &smaller.steps[from + nr],
				(smaller.nr_steps - from) *
				sizeof(smaller.steps[0]));
			memset(&smaller.steps[smaller.nr_steps], 0,
			       nr * sizeof(smaller.steps[0]));
			still_fails(program, &smaller);
		}
	}
}

static void shrink_ranges(struct fuzz_program *program, unsigned int i)
{
	struct fuzz_program smaller;
	struct fuzz_range *range;
	struct fuzz_step *step;
	unsigned int j;

	for (j = program->steps[i].nr_ranges; j--; ) {
		smaller = *program;
		step = &smaller.steps[i];
		step->nr_ranges--;
		memmove(&step->ranges[j], &step->ranges[j + 1],
			(step->nr_ranges - j) * sizeof(step->ranges[0]));
		memset(&step->ranges[step->nr_ranges], 0,
		       sizeof(step->ranges[0]));
		if (still_fails(program, &smaller))
			continue;

		smaller = *program;
		range = &smaller.steps[i].ranges[j];
		range->bits = FUZZ_DENY;
		range->arg = 0;
		still_fails(program, &smaller);

		smaller = *program;
		range = &smaller.steps[i].ranges[j];
		if (range->nmsrs > 1) {
			range->nmsrs = 1;
			still_fails(program, &smaller);
		}
	}
}

/* What the steps are given */
static void shrink_arguments(struct fuzz_program *program)
{
	struct fuzz_program smaller;
	unsigned int i, bit;

	for (i = 0; i < program->nr_steps; i++) {
		smaller = *program;
		smaller.steps[i].check = 0;
		still_fails(program, &smaller);
		smaller = *program;
		smaller.steps[i].vcpu = 0;
		still_fails(program, &smaller);
		for (bit = 0; bit < 6; bit++) {
			smaller = *program;
			if (smaller.steps[i].op == FUZZ_L1_BITMAP)
				break;
			smaller.steps[i].arg &= ~BIT(bit);
			still_fails(program, &smaller);
		}
		shrink_ranges(program, i);
	}
}

static void shrink(struct fuzz_program *program)
{
	unsigned int round;

	/* Some steps are of use only for what others are given. */
	for (round = 0; round < 2; round++) {
		shrink_steps(program);
		shrink_arguments(program);
	}
}

static void print_range(const struct fuzz_range *range)
{
	printf("\t\t{ 0x%x, 0x%x, 0x%x, %s, %u },\n", range->flags, range->base,
	       range->nmsrs, bits_names[range->bits], range->arg);
}

/* As FUZZ_PROGRAM takes it */
static void print_program(const struct fuzz_program *program)
{
	unsigned int i, j;

	for (i = 0; i < program->nr_steps; i++) {
		const struct fuzz_step *step = &program->steps[i];

		printf("\t{ .op = %s", op_names[step->op]);
		if (step->vcpu)
			printf(", .vcpu = %u", step->vcpu);
		if (step->check)
			printf(", .check = %u", step->check);
		if (step->arg)
			printf(", .arg = 0x%x", step->arg);
		if (step->flags)
			printf(", .flags = 0x%x", step->flags);
		if (step->nr_ranges) {
			printf(", .nr_ranges = %u, .ranges = {\n",
			       step->nr_ranges);
			for (j = 0; j < step->nr_ranges; j++)
				print_range(&step->ranges[j]);
			printf("\t}");
		}
		printf(" },\n");
	}
}

static void report_shrunk(struct fuzz_program *program, u64 seed)
{
	is_quiet = true;
	nr_tries = 0;
	if (program_fails(program)) {
		shrink(program);
		printf("it is shrunk to %u steps, in %u tries:\n",
		       program->nr_steps, nr_tries);
	} else {
		printf("it does not fail again by itself:\n");
	}
	is_quiet = false;

	printf("/* program %lu */\n", (unsigned long)seed);
	print_program(program);
	printf("/* end of program */\n");
	program_fails(program);
}

static void report_failure(u64 seed, u32 nr_steps)
{
	static struct fuzz_program program;
	unsigned int step = progress->step;

	random_program(&program, seed, nr_steps);
	memcpy(the_failure, progress->failure, sizeof(the_failure));
	printf("program %lu fails at step %u of %u, %s: %s\n",
	       (unsigned long)seed, step, program.nr_steps,
	       op_names[program.steps[step].op],
	       the_failure[0] ? the_failure : "the test itself");

	if (shrinks)
		report_shrunk(&program, seed);
	if (the_failure[0] && progress->nr_failures < MAX_FAILURES)
		memcpy(progress->failures[progress->nr_failures++], the_failure,
		       sizeof(the_failure));
}

#ifdef FUZZ_PROGRAM
static const struct fuzz_program the_program = {
	.steps = {
#include FUZZ_PROGRAM
	},
};

/* Of the steps that are not there .op is that of the first. */
static void run_the_program(void)
{
	struct fuzz_program program = the_program;

	do {
		program.nr_steps++;
	} while (program.nr_steps < MAX_STEPS &&
		 program.steps[program.nr_steps].op);

	print_program(&program);
	run_program(&program);
	printf("the program of %s: ok\n", FUZZ_PROGRAM);
}
#endif

static void usage(const char *name)
{
	printf("%s [-s SEED] [-n PROGRAMS] [-l STEPS] [-f FAILURES] [-q] [-p]\n"
	       "  -s  the seed of the first program, one more for each\n"
	       "  -l  how many steps each has\n"
	       "  -f  end after that many different failures\n"
	       "  -q  do not shrink what fails\n"
	       "  -p  print the programs, and do not run them\n", name);
	exit(1);
}

int main(int argc, char *argv[])
{
	u64 seed = 1, nr = 40, done = 0, batch, max_failures = 1, nr_failed = 0;
	u64 said = 0;
	static struct fuzz_program program;
	u32 nr_steps = 30;
	bool print = false;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:l:f:qp")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			nr = strtoull(optarg, NULL, 0);
			break;
		case 'l':
			nr_steps = strtoul(optarg, NULL, 0);
			break;
		case 'f':
			max_failures = strtoull(optarg, NULL, 0);
			break;
		case 'q':
			shrinks = false;
			break;
		case 'p':
			print = true;
			break;
		default:
			usage(argv[0]);
		}
	}
	if (!nr || !nr_steps || nr_steps > MAX_STEPS || !max_failures ||
	    optind != argc)
		usage(argv[0]);

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	for (; print && nr; nr--, seed++) {
		random_program(&program, seed, nr_steps);
		printf("/* program %lu */\n", (unsigned long)seed);
		print_program(&program);
	}
	if (print)
		return 0;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));

	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(progress != MAP_FAILED, "mmap: %s", strerror(errno));
	vm.filter = calloc(2, sizeof(*vm.filter));
	TEST_ASSERT(vm.filter, "No memory");
	vm.next_filter = vm.filter + 1;
	look_at_host();
	look_at_lists();

#ifdef FUZZ_PROGRAM
	run_the_program();
	return 0;
#endif

	while (done < nr && nr_failed < max_failures) {
		/* Whoever waits is to see that it is alive. */
		if (!done || done - said >= PROGRAMS_PER_PROCESS) {
			printf("at program %lu\n", (unsigned long)(seed + done));
			said = done;
		}
		batch = nr - done < PROGRAMS_PER_PROCESS ? nr - done :
							   PROGRAMS_PER_PROCESS;
		if (!some_program_fails(seed + done, batch, nr_steps)) {
			done += batch;
			continue;
		}
		nr_failed++;
		done = progress->seed - seed + 1;
		report_failure(progress->seed, nr_steps);
	}

	printf("programs: %lu\n", (unsigned long)done);
	printf("accesses: %lu, by the CPU %lu, KVM %lu, userspace %lu, #GP %lu, L1 %lu\n",
	       (unsigned long)progress->nr_accesses,
	       (unsigned long)progress->nr_by[MSR_BY_CPU],
	       (unsigned long)progress->nr_by[MSR_BY_KVM],
	       (unsigned long)progress->nr_by[MSR_BY_USER],
	       (unsigned long)progress->nr_by[MSR_BY_GP],
	       (unsigned long)progress->nr_by[MSR_BY_L1]);
	printf("failed: %lu\n", (unsigned long)nr_failed);
	return nr_failed ? 1 : 0;
}
