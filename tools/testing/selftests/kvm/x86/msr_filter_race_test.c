// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify that no vCPU is left behind by an MSR filter that userspace installs on
 * another CPU at a bad time:
 *
 *  - while the vCPU is being created, i.e. when KVM may have looked at the old
 *    filter for it already, and does not know of the vCPU yet;
 *
 *  - while the vCPU runs: once the ioctl has returned, the guest does no more
 *    accesses that the filter denies; also if two threads install the same filter,
 *    and only one of them changes anything;
 *
 *  - while another thread does so, too: whichever filter is the last one, it is
 *    that one that all vCPUs obey.
 *
 * It takes two CPUs, and uses four.  Both vendors' CPUs pass GS_BASE through, and
 * KVM emulates PAT for both.
 */
#define _GNU_SOURCE /* for sched_setaffinity() */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "msr_filter.h"

#define NR_CREATED	32
#define NR_ROUNDS	64
/* So many accesses, and the guest is in its loop again. */
#define NR_WARM_UP	64
/* So many accesses, and an emulated CPU asks for interrupts. */
#define NR_UNNOTICED	4096

/* Threads that replace filters, vCPUs meanwhile, and changes by each thread */
#define NR_REPLACERS	2
#define NR_REPLACED	4
#define NR_REPLACE_ROUNDS	8
#define NR_CHANGES	32
#define SYNC_STOPPED	0x61

#define MAX_CPUS	4

static int cpus[MAX_CPUS];
static unsigned int nr_cpus;

static void find_cpus(void)
{
	cpu_set_t set;
	int cpu;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(set), &set),
		    "sched_getaffinity() failed");
	TEST_REQUIRE(CPU_COUNT(&set) >= 2);
	for (cpu = 0; cpu < CPU_SETSIZE && nr_cpus < MAX_CPUS; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr_cpus++] = cpu;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set),
		    "A thread can't be bound to CPU %d", cpu);
}

static struct kvm_vm *create_vm(void)
{
	struct kvm_vm *vm = vm_create(1);

	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	return vm;
}

/* ---- A vCPU that is being created */

/* When the other CPU is to act, as a value of the TSC; 0: not yet known */
static u64 act_at;
/* When it has seen the vCPU's file, i.e. the end of the creation */
static u64 seen_at;
static bool is_ready;

/* The vCPU gets the lowest number that is free. */
static int next_fd(void)
{
	int fd = dup(0);

	TEST_ASSERT(fd >= 0, "dup() failed");
	close(fd);
	return fd;
}

static void wait_to_act(void)
{
	u64 when;

	run_on(cpus[1]);
	__atomic_store_n(&is_ready, true, __ATOMIC_RELEASE);
	while (!(when = __atomic_load_n(&act_at, __ATOMIC_ACQUIRE)))
		;
	while (rdtsc() < when)
		;
}

static void *observer(void *arg)
{
	int fd = *(int *)arg;

	wait_to_act();
	while (fcntl(fd, F_GETFD) < 0)
		;
	seen_at = rdtsc();
	return NULL;
}

static void *installer(void *vm)
{
	wait_to_act();
	vm_deny_msr(vm, MSR_GS_BASE, FILTER_RW);
	return NULL;
}

/* Create a vCPU, and have the other CPU act when that has gone on for @delay. */
static struct kvm_vcpu *create_vcpu(struct kvm_vm *vm, u64 delay,
				    void *(*act)(void *), void *arg, u64 *begin)
{
	struct kvm_vcpu *vcpu;
	pthread_t thread;

	act_at = 0;
	is_ready = false;
	TEST_ASSERT(!pthread_create(&thread, NULL, act, arg),
		    "No thread for the other CPU");
	while (!__atomic_load_n(&is_ready, __ATOMIC_ACQUIRE))
		;
	*begin = rdtsc();
	__atomic_store_n(&act_at, *begin + delay, __ATOMIC_RELEASE);
	vcpu = vm_vcpu_add(vm, 0, guest_access_msrs);
	pthread_join(thread, NULL);
	return vcpu;
}

