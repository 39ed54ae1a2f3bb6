// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of init, without a machine to boot: its code, with the kernel's log faked
 * and the results in a file.  Nothing here may get to what init does as PID 1, as
 * it kills all processes and powers off.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define KMSG_FD		100000
#define RECORDS		64

static int init_main(int argc, char **argv) __attribute__((unused));
static ssize_t fake_read(int fd, void *buf, size_t len);
static int fake_kill(pid_t pid, int sig);
static int fake_reboot(int how);
static int fake_mount(const char *what, ...);
static long fake_syscall(long nr, ...);

#define main			init_main
#define read			fake_read
#define kill			fake_kill
#define reboot			fake_reboot
#define mount			fake_mount
#define syscall			fake_syscall
#include "../guest/init.c"
#undef main
#undef read
#undef kill
#undef reboot
#undef mount
#undef syscall

/* The kernel's log: records, or the errno that a read fails with. */
static struct {
	unsigned int records, at;
	int error[RECORDS];
	char text[RECORDS][9000];
	unsigned long long nr;
} klog;

/* How much one read gets of a test's output. */
static size_t read_max = 1 << 20;

static unsigned int checks, broken;
static char *said;
static size_t said_len;

static ssize_t fake_read(int fd, void *buf, size_t len)
{
	size_t i = klog.at;

	if (fd != KMSG_FD)
		return read(fd, buf, len < read_max ? len : read_max);
	errno = EAGAIN;
	if (i == klog.records)
		return -1;
	klog.at++;
	errno = klog.error[i];
	if (errno)
		return -1;
	if (strlen(klog.text[i]) > len) {
		errno = EINVAL;
		return -1;
	}
	memcpy(buf, klog.text[i], strlen(klog.text[i]));
	return strlen(klog.text[i]);
}

static int fake_kill(pid_t pid, int sig)
{
	return pid == -1 && sig == SIGKILL ? 0 : -1;
}

static int fake_reboot(int how)
{
	printf("Bail out! reboot(%d)\n", how);
	exit(1);
}

static int fake_mount(const char *what, ...)
{
	printf("Bail out! mount(%s)\n", what);
	exit(1);
}

/* Modules: all is well. */
static long fake_syscall(long nr, ...)
{
	return nr == SYS_finit_module || nr == SYS_delete_module ? 0 : -1;
}

static __printf(2, 3) void check(bool fine, const char *fmt, ...)
{
	va_list ap;

	checks++;
	if (fine)
		return;
	broken++;
	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n# said: %.400s\n", said ? said : "");
}

/* As at the start of a group, with nothing said and nothing logged. */
static void start(void)
{
	memset(&group, 0, sizeof(group));
	memset(&kunit, 0, sizeof(kunit));
	klog.records = 0;
	klog.at = 0;
	klog.nr = 0;
	next_record = 0;
	passed = 0;
	failed = 0;
	skipped = 0;
	read_max = 1 << 20;
	begin_group("group");
	if (ftruncate(results, 0))
		exit(1);
	lseek(results, 0, SEEK_SET);
}

/* What was said since then. */
static void stop(void)
{
	struct stat st;

	fstat(results, &st);
	free(said);
	said = calloc(1, st.st_size + 1);
	said_len = said ? pread(results, said, st.st_size, 0) : 0;
	if (!said || said_len != (size_t)st.st_size)
		exit(1);
}

static void log_error(int error)
{
	klog.error[klog.records++] = error;
}

static void log_record(const char *text)
{
	klog.error[klog.records] = 0;
	snprintf(klog.text[klog.records++], sizeof(klog.text[0]),
		 "6,%llu,1234567,-;%s\n SUBSYSTEM=cpu\n", klog.nr++, text);
}

static void log_lines(const char * const *line, unsigned int lines)
{
	unsigned int i;

	for (i = 0; i < lines; i++)
		log_record(line[i]);
}

/* The first line of what was said, without the newline, and what is behind it. */
static const char *next_line(const char **at, size_t *len)
{
	const char *line = *at, *end = said + said_len;
	const char *newline = memchr(line, '\n', end - line);

	if (!newline)
		return NULL;
	*at = newline + 1;
	*len = newline - line;
	return line;
}

static bool has_line(const char *want)
{
	const char *at = said, *line;
	size_t len;

	while ((line = next_line(&at, &len)))
		if (len == strlen(want) && !memcmp(line, want, len))
			return true;
	return false;
}

