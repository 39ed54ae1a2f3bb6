// SPDX-License-Identifier: GPL-2.0-only
/*
 * A real VMM on the host kernel, QEMU, and a small Linux guest in it.
 *
 * QEMU filters reads of IA32_CORE_THREAD_COUNT, 0x35, and answers them by the
 * guest's topology.  The guest reads that and other MSRs, as it is, after it has
 * been saved to a file and restored, and, once, as an L2: QEMU in QEMU.  KVM's trace
 * events tell whom a read was dealt with by: one of 0x35 makes KVM exit to userspace
 * for KVM_EXIT_X86_RDMSR, and no other does.
 *
 *	vmm [nested]	nested: and then all of it in a guest, by the KVM there
 *
 * It prints a line for each thing that is to be seen, "ok: " or "NOT: " what; what
 * these say is the same for every run.  Files that it needs:
 *
 *	/vmm/bzImage		the guest's kernel, which is the host's
 *	/vmm/guest.gz		an initramfs with this program as /init, and no more
 *	/vmm/nested.gz		one that can do what the host does, but "nested"; its
 *				KVM is in /vmm/modules, to be loaded as listed there
 *
 * As PID 1 it is that guest's init, and does what it is told on the console.  A line
 * of the console that is an answer begins with "guest: ".
 *
 *	read INDEX	"guest: INDEX VALUE", in hexadecimal, or "guest: INDEX #GP"
 *	vmm		load KVM, and be a host: "guest: " and its lines, and at last
 *			"guest: end"
 *	off		power off
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define QEMU		"/usr/bin/qemu-system-x86_64"
#define QEMU_SAYS	"/tmp/qemu"
#define MONITOR		"/tmp/monitor"
#define STATE		"/tmp/state"
#define TRACING		"/sys/kernel/tracing/"
#define MODULES		"/vmm/modules/"

#define ANSWER		"guest: "
#define READY		ANSWER "ready"
#define END		ANSWER "end"

/* What QEMU is told of the guest's topology, and what it makes of it */
#define SMP		"1,cores=4,maxcpus=4"
#define CORE_THREADS	"0x40004"

/* Of guest time, in seconds, for an answer, and for one of a nested guest */
#define ANSWER_LIMIT	120
#define NESTED_LIMIT	900

#define MSR_CORE_THREAD_COUNT	0x35
/* Reason 29 of kvm_run, in its trace event */
#define EXITS_FOR_READ	"(29)"

/*
 * What the guest reads besides: those next to the filter's one, those that KVM
 * emulates or has not, and one that is passed through.  They read the same in any
 * guest that has just booted, on whichever KVM.
 */
static const unsigned int other_msrs[] = {
	0x17,		/* IA32_PLATFORM_ID */
	0x1b,		/* IA32_APIC_BASE */
	0x34,		/* MSR_SMI_COUNT */
	0x36,		/* There is none. */
	0x3a,		/* IA32_FEAT_CTL */
	0x8b,		/* IA32_BIOS_SIGN_ID */
	0xfe,		/* IA32_MTRRCAP */
	0x174,		/* IA32_SYSENTER_CS */
	0x1a0,		/* IA32_MISC_ENABLE */
	0x277,		/* IA32_PAT */
	0xc0000080,	/* IA32_EFER */
	0xc0000081,	/* IA32_STAR */
};

static unsigned int nr_seen, nr_wrong;
/* What each of our lines begins with: a guest's are answers. */
static const char *prefix = "";

static __printf(2, 3) void see(bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%s%s: ", prefix, ok ? "ok" : "NOT");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	nr_seen++;
	nr_wrong += !ok;
}

static __printf(1, 2) void __noreturn give_up(const char *fmt, ...)
{
	va_list ap;

	printf("%sNOT: ", prefix);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

static void make_filesystems(void)
{
	static const char * const all[][2] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
		{ "tracefs", "/sys/kernel/tracing" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		mkdir(all[i][1], 0755);
		if (mount(all[i][0], all[i][1], all[i][0], 0, NULL) &&
		    errno != EBUSY)
			give_up("mount %s: %s", all[i][1], strerror(errno));
	}
}

/*
 * Trace events
 */

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	ssize_t len = strlen(text);

	if (fd < 0 || write(fd, text, len) != len)
		give_up("%s: %s", path, strerror(errno));
	close(fd);
}

