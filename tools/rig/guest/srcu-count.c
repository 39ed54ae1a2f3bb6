// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many SRCU read-side sections have begun on a VM's kvm->srcu, for bench.c.
 *
 * /dev/srcu-count takes any ioctl whose argument is the file descriptor of a VM, and
 * returns the count's low 31 bits: the sum of the per-CPU counters of
 * srcu_read_lock(), which SRCU itself counts, i.e. nothing is instrumented.
 */
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/srcu.h>

/* The counter is an unsigned long or, in newer kernels, an atomic_long_t. */
#ifdef SRCU_READ_FLAVOR_FAST
#define LOCKS(data, i) (*(unsigned long *)&(data)->srcu_ctrs[i].srcu_locks)
#else
#define LOCKS(data, i) (*(unsigned long *)&(data)->srcu_lock_count[i])
#endif

static long count_sections(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct file *vm = fget(arg);
	unsigned long sections = 0;
	struct kvm *kvm;
	int cpu;

	if (!vm)
		return -EBADF;
	/* Whether it is a VM's, the caller has to know. */
	kvm = vm->private_data;
	for_each_possible_cpu(cpu) {
		struct srcu_data *data = per_cpu_ptr(kvm->srcu.sda, cpu);

		sections += LOCKS(data, 0) + LOCKS(data, 1);
	}
	fput(vm);
	return sections & INT_MAX;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = count_sections,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "srcu-count",
	.fops = &operations,
};
module_misc_device(device);

MODULE_DESCRIPTION("Count SRCU sections of a VM");
MODULE_LICENSE("GPL");