/* How long it takes until there is a vCPU */
static u64 time_creation(void)
{
	struct kvm_vm *vm = create_vm();
	int fd = next_fd();
	u64 begin;

	create_vcpu(vm, 1, observer, &fd, &begin);
	kvm_vm_free(vm);
	return seen_at - begin;
}

static bool misses_filter(u64 delay)
{
	struct kvm_vm *vm = create_vm();
	struct msr_outcome outcome;
	struct kvm_vcpu *vcpu;
	u64 begin;

	vcpu = create_vcpu(vm, delay, installer, vm, &begin);
	vcpu_init_msr_access(vcpu);
	outcome = vcpu_access_msr(vcpu, MSR_GS_BASE, true, MSR_VALUE_WRITTEN);
	kvm_vm_free(vm);
	return outcome.handler != MSR_BY_USER;
}

/* Earlier and earlier, from the end of the creation on */
static unsigned int test_created(void)
{
	unsigned int i, nr_missed = 0;
	u64 took;

	/* The first one has more to do. */
	time_creation();
	took = time_creation();
	for (i = 0; i < NR_CREATED; i++)
		nr_missed += misses_filter(took - took * i / NR_CREATED);

	printf("created: %u of %u vCPUs missed the filter: %s\n", nr_missed,
	       NR_CREATED, nr_missed ? "FAILED" : "ok");
	return nr_missed;
}

/* ---- A vCPU that runs */

/* How many accesses the guest has done. */
static u64 guest_count;

/*
 * An interrupt makes the guest exit whatever its RFLAGS.IF.  Bochs only looks for
 * one when that changes: a CPU that takes long to notice an IPI.
 */
static void guest_counting_code(void)
{
	for (;;) {
		wrmsr(MSR_GS_BASE, MSR_VALUE_WRITTEN);
		WRITE_ONCE(guest_count, guest_count + 1);
		if (!(guest_count % NR_UNNOTICED))
			asm volatile("sti; nop; cli");
	}
}

/* How often the vCPU has been told to run, and has exited. */
static unsigned int nr_told, nr_exited;

static void *runner(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	unsigned int nr;

	run_on(cpus[1]);
	for (nr = 1; nr <= NR_ROUNDS; nr++) {
		while (__atomic_load_n(&nr_told, __ATOMIC_ACQUIRE) != nr)
			;
		vcpu_run(vcpu);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_X86_WRMSR,
			    "Exit reason %u, expected %u",
			    vcpu->run->exit_reason, KVM_EXIT_X86_WRMSR);
		vcpu->run->msr.error = 0;
		__atomic_store_n(&nr_exited, nr, __ATOMIC_RELEASE);
	}
	return NULL;
}

struct second {
	struct kvm_vm *vm;
	u64 *count;
	/* The count when the ioctl has returned */
	u64 seen;
};

static void *second_installer(void *arg)
{
	struct second *second = arg;

	run_on(cpus[0]);
	vm_deny_msr(second->vm, MSR_GS_BASE, FILTER_RW);
	second->seen = READ_ONCE(*second->count);
	return NULL;
}