static bool is_line(const char *line, size_t len, const char *begin)
{
	return len >= strlen(begin) && !memcmp(line, begin, strlen(begin));
}

/* Have @text pass as a test's output, @chunk bytes a read. */
static void print(const char *text, size_t len, size_t chunk)
{
	struct output out = { .fd = memfd_create("output", MFD_CLOEXEC) };

	if (out.fd < 0 || write(out.fd, text, len) != (ssize_t)len)
		exit(1);
	lseek(out.fd, 0, SEEK_SET);
	read_max = chunk;
	while (take_output(&out))
		;
	end_output(&out);
	close(out.fd);
}

/* What was said holds @text from there on, quoted, and then comes @after. */
static bool quotes(const char **at, const char *text, size_t len, const char *after)
{
	const char *line, *newline;
	size_t part, line_len;

	while (len) {
		newline = memchr(text, '\n', len);
		part = newline ? (size_t)(newline - text) : len;
		line = next_line(at, &line_len);
		if (!line || line_len != strlen("    # | ") + part ||
		    !is_line(line, line_len, "    # | ") ||
		    memcmp(line + strlen("    # | "), text, part))
			return false;
		text += part + !!newline;
		len -= part + !!newline;
	}
	return !strncmp(*at, after, strlen(after));
}

static void try_output(const char *text, size_t len, size_t chunk)
{
	const char *at, *mark;
	size_t left_out = 0, head = len;

	start();
	print(text, len, chunk);
	stop();

	at = said;
	mark = strstr(said, "    # rig: left out: ");
	if (!mark) {
		check(len < OUTPUT_HEAD + OUTPUT_TAIL + chunk &&
		      quotes(&at, text, len, "") && !*at,
		      "%zu bytes, %zu a read: not all of it", len, chunk);
		return;
	}
	left_out = strtoul(mark + strlen("    # rig: left out: "), NULL, 10);
	head = len - OUTPUT_TAIL - left_out;
	check(left_out && left_out <= len && head >= OUTPUT_HEAD &&
	      head < OUTPUT_HEAD + chunk &&
	      quotes(&at, text, head, "    # rig: left out: ") && at == mark,
	      "%zu bytes, %zu a read: not the beginning", len, chunk);
	at = strchr(mark, '\n') + 1;
	check(quotes(&at, text + len - OUTPUT_TAIL, OUTPUT_TAIL, "") && !*at,
	      "%zu bytes, %zu a read: not the end", len, chunk);
}

static void test_output_sizes(void)
{
	static const size_t sizes[] = {
		0, 1, 2, OUTPUT_TAIL - 1, OUTPUT_TAIL, OUTPUT_TAIL + 1,
		OUTPUT_HEAD - 1, OUTPUT_HEAD, OUTPUT_HEAD + 1,
		OUTPUT_HEAD + OUTPUT_TAIL - 1, OUTPUT_HEAD + OUTPUT_TAIL,
		OUTPUT_HEAD + OUTPUT_TAIL + 1,
		OUTPUT_HEAD + 2 * OUTPUT_TAIL - 1, OUTPUT_HEAD + 2 * OUTPUT_TAIL,
		OUTPUT_HEAD + 2 * OUTPUT_TAIL + 1,
		OUTPUT_HEAD + 3 * OUTPUT_TAIL, OUTPUT_HEAD + 3 * OUTPUT_TAIL + 1,
		OUTPUT_HEAD + 7 * OUTPUT_TAIL + 77,
	};
	static const size_t chunks[] = { 1, 1000, 4095, 4096 };
	static char text[OUTPUT_HEAD + 8 * OUTPUT_TAIL];
	size_t i, j, size;
	unsigned int x = 1;

	for (i = 0; i < sizeof(text); i++) {
		x = x * 1103515245 + 12345;
		text[i] = x >> 16 & 31 ? 'a' + (x >> 21) % 26 : '\n';
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (j = 0; j < ARRAY_SIZE(chunks); j++) {
			char last = 0;

			size = sizes[i];
			if (size)
				last = text[size - 1];
			if (size)
				text[size - 1] = 'x';
			try_output(text, size, chunks[j]);
			if (size)
				text[size - 1] = '\n';
			try_output(text, size, chunks[j]);
			if (size)
				text[size - 1] = last;
		}
	}
}

