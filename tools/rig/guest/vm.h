/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small VMs in real mode, for the programs of this folder.
 */
#ifndef RIG_GUEST_VM_H
#define RIG_GUEST_VM_H

#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/kvm.h>
#include <linux/types.h>

#include "common.h"

/* Bytes of memory from guest physical address 0 on, and where the code begins. */
#define GUEST_MEM	0x10000
#define GUEST_RIP	0x1000

#define FILTER_RW	(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

#define MSR_FS_BASE	0xc0000100	/* passed through, unless denied */
#define PAT_VALUE	0x0007040600070406ull

/* Say @what and errno in the program's own way, and exit. */
static void __noreturn die(const char *what);

/* ioctl() that has to work: what it returns. */
static inline int xioctl(int fd, unsigned long cmd, void *arg, const char *what)
{
	int ret = ioctl(fd, cmd, arg);

	if (ret < 0)
		die(what);
	return ret;
}

/* The memory of the VM @vm; its code is yet to be written. */
static inline __u8 *add_memory(int vm)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = GUEST_MEM,
	};
	__u8 *mem = mmap(NULL, GUEST_MEM, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap of guest memory");
	region.userspace_addr = (unsigned long)mem;
	xioctl(vm, KVM_SET_USER_MEMORY_REGION, &region,
	       "KVM_SET_USER_MEMORY_REGION");
	return mem;
}

/* Have the new vCPU @fd begin with its code; its kvm_run, of @size bytes. */
static inline struct kvm_run *set_up_vcpu(int fd, int size)
{
	struct kvm_regs regs = { .rip = GUEST_RIP, .rflags = 2 };
	struct kvm_sregs sregs;
	struct kvm_run *run;

	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED)
		die("mmap of the vCPU");

	xioctl(fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	xioctl(fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	xioctl(fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
	return run;
}

#endif