/* With @twice, another thread installs the same filter meanwhile. */
static unsigned int test_running(const char *name, bool twice)
{
	struct second second = {};
	unsigned int nr, nr_late = 0;
	struct kvm_vcpu *vcpu;
	u64 *count, seen, begin, took = 0, most = 0;
	pthread_t thread, other;
	struct kvm_vm *vm;

	nr_told = 0;
	nr_exited = 0;
	vm = create_vm();
	vcpu = vm_vcpu_add(vm, 0, guest_counting_code);
	count = addr_gva2hva(vm, (gva_t)&guest_count);
	second.vm = vm;
	second.count = count;
	TEST_ASSERT(!pthread_create(&thread, NULL, runner, vcpu),
		    "No thread for the vCPU");

	for (nr = 1; nr <= NR_ROUNDS; nr++) {
		seen = READ_ONCE(*count);
		__atomic_store_n(&nr_told, nr, __ATOMIC_RELEASE);
		while (READ_ONCE(*count) < seen + NR_WARM_UP)
			;
		if (twice)
			TEST_ASSERT(!pthread_create(&other, NULL, second_installer,
						    &second),
				    "No thread for the same filter");
		begin = rdtsc();
		vm_deny_msr(vm, MSR_GS_BASE, FILTER_RW);
		took += rdtsc() - begin;
		seen = READ_ONCE(*count);
		if (twice) {
			pthread_join(other, NULL);
			seen = min(seen, second.seen);
		}

		/* The guest may have been between an access and its count. */
		while (__atomic_load_n(&nr_exited, __ATOMIC_ACQUIRE) != nr)
			;
		if (READ_ONCE(*count) > seen + 1)
			nr_late++;
		most = max(most, READ_ONCE(*count) - seen);
		vm_set_msr_filter(vm, &msr_filter_none);
	}
	pthread_join(thread, NULL);
	kvm_vm_free(vm);

	printf("%s: the ioctl took %lu ticks of the TSC on average\n", name,
	       took / NR_ROUNDS);
	printf("%s: in %u of %u rounds accesses after the ioctl, at most %lu: %s\n",
	       name, nr_late, NR_ROUNDS, most, nr_late ? "FAILED" : "ok");
	return nr_late;
}

/* ---- Filters that several threads replace */

static u64 guest_stop;

/* An access that KVM emulates makes the guest exit, and notice interrupts. */
static void guest_replaced_code(struct guest_msr_access *access)
{
	for (;;) {
		while (!READ_ONCE(guest_stop)) {
			wrmsr(MSR_GS_BASE, MSR_VALUE_WRITTEN);
			rdmsr(MSR_GS_BASE);
			rdmsr(MSR_IA32_CR_PAT);
		}
		GUEST_SYNC(SYNC_STOPPED);

		/* One for each of the MSRs */
		guest_access_msr(access);
		guest_access_msr(access);
	}
}

struct replaced_vcpu {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	int cpu;
};

static void *replaced_thread(void *arg)
{
	struct replaced_vcpu *v = arg;
	struct kvm_run *run = v->vcpu->run;
	struct ucall uc;

	run_on(v->cpu);
	for (;;) {
		vcpu_run(v->vcpu);
		if (run->exit_reason == KVM_EXIT_IO)
			break;
		TEST_ASSERT(run->exit_reason == KVM_EXIT_X86_RDMSR ||
			    run->exit_reason == KVM_EXIT_X86_WRMSR,
			    "Exit reason %u, expected %u or %u",
			    run->exit_reason, KVM_EXIT_X86_RDMSR,
			    KVM_EXIT_X86_WRMSR);
		run->msr.data = MSR_VALUE_FROM_USER;
		run->msr.error = 0;
	}
	TEST_ASSERT(get_ucall(v->vcpu, &uc) == UCALL_SYNC &&
		    uc.args[1] == SYNC_STOPPED,
		    "The guest did something else than to stop");
	return NULL;
}

struct replacer {
	struct kvm_vm *vm;
	pthread_t thread;
	int cpu;
	/* Of its changes, the odd or the even ones deny something. */
	unsigned int odd;
};

static void *replacer_thread(void *arg)
{
	static u8 deny[sizeof(long)];
	static const struct kvm_msr_filter deny_both = {
		.ranges = {
			MSR_RANGE(FILTER_RW, MSR_GS_BASE, 1, deny),
			MSR_RANGE(FILTER_RW, MSR_IA32_CR_PAT, 1, deny),
		},
	};
	struct replacer *r = arg;
	unsigned int i;

	run_on(r->cpu);
	for (i = 0; i < NR_CHANGES; i++)
		vm_set_msr_filter(r->vm, (i + r->odd) % 2 ? &deny_both :
							    &msr_filter_none);
	return NULL;
}