static void test_output_content(void)
{
	static const char * const lines[] = {
		"KTAP version 1", "    # Subtest: patched", "Subtest: patched",
		"ok 1 x", "    ok 1 x", "not ok 1 x", "    # rig: why: y",
		"# rig: totals: pass 1 fail 0 skip 0", "# Totals", "Bail out!",
		"    # | x", "    1..1", "1..1", "ok 1 patched", "", "\t", "%s%n",
	};
	static const char odd[] =
		"a\rok 1 b\r\n\0ok 2\nc\fok 3\vok 4\n\x1c\x1d\x85\xc2\x85\xe2\x80\xa8ok 5";
	static char text[300000];
	size_t i, len = 0;

	for (i = 0; i < ARRAY_SIZE(lines); i++)
		len += sprintf(text + len, "%s\n", lines[i]);
	memcpy(text + len, odd, sizeof(odd) - 1);
	len += sizeof(odd) - 1;
	for (i = 1; i < 200; i += 7)
		try_output(text, len, i);

	/* Init's next words begin a line. */
	start();
	print("    ok 9 x", 10, 4096);
	result("name", PASS, "", 1);
	stop();
	check(!strcmp(said, "    # |     ok 9 x\n    # rig: took: 1.00\n    ok 1 name\n"),
	      "a line that was not ended");

	/* Of lines of 100 KB the end of one is a line of its own. */
	memset(text, 'x', sizeof(text));
	text[100000] = '\n';
	text[200000] = '\n';
	try_output(text, 100000, 4096);
	try_output(text, 100001, 4096);
	try_output(text, sizeof(text), 4096);
	try_output(text, 200001, 4096);
}