static void trace_begin(void)
{
	put_file(TRACING "events/kvm/kvm_userspace_exit/enable", "1");
	put_file(TRACING "trace", "\n");
	put_file(TRACING "tracing_on", "1");
}

/* How many exits to userspace there were for reads of MSRs */
static unsigned int trace_end(void)
{
	unsigned int nr = 0;
	char line[512];
	FILE *file;

	put_file(TRACING "tracing_on", "0");
	file = fopen(TRACING "trace", "r");
	if (!file)
		give_up(TRACING "trace: %s", strerror(errno));
	while (fgets(line, sizeof(line), file))
		nr += strstr(line, "kvm_userspace_exit:") &&
		      strstr(line, EXITS_FOR_READ);
	fclose(file);
	return nr;
}

/*
 * QEMU
 */

static struct {
	pid_t pid;
	/* To and from the guest's console, and QEMU's monitor */
	int to_guest, from_guest, monitor;
	/* Of the console, what is no whole line yet */
	char text[4096];
	size_t len;
} vmm;

/* The last that QEMU has said, if it has something to say */
static void show_qemu(void)
{
	FILE *file = fopen(QEMU_SAYS, "r");
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		printf("%sqemu: %s", prefix, line);
	if (file)
		fclose(file);
}

static void __noreturn give_up_qemu(const char *what)
{
	show_qemu();
	kill(vmm.pid, SIGKILL);
	give_up("%s", what);
}

static void connect_monitor(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = MONITOR };
	unsigned int tries;

	vmm.monitor = socket(AF_UNIX, SOCK_STREAM, 0);
	for (tries = 0; tries < 600; tries++) {
		if (!connect(vmm.monitor, (struct sockaddr *)&address,
			     sizeof(address)))
			return;
		if (waitpid(vmm.pid, NULL, WNOHANG) == vmm.pid)
			break;
		usleep(100000);
	}
	give_up_qemu("QEMU does not start");
}

