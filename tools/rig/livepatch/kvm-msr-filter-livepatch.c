// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two functions of kvm_intel.ko replaced while VMs run, for hosts that cannot unload
 * it: the series' first patch, that KVM leaves alone what it intercepts anyhow, and
 * those by which L2 obeys the MSR filter, too, also one that changes while it runs.
 *
 *	vmx_msr_filter_changed()
 *	nested_get_vmcs12_pages()
 *
 * What they do is in extracted.h, which steps/livepatch takes from the patched source:
 * these two and the static functions that they call.  No structure changes, and
 * nothing that they leave behind is wrong to the functions that they replace, so no
 * shadow variables are needed and the patch can be disabled at any time.
 *
 * What kvm_intel has and does not export is looked up when it is patched.  Variables
 * that don't change any more once it is loaded are copied.  Enlightened VMCSs, which
 * are for KVM on Hyper-V, are not supported: with static keys of another module
 * livepatches can do nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#undef CONFIG_HYPERV
#undef CONFIG_HYPERV_MODULE

#include "capabilities.h"
#include "nested.h"
#include "vmx.h"
#include "x86.h"

/* Copies, under the names that KVM's headers know. */
DEFINE_STATIC_KEY_FALSE(enable_evmcs);
struct vmcs_config vmcs_config;
bool enable_apicv;

/* kvm_intel's own. */
static void (*their_vmwrite_error)(unsigned long field, unsigned long value);
static void (*their_pt_update)(struct kvm_vcpu *vcpu);

void vmwrite_error(unsigned long field, unsigned long value)
{
	their_vmwrite_error(field, value);
}

void pt_update_intercept_for_msr(struct kvm_vcpu *vcpu)
{
	their_pt_update(vcpu);
}

#include "extracted.h"

static unsigned long (*lookup)(const char *name);

/* kallsyms_lookup_name() is not exported, and kprobes know where it is. */
static int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int ret = register_kprobe(&probe);

	if (ret)
		return ret;
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

static void *find(const char *name)
{
	void *at = (void *)lookup(name);

	if (!at)
		pr_err("there is no %s\n", name);
	return at;
}

/* Whenever kvm_intel is patched, be it loaded already or just now. */
static int pre_patch(struct klp_object *object)
{
	struct static_key *evmcs = find("kvm_intel:enable_evmcs");
	struct vmcs_config *config = find("kvm_intel:vmcs_config");
	bool *apicv = find("kvm_intel:enable_apicv");

	their_vmwrite_error = find("kvm_intel:vmwrite_error");
	their_pt_update = find("kvm_intel:pt_update_intercept_for_msr");
	if (!evmcs || !config || !apicv || !their_vmwrite_error ||
	    !their_pt_update)
		return -ENOENT;
	if (static_key_enabled(evmcs)) {
		pr_err("KVM uses an enlightened VMCS here\n");
		return -EOPNOTSUPP;
	}
	vmcs_config = *config;
	enable_apicv = *apicv;
	return 0;
}

static struct klp_func functions[] = {
	{
		.old_name = "vmx_msr_filter_changed",
		.new_func = vmx_msr_filter_changed,
	}, {
		.old_name = "nested_get_vmcs12_pages",
		.new_func = nested_get_vmcs12_pages,
	}, { }
};

static struct klp_object objects[] = {
	{
		.name = "kvm_intel",
		.funcs = functions,
		.callbacks.pre_patch = pre_patch,
	}, { }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init livepatch_init(void)
{
	int ret = find_lookup();

	return ret ? ret : klp_enable_patch(&patch);
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);
MODULE_DESCRIPTION("MSR filters of KVM on VMX, patched while VMs run");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