static void test_complaints(void)
{
	static const char * const bad[] = {
		"WARNING: CPU: 0 PID: 61 at arch/x86/kvm/vmx/vmx.c:440 vmread_error+0x50/0x60 [kvm_intel]",
		"WARNING: arch/x86/kvm/x86.c:12 at kvm_arch_vcpu_load+0x1/0x2 [kvm], CPU#0: test/61",
		"BUG: kernel NULL pointer dereference, address: 0000000000000008",
		"BUG: unable to handle page fault for address: ffffc90000000000",
		"kernel BUG at arch/x86/kvm/mmu/mmu.c:1234!",
		"Oops: 0000 [#1] PREEMPT SMP NOPTI",
		"Oops: Oops: 0002 [#1] SMP",
		"Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]",
		"general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP",
		"general protection fault: 0000 [#1] SMP",
		"stack segment: 0000 [#1] SMP",
		"divide error: 0000 [#1] SMP",
		"Oops: divide error: 0000 [#1] SMP",
		"invalid opcode: 0000 [#1] SMP",
		"traps: PANIC: double fault, error_code: 0x0",
		"double fault: 0000 [#1] SMP",
		"unchecked MSR access error: RDMSR from 0x3a1 at rIP: 0xffffffff81012345 (native_read_msr+0x4/0x20)",
		"Kernel panic - not syncing: Fatal exception",
		"UBSAN: array-index-out-of-bounds in arch/x86/kvm/x86.c:1234:5",
		"UBSAN: Undefined behaviour in arch/x86/kvm/x86.c:1234:5",
		"BUG: KCSAN: data-race in kvm_vcpu_kick / vcpu_enter_guest",
		"BUG: KASAN: use-after-free in kvm_msr_allowed+0x10/0x100 [kvm]",
		"BUG: KASAN: slab-use-after-free in kvm_msr_allowed+0x10/0x100 [kvm]",
		"BUG: KFENCE: out-of-bounds read in kvm_msr_allowed+0x10/0x100 [kvm]",
		"kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
		"ODEBUG: free active (active state 0) object type: timer_list hint: kvm_timer+0x0/0x10",
		"refcount_t: underflow; use-after-free.",
		"list_add corruption. next->prev should be prev (ffff888100000000), but was 0000000000000000.",
		"list_add double add: new=ffff888100000000, prev=ffff888100000000, next=ffff888100000008.",
		"list_del corruption, ffff888100000000->next is LIST_POISON1 (dead000000000100)",
		"list_del corruption. prev->next should be ffff888100000000, but was 0000000000000000",
		"BUG kmalloc-64 (Not tainted): Redzone overwritten",
		"BUG kvm_vcpu (Not tainted): Objects remaining in kvm_vcpu on __kmem_cache_shutdown()",
		"kmem_cache_destroy kvm_vcpu: Slab cache still has objects",
		"DEBUG_LOCKS_WARN_ON(lock->magic != lock)",
		"WARNING: possible circular locking dependency detected",
		"WARNING: suspicious RCU usage",
		"WARNING: inconsistent lock state",
		"[ BUG: Invalid wait context ]",
		"INFO: possible recursive locking detected",
		"INFO: possible irq lock inversion dependency detected",
		"INFO: inconsistent lock state",
		"INFO: suspicious RCU usage.",
		"INFO: trying to register non-static key.",
		"INFO: lockdep is turned off.",
		"BUG: sleeping function called from invalid context at arch/x86/kvm/x86.c:1234",
		"BUG: scheduling while atomic: test/61/0x00000002",
		"rcu: INFO: rcu_sched self-detected stall on CPU",
		"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
		"INFO: rcu_tasks detected stalls on tasks:",
		"INFO: task test:61 blocked for more than 120 seconds.",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [test:61]",
		"NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
		"watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0",
		"kvm: vmread failed: field=4000",
		"kvm_intel: vmread failed: field=4000",
		"kvm: vmwrite failed: field=2 val=f2 err=0",
		"kvm_intel: vmwrite failed: field=2 val=f2 err=12",
		"kvm_intel: vmclear failed: 00000000deadbeef/1000 err=2",
		"kvm: vmptrld failed: 00000000deadbeef/1000",
	};
	static const char * const good[] = {
		"kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)",
		"kmemleak: Automatic memory scanning thread started",
		"kmemleak: Kernel memory leak detector disabled",
		"Linux version 5.10.223 (root@host) (gcc) #1 SMP",
		"Warning: unable to open an initial console.",
		"WARNING at the sight of this",
		"[Firmware Bug]: TSC_DEADLINE disabled due to Errata; please update microcode to version: 0x22 (or later)",
		"Failed to access perfctr msr (MSR c4 is 0)",
		"Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
		"rcu: Hierarchical RCU implementation.",
		"rcu: \tRCU lockdep checking is enabled.",
		"kcsan: enabled early",
		"kasan: KernelAddressSanitizer initialized",
		"kfence: initialized - using 2097152 bytes for 255 objects",
		"INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.000 msecs",
		"traps: test[61] trap invalid opcode ip:401000 sp:7ffc0000 error:0 in test[401000+1000]",
		"traps: test[61] trap divide error ip:401000 sp:7ffc0000 error:0 in test[401000+1000]",
		"test[61]: segfault at 0 ip 0000000000401000 sp 00007ffc0000 error 4 in test[401000+1000]",
		"NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
		"kvm_intel: VMX not supported by CPU 0",
		"kvm: module verification failed: signature and/or required key missing - tainting kernel",
		"x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
		"",
	};
	static const char * const from_kunit[] = {
		"KTAP version 1", "TAP version 14", "1..1", "    1..4",
		"    # Subtest: kvm_intel_msr_filter", "    # module: kvm_intel_kunit",
		"    # msr_filter_random: 1000 states, WARNING: none",
		"# kvm_intel_msr_filter: pass:4 fail:0 skip:0 total:4",
		"    ok 1 - BUG: not one", "    ok 1 Oops # SKIP why",
		"    # x: EXPECTATION FAILED at a.c:1\\x0a    Expected UBSAN: == 0\\x0a",
	};
	char want[1200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		start();
		log_record(bad[i]);
		check(kernel_complained() == 1, "no complaint: %s", bad[i]);
		stop();
		snprintf(want, sizeof(want), "    # rig: kernel: %s\n", bad[i]);
		check(!strcmp(said, want), "not said: %s", bad[i]);
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		start();
		log_record(good[i]);
		check(!kernel_complained(), "a complaint: %s", good[i]);
		stop();
		check(!said_len, "said: %s", good[i]);
	}
	for (i = 0; i < ARRAY_SIZE(from_kunit); i++) {
		const char *at, *line;
		size_t len;

		start();
		kunit.listening = true;
		log_record(from_kunit[i]);
		check(!kernel_complained(), "a complaint: %s", from_kunit[i]);
		stop();
		at = said;
		check(said_len, "not said: %s", from_kunit[i]);
		while ((line = next_line(&at, &len)))
			check(is_line(line, len, "    # | "), "not quoted: %s",
			      from_kunit[i]);
		check(!*at, "no end: %s", from_kunit[i]);
	}

	/* While KUnit is listened to, what others say is judged. */
	start();
	kunit.listening = true;
	log_record(bad[0]);
	check(kernel_complained() == 1, "no complaint amid KUnit's words");
}