static void start_qemu(const char *memory, const char *initrd,
		       const char *incoming)
{
	static const char * const common[] = {
		QEMU, "-accel", "kvm", "-cpu", "host", "-smp", SMP,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", "/vmm/bzImage", "-append",
		"console=ttyS0,115200 quiet nokaslr",
		"-chardev", "stdio,id=console,signal=off",
		"-serial", "chardev:console",
		"-chardev", "socket,id=monitor,path=" MONITOR ",server=on,wait=off",
		"-mon", "monitor",
	};
	const char *args[ARRAY_SIZE(common) + 7];
	size_t n = ARRAY_SIZE(common);
	int in[2], out[2], says;

	memcpy(args, common, sizeof(common));
	args[n++] = "-m";
	args[n++] = memory;
	args[n++] = "-initrd";
	args[n++] = initrd;
	if (incoming) {
		args[n++] = "-incoming";
		args[n++] = incoming;
	}
	args[n] = NULL;

	unlink(MONITOR);
	vmm.len = 0;
	if (pipe(in) || pipe(out))
		give_up("pipe: %s", strerror(errno));
	vmm.pid = fork();
	if (!vmm.pid) {
		says = open(QEMU_SAYS, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(says, 2);
		close(in[1]);
		close(out[0]);
		execv(QEMU, (char **)args);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	vmm.to_guest = in[1];
	vmm.from_guest = out[0];
	connect_monitor();
}

static bool qemu_ends(void)
{
	int status;

	if (waitpid(vmm.pid, &status, 0) != vmm.pid)
		give_up("waitpid: %s", strerror(errno));
	close(vmm.to_guest);
	close(vmm.from_guest);
	close(vmm.monitor);
	return !status;
}

/* The next line of the console, in @line, without what ends it */
static void next_line(char *line, size_t size, unsigned int limit)
{
	struct pollfd fd = { .fd = vmm.from_guest, .events = POLLIN };
	char *end;
	ssize_t n;

	while (!(end = memchr(vmm.text, '\n', vmm.len))) {
		if (vmm.len == sizeof(vmm.text))
			vmm.len = 0;
		if (poll(&fd, 1, limit * 1000) <= 0)
			give_up_qemu("the guest does not answer");
		n = read(vmm.from_guest, vmm.text + vmm.len,
			 sizeof(vmm.text) - vmm.len);
		if (n <= 0)
			give_up_qemu("the guest has ended");
		vmm.len += n;
	}
	n = end - vmm.text;
	snprintf(line, size, "%.*s", (int)n, vmm.text);
	line[strcspn(line, "\r")] = '\0';
	vmm.len -= n + 1;
	memmove(vmm.text, end + 1, vmm.len);
}

/* What is no answer is the kernel's, or what the console echoes. */
static void next_answer(char *line, size_t size, unsigned int limit)
{
	do {
		next_line(line, size, limit);
	} while (strncmp(line, ANSWER, strlen(ANSWER)));
}

static void expect(const char *answer, unsigned int limit)
{
	char line[512];

	next_answer(line, sizeof(line), limit);
	if (strcmp(line, answer))
		give_up("the guest says \"%s\", expected \"%s\"", line, answer);
}

static void tell_guest(const char *what)
{
	if (dprintf(vmm.to_guest, "%s\n", what) < 0)
		give_up_qemu("the guest does not listen");
}

/* A command of the monitor's, and what that says until it prompts again */
static void ask_qemu(const char *command, char *said, size_t size)
{
	struct pollfd fd = { .fd = vmm.monitor, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	if (command && dprintf(vmm.monitor, "%s\n", command) < 0)
		give_up_qemu("QEMU does not listen");
	for (;;) {
		said[len] = '\0';
		/* It echoes the command, and what it does to print that. */
		if (len >= 7 && !strcmp(said + len - 7, "(qemu) "))
			return;
		if (len == size - 1)
			len = 0;
		if (poll(&fd, 1, ANSWER_LIMIT * 1000) <= 0)
			give_up_qemu("QEMU does not answer");
		n = read(vmm.monitor, said + len, size - 1 - len);
		if (n <= 0)
			give_up_qemu("QEMU has ended");
		len += n;
	}
}

/*
 * What is to be seen
 */

/* Returns the value, and in @exits how often KVM asked QEMU for it */
static const char *read_msr(unsigned int index, unsigned int *exits)
{
	static char line[512];
	char command[32], expected[32];

	snprintf(command, sizeof(command), "read 0x%x", index);
	snprintf(expected, sizeof(expected), ANSWER "0x%x ", index);
	trace_begin();
	tell_guest(command);
	next_answer(line, sizeof(line), ANSWER_LIMIT);
	*exits = trace_end();
	if (strncmp(line, expected, strlen(expected)))
		give_up("the guest says \"%s\" to \"%s\"", line, command);
	return line + strlen(expected);
}

static void check_reads(const char *when)
{
	const char *value;
	unsigned int exits;
	size_t i;

	value = read_msr(MSR_CORE_THREAD_COUNT, &exits);
	see(exits == 1 && !strcmp(value, CORE_THREADS),
	    "%s: 0x%x is %s, KVM exits to QEMU %u times for it", when,
	    MSR_CORE_THREAD_COUNT, value, exits);
	for (i = 0; i < ARRAY_SIZE(other_msrs); i++) {
		value = read_msr(other_msrs[i], &exits);
		see(!exits, "%s: 0x%x is %s, KVM exits to QEMU %u times for it",
		    when, other_msrs[i], value, exits);
	}
}

static void check_guest(void)
{
	unsigned int tries;
	char said[4096];
	struct stat state;

	start_qemu("96", "/vmm/guest.gz", NULL);
	ask_qemu(NULL, said, sizeof(said));
	expect(READY, ANSWER_LIMIT);
	check_reads("running");

	ask_qemu("migrate \"exec:cat >" STATE "\"", said, sizeof(said));
	ask_qemu("info status", said, sizeof(said));
	see(strstr(said, "paused (postmigrate)") && !stat(STATE, &state) &&
	    state.st_size > 1 << 20, "saved to a file");
	if (dprintf(vmm.monitor, "quit\n") < 0 || !qemu_ends())
		give_up_qemu("QEMU does not quit");

	start_qemu("96", "/vmm/guest.gz", "exec:cat " STATE);
	ask_qemu(NULL, said, sizeof(said));
	/* What it is told before that is lost. */
	for (tries = 0; tries < 600; tries++) {
		ask_qemu("info status", said, sizeof(said));
		if (strstr(said, "status: running"))
			break;
		usleep(100000);
	}
	check_reads("restored");
	unlink(STATE);
	tell_guest("off");
	see(qemu_ends(), "the guest powers off, and QEMU ends");
}

/* A guest that does all this itself */
static void check_nested(void)
{
	unsigned int nr_here = nr_seen, nr = 0;
	char line[512];

	start_qemu("512", "/vmm/nested.gz", NULL);
	expect(READY, ANSWER_LIMIT);
	tell_guest("vmm");
	for (;;) {
		next_answer(line, sizeof(line), NESTED_LIMIT);
		if (!strcmp(line, END))
			break;
		nr += !strncmp(line, ANSWER "ok: ", strlen(ANSWER "ok: "));
		printf("nested: %s\n", line + strlen(ANSWER));
	}
	see(nr == nr_here, "%u of %u of that are as they are to be in a nested guest",
	    nr, nr_here);
	tell_guest("off");
	see(qemu_ends(), "the nested guest's host powers off, and QEMU ends");
}

/*
 * The guest's side
 */

static void guest_read(const char *text)
{
	unsigned long index = strtoul(text, NULL, 0);
	unsigned long long value;
	int fd = open("/dev/cpu/0/msr", O_RDONLY);

	if (fd < 0)
		printf(ANSWER "0x%lx: /dev/cpu/0/msr: %s\n", index,
		       strerror(errno));
	else if (pread(fd, &value, sizeof(value), index) == sizeof(value))
		printf(ANSWER "0x%lx 0x%llx\n", index, value);
	else
		printf(ANSWER "0x%lx #GP\n", index);
	close(fd);
}

static void load_modules(void)
{
	char name[64], path[128];
	FILE *list = fopen(MODULES "list", "r");
	int fd;

	if (!list)
		give_up(MODULES "list: %s", strerror(errno));
	while (fgets(name, sizeof(name), list)) {
		name[strcspn(name, "\n")] = '\0';
		snprintf(path, sizeof(path), MODULES "%s", name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			give_up("%s: %s", path, strerror(errno));
		close(fd);
	}
	fclose(list);
}

/* In a process of its own, so that whatever becomes of it the end is said. */
static void guest_is_host(void)
{
	pid_t pid = fork();

	if (!pid) {
		prefix = ANSWER;
		load_modules();
		check_guest();
		exit(nr_wrong ? 1 : 0);
	}
	waitpid(pid, NULL, 0);
	printf(END "\n");
}

static void __noreturn guest_main(void)
{
	char line[256];
	int fd;

	make_filesystems();
	fd = open("/dev/console", O_RDWR);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	printf(READY "\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "read ", 5))
			guest_read(line + 5);
		else if (!strcmp(line, "vmm\n"))
			guest_is_host();
		else if (!strcmp(line, "off\n"))
			reboot(RB_POWER_OFF);
	}
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

int main(int argc, char *argv[])
{
	if (getpid() == 1)
		guest_main();

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	signal(SIGPIPE, SIG_IGN);
	make_filesystems();
	check_guest();
	if (argc > 1 && !strcmp(argv[1], "nested"))
		check_nested();
	return nr_wrong ? 1 : 0;
}
