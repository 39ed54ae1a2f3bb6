// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM that runs until it is killed, for "stock.sh busy": host/swap must not replace
 * KVM meanwhile.
 *
 * The guest writes to an I/O port in a loop, and each write exits.  Exit status 1: KVM
 * does not run the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define PORT		0x10

/* Leave the host's only CPU to the script most of the time. */
#define PAUSE_US	5000

static void __noreturn die(const char *what)
{
	fprintf(stderr, "live: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(void)
{
	static const unsigned char code[] = {
		0xe6, PORT,				/* out %al, $PORT */
		0xeb, 0xfc,				/* jmp to the start */
	};
	struct kvm_run *run;
	int kvm, vm, vcpu;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = xioctl(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	memcpy(add_memory(vm) + GUEST_RIP, code, sizeof(code));
	vcpu = xioctl(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	run = set_up_vcpu(vcpu, xioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL,
				       "KVM_GET_VCPU_MMAP_SIZE"));
	for (;;) {
		xioctl(vcpu, KVM_RUN, NULL, "KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT) {
			fprintf(stderr, "live: exit reason %u\n", run->exit_reason);
			return 1;
		}
		usleep(PAUSE_US);
	}
}
