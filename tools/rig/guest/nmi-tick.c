// SPDX-License-Identifier: GPL-2.0-only
/*
 * A watchdog for the tick: an NMI to all CPUs when one of them has missed it.
 *
 * Bochs 2.7 takes no VM-Exit for an interrupt while a guest runs that was entered
 * with RFLAGS.IF clear: it looks at what the VMCS has to say of interrupts only
 * when RFLAGS.IF changes, and in the host that enters it is clear, too.  The
 * guests of KVM's selftests run so, and one that spins has the CPU to itself until
 * the VMX-preemption timer ends it, 2^32 instructions later.  For an NMI there is
 * an exit, and what is pending is delivered on the way.
 *
 * The PIT is set anew at each tick, once all CPUs have had it, and gets to send its
 * interrupt, by pin 2 of the first I/O APIC as an NMI, only if that is late.  Linux
 * needs neither once it has the local APIC's timer.
 *
 * This is for Bochs, and for tests: every NMI is claimed, whoever sent it.
 */
#include <linux/cpumask.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

#include <asm/nmi.h>

#define HPET_ADDRESS		0xfed00000
#define HPET_CONFIG		0x10
#define HPET_LEGACY		BIT(1)

#define IOAPIC_ADDRESS		0xfec00000
#define IOAPIC_INDEX		0x00
#define IOAPIC_DATA		0x10
#define IOAPIC_PIN		2
#define IOAPIC_LOW(pin)		(0x10 + 2 * (pin))
#define IOAPIC_HIGH(pin)	(0x11 + 2 * (pin))
#define IOAPIC_NMI		(4 << 8)
#define IOAPIC_ALL_CPUS		(0xffU << 24)

#define PIT_CHANNEL_0		0x40
#define PIT_COMMAND		0x43
#define PIT_ONE_SHOT		0x30
#define PIT_HZ			1193182

/* What a tick may be late, in ticks. */
#define PATIENCE		2
#define PIT_COUNT		(PIT_HZ / HZ * PATIENCE)

static void __iomem *ioapic;
static DEFINE_PER_CPU(struct timer_list, tick);
static DEFINE_SPINLOCK(lock);
static cpumask_t ticked;

static void ioapic_write(u32 reg, u32 value)
{
	writel(reg, ioapic + IOAPIC_INDEX);
	writel(value, ioapic + IOAPIC_DATA);
}

static void set_pit(void)
{
	outb(PIT_ONE_SHOT, PIT_COMMAND);
	outb(PIT_COUNT & 0xff, PIT_CHANNEL_0);
	outb(PIT_COUNT >> 8, PIT_CHANNEL_0);
}

/* On each CPU, in each of its ticks. */
static void on_tick(struct timer_list *timer)
{
	spin_lock(&lock);
	cpumask_set_cpu(smp_processor_id(), &ticked);
	if (cpumask_equal(&ticked, cpu_online_mask)) {
		cpumask_clear(&ticked);
		set_pit();
	}
	spin_unlock(&lock);
	mod_timer(timer, jiffies + 1);
}

/* The next one is due before the tick, if that is late again. */
static int on_nmi(unsigned int type, struct pt_regs *regs)
{
	if (!smp_processor_id())
		set_pit();
	return NMI_HANDLED;
}

/* In that mode the HPET's interrupts take the place of the PIT's. */
static int leave_hpet_legacy_mode(void)
{
	void __iomem *hpet = ioremap(HPET_ADDRESS, PAGE_SIZE);

	if (!hpet)
		return -ENOMEM;
	writel(readl(hpet + HPET_CONFIG) & ~HPET_LEGACY, hpet + HPET_CONFIG);
	iounmap(hpet);
	return 0;
}

/* There is no way back: it stays as long as the host is up. */
static int __init nmi_tick_init(void)
{
	int cpu, ret;

	BUILD_BUG_ON(PIT_COUNT > 0xffff);

	ioapic = ioremap(IOAPIC_ADDRESS, PAGE_SIZE);
	if (!ioapic)
		return -ENOMEM;

	ret = leave_hpet_legacy_mode();
	if (!ret)
		ret = register_nmi_handler(NMI_LOCAL, on_nmi, 0, "nmi-tick");
	if (ret) {
		iounmap(ioapic);
		return ret;
	}

	ioapic_write(IOAPIC_HIGH(IOAPIC_PIN), IOAPIC_ALL_CPUS);
	ioapic_write(IOAPIC_LOW(IOAPIC_PIN), IOAPIC_NMI);
	for_each_online_cpu(cpu) {
		struct timer_list *timer = per_cpu_ptr(&tick, cpu);

		timer_setup(timer, on_tick, TIMER_PINNED);
		timer->expires = jiffies + 1;
		add_timer_on(timer, cpu);
	}
	return 0;
}

module_init(nmi_tick_init);

MODULE_DESCRIPTION("An NMI for each tick that is missed, for KVM under Bochs");
MODULE_LICENSE("GPL");
