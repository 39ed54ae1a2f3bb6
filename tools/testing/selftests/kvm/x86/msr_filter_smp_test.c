// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that an MSR filter reaches every vCPU: filters change while vCPUs run
 * on several CPUs, and once the ioctl has returned, each vCPU obeys the new one
 * from its next entry on, also a vCPU that did not run in the meantime.  The
 * guest's values stay right whoever deals with its accesses.
 */
#define _GNU_SOURCE /* for sched_setaffinity() */
#include <pthread.h>
#include <sched.h>

#include "msr_filter.h"

#define NR_RUNNING	4
/* One more vCPU, which does not run while the filters change */
#define NR_VCPUS	(NR_RUNNING + 1)
#define NR_CHANGES	48

/* One MSR from each half of the MSR bitmaps, and one that KVM intercepts */
static const struct {
	u32 index;
	enum msr_handler handler;
} smp_msrs[] = {
	{ MSR_GS_BASE, MSR_BY_CPU },
	{ MSR_IA32_SYSENTER_ESP, MSR_BY_CPU },
	{ MSR_LSTAR, MSR_BY_KVM },
};

#define NR_MSRS		ARRAY_SIZE(smp_msrs)
#define SYNC_ROUND	0x60

/* Until when the guest goes round and round, written by the host. */
static u64 guest_stop;

/* What a vCPU found wrong */
static struct guest_error {
	u64 nr;
	u64 msr;
	u64 read;
	u64 expected;
} __aligned(64) guest_errors[NR_VCPUS];

/* A round is a write and a read of each MSR, no two alike. */
static void guest_code(struct guest_msr_access *access)
{
	unsigned int nr = access - guest_msr_access;
	struct guest_error *error = &guest_errors[nr];
	u64 round, value, read;
	unsigned int i;

	for (round = 0; !READ_ONCE(guest_stop); round++) {
		for (i = 0; i < NR_MSRS; i++) {
			value = (u64)nr << 40 | (u64)i << 36 | round << 4;
			wrmsr(smp_msrs[i].index, value);
			read = rdmsr(smp_msrs[i].index);
			if (read != value && !error->nr++) {
				error->msr = smp_msrs[i].index;
				error->read = read;
				error->expected = value;
			}
		}
		GUEST_SYNC(SYNC_ROUND);
	}

	guest_access_msrs(access);
}

static u8 deny[KVM_MSR_FILTER_MAX_BITMAP_SIZE];

/*
 * Each differs from the one before in what it does to at least one of the MSRs,
 * and all of them are installed several times.
 */
static const struct kvm_msr_filter filters[] = {
	{ .ranges = { MSR_RANGE(FILTER_RW, MSR_GS_BASE, 1, deny),
		      MSR_RANGE(FILTER_RW, MSR_IA32_SYSENTER_ESP, 1, deny) } },
	{ .flags = KVM_MSR_FILTER_DEFAULT_ALLOW },
	{ .ranges = { MSR_RANGE(FILTER_R, MSR_GS_BASE, 1, deny) } },
	{ .ranges = { MSR_RANGE(FILTER_W, MSR_GS_BASE, 1, deny) } },
	{ .ranges = { MSR_RANGE(FILTER_R, MSR_IA32_SYSENTER_ESP, 1, deny),
		      MSR_RANGE(FILTER_W, MSR_LSTAR, 1, deny) } },
	{ .flags = KVM_MSR_FILTER_DEFAULT_DENY,
	  .ranges = { MSR_RANGE(FILTER_RW, 0x5f000000, 1, deny) } },
};

#define NR_FILTERS	ARRAY_SIZE(filters)

/*
 * How many filters have been installed, i.e. for how many the ioctl has
 * returned.  The last of them is filters[(nr - 1) % NR_FILTERS].
 */
static unsigned int nr_installed;

static struct smp_vcpu {
	struct kvm_vcpu *vcpu;
	unsigned int nr;
	pthread_t thread;
	int cpu;
	/* The last filter that a whole round has been run with */
	unsigned int nr_obeyed;
	u64 nr_rounds;
	u64 nr_user;
} smp_vcpus[NR_VCPUS];