/* A message that is longer than all others is a line, and only one. */
static void test_long_complaint(void)
{
	static char text[4096];
	const char *at;
	size_t len = 0;

	memset(text, 'x', sizeof(text) - 1);
	memcpy(text, "BUG: ", 5);
	start();
	log_record(text);
	result("name", PASS, "", 0);
	stop();
	at = said;
	next_line(&at, &len);
	check(len == strlen("    # rig: kernel: ") + sizeof(text) - 1 &&
	      !strcmp(at, "    # rig: took: 0.00\n"
			  "    # rig: why: 1 complaint(s) in the kernel's log\n"
			  "    not ok 1 name\n"), "a complaint of 4 KB");

	start();
	memcpy(text, "why\na\tb\x7f ", 9);
	result("name", FAIL, text, 0);
	stop();
	at = said;
	next_line(&at, &len);
	check(is_line(at, strlen(at), "    # rig: why: why?a?b? xx"),
	      "control characters in a reason");
	next_line(&at, &len);
	check(!strcmp(at, "    not ok 1 name\n"), "a reason of 4 KB");

	/* Nor is what follows a name that is too long taken for the same line. */
	start();
	result(text + 9, PASS, "", 0);
	result("name", PASS, "", 0);
	stop();
	at = strstr(said, "    ok 1 ");
	check(at && next_line(&at, &len) &&
	      !strcmp(at, "    # rig: took: 0.00\n    ok 2 name\n"),
	      "a name of 4 KB");
}

static void test_lost(void)
{
	/* From the first record on, none is lost. */
	start();
	log_record("Linux version");
	log_record("Command line");
	log_error(EINTR);
	log_record("x86/fpu");
	result("reached init", PASS, "", 2.704);
	stop();
	check(!strcmp(said, "    # rig: took: 2.70\n    ok 1 reached init\n"),
	      "nothing is lost");

	/* Nor is it when nothing is logged, and then something. */
	result("name", PASS, "", 0);
	log_record("next");
	result("name", PASS, "", 0);
	check(passed == 3 && !failed, "nothing is lost afterwards");

	/* The first ones were overwritten before init began to read. */
	start();
	klog.nr = 12;
	log_record("late");
	result("reached init", PASS, "", 2.704);
	stop();
	check(!strcmp(said, "    # rig: lost: 12 kernel log records\n"
			    "    # rig: took: 2.70\n"
			    "    # rig: why: 1 complaint(s) in the kernel's log\n"
			    "    not ok 1 reached init\n") &&
	      failed == 1 && !passed, "lost before init");
	klog.records = 0;
	klog.at = 0;
	log_record("and on");
	result("name", PASS, "", 0);
	check(passed == 1, "lost before init, and reported twice");

	/* On a host that runs, nobody knows what the first one's number is. */
	start();
	next_record = ANY_RECORD;
	klog.nr = 5000;
	log_record("somewhere");
	result("reached init", PASS, "", 0);
	check(passed == 1, "a host that runs: the first record");
	klog.nr++;
	log_record("and on");
	result("name", PASS, "", 0);
	stop();
	check(has_line("    # rig: lost: 1 kernel log records") && failed == 1,
	      "a host that runs: a lost one");

	/* Some were, while a test ran, and more while init read. */
	start();
	log_record("one");
	klog.nr += 3;
	log_error(EPIPE);
	log_record("two");
	log_error(EPIPE);
	log_error(EPIPE);
	klog.nr += 10000000000;
	log_record("BUG: three");
	check(kernel_complained() == 3, "two times lost, and a complaint");
	stop();
	check(!strcmp(said, "    # rig: lost: 3 kernel log records\n"
			    "    # rig: lost: 10000000000 kernel log records\n"
			    "    # rig: kernel: BUG: three\n"), "where it was lost");

	/* Without an error from read() it is the same. */
	start();
	log_record("one");
	klog.nr++;
	log_record("two");
	result("name", SKIP, "the test asked for it", 0);
	stop();
	check(has_line("    # rig: lost: 1 kernel log records") &&
	      has_line("    not ok 1 name") && failed == 1, "lost without EPIPE");

	/* A test that failed anyway has its own reason. */
	start();
	klog.nr++;
	log_error(EPIPE);
	log_record("two");
	result("name", FAIL, "exit status 1", 0);
	stop();
	check(has_line("    # rig: lost: 1 kernel log records") &&
	      has_line("    # rig: why: exit status 1"), "lost in a failure");
}

