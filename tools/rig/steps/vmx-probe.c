// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has this machine VMX to give to a guest?
 *
 * A /dev/kvm alone says little: it is there with SVM too, and with hypervisors
 * that need neither.  What counts is that the CPU has VMX and that KVM offers
 * VMX to its guests, i.e. that the module was loaded with nested=1.
 *
 * Prints the reason in either case.  Exit status: 0 yes, 1 no.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <cpuid.h>
#include <linux/kvm.h>

#define MAX_LEAVES	256
#define CPUID_1_ECX_VMX	0x20

int main(void)
{
	unsigned int eax, ebx, ecx, edx, i;
	struct kvm_cpuid2 *cpuid;
	int kvm;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) ||
	    !(ecx & CPUID_1_ECX_VMX)) {
		puts("the CPU has no VMX");
		return 1;
	}

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		printf("the CPU has VMX, but /dev/kvm: %s\n", strerror(errno));
		return 1;
	}

	cpuid = calloc(1, sizeof(*cpuid) +
			  MAX_LEAVES * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return 1;
	cpuid->nent = MAX_LEAVES;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		printf("the CPU has VMX, but KVM_GET_SUPPORTED_CPUID: %s\n",
		       strerror(errno));
		return 1;
	}
	for (i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 1 &&
		    cpuid->entries[i].ecx & CPUID_1_ECX_VMX) {
			puts("the CPU has VMX and KVM offers it to guests");
			return 0;
		}
	}
	puts("the CPU has VMX, but KVM does not offer it to guests (load kvm-intel with nested=1)");
	return 1;
}