static unsigned int nr_denied(const struct kvm_msr_filter *filter, bool write)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR_MSRS; i++)
		nr += !msr_filter_allows(filter, smp_msrs[i].index, write);
	return nr;
}

/* Do for the guest what the filter keeps it from doing itself. */
static void emulate_access(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_X86_RDMSR ||
		    run->exit_reason == KVM_EXIT_X86_WRMSR,
		    "Exit reason %u, expected %u or %u", run->exit_reason,
		    KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR);
	TEST_ASSERT(run->msr.reason == KVM_MSR_EXIT_REASON_FILTER,
		    "KVM_MSR_EXIT_REASON %u, expected %u", run->msr.reason,
		    KVM_MSR_EXIT_REASON_FILTER);

	if (run->exit_reason == KVM_EXIT_X86_RDMSR)
		run->msr.data = vcpu_get_msr(vcpu, run->msr.index);
	else
		vcpu_set_msr(vcpu, run->msr.index, run->msr.data);
	run->msr.error = 0;
}

/* Run the vCPU to the end of a round; false when there are no more. */
static bool run_round(struct smp_vcpu *v, unsigned int nr_user[2])
{
	struct kvm_run *run = v->vcpu->run;
	struct ucall uc;

	nr_user[0] = 0;
	nr_user[1] = 0;
	for (;;) {
		vcpu_run(v->vcpu);
		if (run->exit_reason == KVM_EXIT_IO)
			break;
		emulate_access(v->vcpu);
		nr_user[run->exit_reason == KVM_EXIT_X86_WRMSR]++;
		v->nr_user++;
	}
	TEST_ASSERT(get_ucall(v->vcpu, &uc) == UCALL_SYNC,
		    "vCPU %u: unexpected ucall %lu", v->nr, uc.cmd);
	return uc.args[1] == SYNC_ROUND;
}

/*
 * A round that begins after the ioctl for a filter has returned, and ends
 * before the next one is called, which waits for it, obeys that filter alone.
 */