static void test_results(void)
{
	start();
	announce("a");
	result("a", PASS, "exit status 0", 1.239);
	result("b", FAIL, "exit status 1", 0.001);
	result("c", SKIP, "the test asked for it", 10);
	end_group();
	state("totals", "pass %u fail %u skip %u", passed, failed, skipped);
	begin_group("next");
	stop();
	check(!strcmp(said, "    # rig: running: a\n"
			    "    # rig: took: 1.24\n    ok 1 a\n"
			    "    # rig: took: 0.00\n    # rig: why: exit status 1\n"
			    "    not ok 2 b\n"
			    "    # rig: took: 10.00\n"
			    "    ok 3 c # SKIP the test asked for it\n"
			    "    1..3\nnot ok 1 group\n"
			    "# rig: totals: pass 1 fail 1 skip 1\n"
			    "    KTAP version 1\n    # Subtest: next\n"),
	      "what a group says");

	memset(&group, 0, sizeof(group));
	if (ftruncate(results, 0))
		exit(1);
	lseek(results, 0, SEEK_SET);
	describe_host();
	stop();
	check(is_line(said, said_len, "# rig: host kernel: ") &&
	      strstr(said, "\n# rig: host cpu: ") &&
	      strstr(said, "\n# rig: virtualization: "), "what the host is");
}

/* One line of a plan, which init takes apart. */
static void carry_out_copy(const char *command)
{
	char line[200];

	snprintf(line, sizeof(line), "%s\n", command);
	carry_out(line, 1);
}

/* Programs that run: what they print, and how they end. */
static void test_run(void)
{
	start();
	carry_out_copy("test name 60 /usr/bin/printf %5s\\040%s\\n%7s\\0401 # rig:x not");
	carry_out_copy("test name 60 /bin/sh -c exit${IFS}1");
	carry_out_copy("test name 60 /bin/sh -c exit${IFS}4");
	stop();
	check(is_line(said, said_len, "    # rig: running: name\n"
				      "    # |     # rig:x\n"
				      "    # |     not 1\n"
				      "    # rig: took: ") &&
	      strstr(said, "\n    ok 1 name\n    # rig: running: name\n") &&
	      strstr(said, "\n    # rig: why: exit status 1\n    not ok 2 name\n") &&
	      strstr(said, "\n    ok 3 name # SKIP the test asked for it\n"),
	      "tests that run");
}

static enum verdict run_kunit_lines(const char * const *line, unsigned int lines)
{
	start();
	log_lines(line, lines);
	run_kunit("kunit", "/dev/null");
	stop();
	return passed ? PASS : skipped ? SKIP : FAIL;
}