/*
 * Which filter is in force is what KVM makes of an MSR that it emulates: it asks
 * the filter then.
 */
static bool obeys_filter(struct kvm_vcpu *vcpu, bool *is_denied)
{
	struct msr_outcome emulated, passed;

	passed = vcpu_access_msr(vcpu, MSR_GS_BASE, true, MSR_VALUE_WRITTEN);
	emulated = vcpu_access_msr(vcpu, MSR_IA32_CR_PAT, false, 0);
	*is_denied = emulated.handler == MSR_BY_USER;
	return passed.handler == (*is_denied ? MSR_BY_USER : MSR_BY_CPU);
}

static void start_guests(struct kvm_vm *vm, struct replaced_vcpu *v)
{
	unsigned int i;

	guest_stop = false;
	sync_global_to_guest(vm, guest_stop);
	for (i = 0; i < NR_REPLACED; i++)
		TEST_ASSERT(!pthread_create(&v[i].thread, NULL, replaced_thread,
					    &v[i]),
			    "No thread for vCPU %u", i);
}

static void stop_guests(struct kvm_vm *vm, struct replaced_vcpu *v)
{
	unsigned int i;

	guest_stop = true;
	sync_global_to_guest(vm, guest_stop);
	for (i = 0; i < NR_REPLACED; i++)
		pthread_join(v[i].thread, NULL);
}

static unsigned int test_replaced(void)
{
	unsigned int round, i, nr_wrong = 0, nr_denied = 0;
	struct replacer replacers[NR_REPLACERS];
	struct replaced_vcpu v[NR_REPLACED];
	bool is_denied;
	struct kvm_vm *vm;

	vm = vm_create(NR_REPLACED);
	vm_enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	for (i = 0; i < NR_REPLACED; i++) {
		v[i].vcpu = vm_vcpu_add(vm, i, guest_replaced_code);
		v[i].cpu = cpus[i % nr_cpus];
		vcpu_init_msr_access(v[i].vcpu);
	}

	for (round = 0; round < NR_REPLACE_ROUNDS; round++) {
		start_guests(vm, v);
		for (i = 0; i < NR_REPLACERS; i++) {
			replacers[i].vm = vm;
			replacers[i].cpu = cpus[(round + i) % nr_cpus];
			replacers[i].odd = (round + i) % 2;
			TEST_ASSERT(!pthread_create(&replacers[i].thread, NULL,
						    replacer_thread,
						    &replacers[i]),
				    "No thread for filters");
		}
		for (i = 0; i < NR_REPLACERS; i++)
			pthread_join(replacers[i].thread, NULL);
		stop_guests(vm, v);

		for (i = 0; i < NR_REPLACED; i++) {
			nr_wrong += !obeys_filter(v[i].vcpu, &is_denied);
			nr_denied += is_denied;
		}
	}
	kvm_vm_free(vm);

	TEST_ASSERT(nr_denied % NR_REPLACED == 0,
		    "The vCPUs do not agree on a filter");
	printf("replaced: %u vCPUs on %u CPUs, the last filter denied in %u of %u rounds\n",
	       NR_REPLACED, nr_cpus, nr_denied / NR_REPLACED,
	       NR_REPLACE_ROUNDS);
	printf("replaced: %u times a vCPU obeyed another one: %s\n", nr_wrong,
	       nr_wrong ? "FAILED" : "ok");
	return nr_wrong;
}

int main(int argc, char *argv[])
{
	unsigned int nr_failed;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_USER_SPACE_MSR));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_MSR_FILTER));

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	find_cpus();
	run_on(cpus[0]);

	nr_failed = test_created();
	nr_failed += test_running("running", false);
	nr_failed += test_running("twice", true);
	nr_failed += test_replaced();
	TEST_ASSERT(!nr_failed, "%u vCPUs or rounds went wrong", nr_failed);
	return 0;
}