static void *vcpu_thread(void *arg)
{
	struct smp_vcpu *v = arg;
	const struct kvm_msr_filter *filter;
	unsigned int nr_user[2], nr, write;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(v->cpu, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "vCPU %u can't be bound to CPU %d", v->nr, v->cpu);

	while (__atomic_load_n(&nr_installed, __ATOMIC_ACQUIRE) <= NR_CHANGES) {
		nr = __atomic_load_n(&nr_installed, __ATOMIC_ACQUIRE);
		TEST_ASSERT(run_round(v, nr_user),
			    "vCPU %u stopped after %lu rounds", v->nr,
			    v->nr_rounds);
		v->nr_rounds++;

		/* Not this vCPU's first round with the filter: it may be over. */
		if (!nr || nr > NR_CHANGES || nr == v->nr_obeyed)
			continue;

		filter = &filters[(nr - 1) % NR_FILTERS];
		for (write = 0; write < 2; write++)
			TEST_ASSERT(nr_user[write] == nr_denied(filter, write),
				    "vCPU %u, change %u: %u %ss went to userspace, expected %u",
				    v->nr, nr, nr_user[write],
				    write ? "write" : "read",
				    nr_denied(filter, write));
		__atomic_store_n(&v->nr_obeyed, nr, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void change_filters(struct kvm_vm *vm)
{
	unsigned int i, nr;

	for (nr = 1; nr <= NR_CHANGES; nr++) {
		vm_set_msr_filter(vm, &filters[(nr - 1) % NR_FILTERS]);
		__atomic_store_n(&nr_installed, nr, __ATOMIC_RELEASE);

		for (i = 0; i < NR_RUNNING; i++) {
			while (__atomic_load_n(&smp_vcpus[i].nr_obeyed,
					       __ATOMIC_ACQUIRE) != nr)
				sched_yield();
		}
	}
	__atomic_store_n(&nr_installed, NR_CHANGES + 1, __ATOMIC_RELEASE);
}

/* Every vCPU by itself, so that VM-Exits can be counted */
static void check_vcpus(struct kvm_vm *vm, const struct kvm_msr_filter *filter,
			const char *when)
{
	enum msr_handler expected;
	unsigned int i, j, write;
	char name[64];

	for (i = 0; i < NR_VCPUS; i++) {
		snprintf(name, sizeof(name), "vCPU %u, %s", i, when);
		for (j = 0; j < 2 * NR_MSRS; j++) {
			write = j % 2;
			expected = smp_msrs[j / 2].handler;
			if (!msr_filter_allows(filter, smp_msrs[j / 2].index,
					       write))
				expected = MSR_BY_USER;
			vcpu_expect_msr_handler(smp_vcpus[i].vcpu,
						smp_msrs[j / 2].index, write,
						0, expected, name);
		}
	}
	printf("%s: ok\n", when);
}

static void check_values(struct kvm_vm *vm)
{
	struct guest_error *error;
	unsigned int i;

	for (i = 0; i < NR_VCPUS; i++) {
		error = addr_gva2hva(vm, (gva_t)&guest_errors[i]);
		TEST_ASSERT(!error->nr,
			    "vCPU %u: MSR 0x%lx reads as 0x%lx, expected 0x%lx (%lu errors)",
			    i, error->msr, error->read, error->expected,
			    error->nr);
	}
}

static void start_threads(void)
{
	unsigned int i;
	cpu_set_t cpus;
	int cpu = -1;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus),
		    "sched_getaffinity() failed");
	printf("%u vCPUs run on %d CPU(s)\n", NR_RUNNING, CPU_COUNT(&cpus));

	for (i = 0; i < NR_RUNNING; i++) {
		do {
			cpu = (cpu + 1) % CPU_SETSIZE;
		} while (!CPU_ISSET(cpu, &cpus));
		smp_vcpus[i].cpu = cpu;
		TEST_ASSERT(!pthread_create(&smp_vcpus[i].thread, NULL,
					    vcpu_thread, &smp_vcpus[i]),
			    "No thread for vCPU %u", i);
	}
}

int main(int argc, char *argv[])
{
	unsigned int i, nr_user[2];
	struct kvm_vm *vm;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));
	/* Which MSRs are passed through is known of VMX only. */
	TEST_REQUIRE(this_cpu_has(X86_FEATURE_VMX));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	vm = vm_create(NR_VCPUS);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	for (i = 0; i < NR_VCPUS; i++) {
		smp_vcpus[i].nr = i;
		smp_vcpus[i].vcpu = vm_vcpu_add(vm, i, guest_code);
		vcpu_init_msr_access(smp_vcpus[i].vcpu);
		/* Also the vCPU that is to stand still has run before. */
		TEST_ASSERT(run_round(&smp_vcpus[i], nr_user) &&
			    !nr_user[0] && !nr_user[1],
			    "vCPU %u: %u reads, %u writes went to userspace with no filter",
			    i, nr_user[0], nr_user[1]);
	}

	start_threads();
	change_filters(vm);
	for (i = 0; i < NR_RUNNING; i++) {
		pthread_join(smp_vcpus[i].thread, NULL);
		printf("vCPU %u, CPU %d: %lu rounds, %lu exits to userspace, %u filters: ok\n",
		       i, smp_vcpus[i].cpu, smp_vcpus[i].nr_rounds,
		       smp_vcpus[i].nr_user, smp_vcpus[i].nr_obeyed);
	}

	/* None is left behind, now that no vCPU runs while filters change. */
	guest_stop = true;
	sync_global_to_guest(vm, guest_stop);
	check_vcpus(vm, &filters[(NR_CHANGES - 1) % NR_FILTERS],
		    "last of the filters");
	for (i = 0; i < NR_FILTERS; i++) {
		vm_set_msr_filter(vm, &filters[i]);
		check_vcpus(vm, &filters[i], "one more filter");
	}
	vm_set_msr_filter(vm, &msr_filter_none);
	check_vcpus(vm, &msr_filter_none, "filter removed");
	check_values(vm);

	kvm_vm_free(vm);
	return 0;
}