static void test_kunit(void)
{
	/* What each kernel prints for a suite of three, one with parameters. */
	static const char * const v5_10[] = {
		"    # Subtest: suite", "    1..2",
		"    # a: 4212 states", "    ok 1 - a", "    ok 2 - b",
		"ok 1 - suite",
	};
	static const char * const v6_1[] = {
		"    KTAP version 1", "    # Subtest: suite", "    1..3",
		"    ok 1 a",
		"        KTAP version 1", "        # Subtest: b",
		"        ok 1 one", "        ok 2 two",
		"    # b: pass:2 fail:0 skip:0 total:2", "    ok 2 b",
		"    ok 3 c", "# suite: pass:3 fail:0 skip:0 total:3",
		"# Totals: pass:4 fail:0 skip:0 total:4", "ok 1 suite",
	};
	static const char * const v6_12[] = {
		"KTAP version 1", "1..2",
		"    KTAP version 1", "    # Subtest: suite", "    # module: m",
		"    1..2", "    ok 1 a", "    ok 2 b",
		"# suite: pass:2 fail:0 skip:0 total:2", "ok 1 suite",
		"    KTAP version 1", "    # Subtest: more", "    # module: m",
		"    1..1", "    ok 1 c", "ok 2 more",
	};
	static const char * const v7_3[] = {
		"KTAP version 1", "1..1",
		"    KTAP version 1", "    # Subtest: suite", "    # module: m",
		"    1..2", "    ok 1 a",
		"        KTAP version 1", "        # Subtest: b", "        1..2",
		"        ok 1 one", "        ok 2 two",
		"    # b: pass:2 fail:0 skip:0 total:2", "    ok 2 b",
		"# Totals: pass:3 fail:0 skip:0 total:3", "ok 1 suite",
	};
	static const char * const skip[] = {
		"    # Subtest: suite", "    1..2", "    ok 1 a # SKIP no VMX",
		"    ok 2 b", "ok 1 suite",
	};
	static const char * const not_ok[] = {
		"    # Subtest: suite", "    1..2", "    not ok 1 a",
		"    ok 2 b", "not ok 1 suite",
	};
	static const struct {
		const char *name;
		const char * const *line;
		unsigned int lines;
	} all[] = {
		{ "5.10", v5_10, ARRAY_SIZE(v5_10) },
		{ "6.1", v6_1, ARRAY_SIZE(v6_1) },
		{ "6.12", v6_12, ARRAY_SIZE(v6_12) },
		{ "7.3", v7_3, ARRAY_SIZE(v7_3) },
	};
	const char **line;
	unsigned int i, j;

	line = calloc(RECORDS, sizeof(*line));
	if (!line)
		exit(1);
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		check(run_kunit_lines(all[i].line, all[i].lines) == PASS,
		      "KUnit of %s", all[i].name);
		for (j = 0; j < all[i].lines; j++)
			check(run_kunit_lines(all[i].line, j) == FAIL,
			      "KUnit of %s, the first %u lines", all[i].name, j);

		/* And without one result, but where nothing announced it. */
		for (j = 0; j < all[i].lines; j++) {
			const char *gone = all[i].line[j];

			if (!starts_with(gone + strspn(gone, " "), "ok ") ||
			    (all[i].line == v6_1 && starts_with(gone, "        ")))
				continue;
			memcpy(line, all[i].line, j * sizeof(*line));
			memcpy(line + j, all[i].line + j + 1,
			       (all[i].lines - j - 1) * sizeof(*line));
			check(run_kunit_lines(line, all[i].lines - 1) == FAIL,
			      "KUnit of %s, without \"%s\"", all[i].name, gone);
			check(has_line("    # rig: why: 1 result(s) did not come") ||
			      all[i].lines == 1, "why KUnit failed");
		}
	}
	free(line);
	check(run_kunit_lines(skip, ARRAY_SIZE(skip)) == SKIP,
	      "KUnit skips");
	check(run_kunit_lines(not_ok, ARRAY_SIZE(not_ok)) == FAIL,
	      "KUnit fails");
	check(has_line("    # rig: why: 2 not ok, 1 ok"), "why it does");
	check(is_line(said, said_len, "    # rig: running: kunit\n"
				      "    # |     # Subtest: suite\n"
				      "    # |     1..2\n"
				      "    # |     not ok 1 a\n"), "KUnit's words");
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "output: how much of it", test_output_sizes },
	{ "output: whatever it is", test_output_content },
	{ "complaints: which are", test_complaints },
	{ "complaints: long ones", test_long_complaint },
	{ "complaints: lost ones", test_lost },
	{ "results", test_results },
	{ "programs", test_run },
	{ "kunit", test_kunit },
};

int main(void)
{
	unsigned int i, before, wrong = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	console = open("/dev/null", O_WRONLY | O_CLOEXEC);
	results = memfd_create("results", MFD_CLOEXEC);
	kmsg = KMSG_FD;
	if (console < 0 || results < 0) {
		printf("Bail out! %s\n", strerror(errno));
		return 1;
	}

	printf("KTAP version 1\n1..%zu\n", ARRAY_SIZE(tests));
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		before = broken;
		checks = 0;
		tests[i].run();
		wrong += broken != before;
		printf("%sok %u %s, %u checks\n", broken != before ? "not " : "",
		       i + 1, tests[i].name, checks);
	}
	return !!wrong;
}
