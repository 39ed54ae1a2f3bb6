// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the rig's host kernel.
 *
 * It carries out /plan.N, N being the number of CPUs, a command a line, words
 * separated by blanks:
 *
 *	group NAME			begin the results of one variant
 *	load FILE [PARAM=VALUE...]	insert a module
 *	unload NAME			remove a module
 *	test NAME SECONDS FILE [ARG...]	run a program, SECONDS of guest time long
 *					at most
 *	kunit NAME FILE			insert a module of KUnit tests, which run
 *					then, and remove it
 *
 * Every load, unload, test and kunit gets a verdict.  The exit status of a test
 * means what it means in kselftest: 0 passed, 4 skipped, all else failed.  Whatever
 * a test says itself, it has failed when the kernel logged a warning, a BUG or an
 * oops while it ran, or so much that some of it was lost.  What KUnit tests found is
 * what KUnit logs: any that is "not ok", or none, or fewer than it announced, is a
 * failure, and one that says "# SKIP" has the whole of them skipped.  The console,
 * on the first serial port, gets a line a step, and the kernel's messages.
 *
 * The results are KTAP, on the second serial port.  A line ends with '\n', and with
 * nothing else:
 *
 *	KTAP version 1
 *	# rig: KEY: VALUE			what init says of the whole boot
 *	    KTAP version 1			a group: "boot", then those of the plan
 *	    # Subtest: GROUP
 *	    # rig: KEY: VALUE			what init says of the next verdict
 *	    # | TEXT				a line of a test's output, or of KUnit
 *	    ok N NAME
 *	    ok N NAME # SKIP WHY
 *	    not ok N NAME
 *	    1..N
 *	ok N GROUP				or "not ok N GROUP"
 *	1..N
 *	# rig: totals: pass P fail F skip S	the last line
 *
 * NAME is "reached init", "load FILE [PARAM=VALUE...]", "unload NAME", or a test's.
 * A TEXT may hold any bytes but '\n', and what a test prints begins no other line.
 * A VALUE holds no control characters, they become '?'.  The keys, and whether they
 * are in a group:
 *
 *	host kernel: RELEASE		no
 *	host cpu: N x MODEL		no
 *	virtualization: vmx|svm|none	no
 *	running: NAME			yes, a test or kunit begins
 *	module: NAME version X		yes, a module was loaded
 *	left out: N			yes, bytes of the output, at this place
 *	kernel: TEXT			yes, a complaint of the kernel's
 *	lost: N kernel log records	yes, nobody knows what they said
 *	took: SECONDS			yes, of guest time, before each verdict
 *	why: TEXT			yes, then, before each "not ok N NAME"
 *	totals: pass P fail F skip S	no, verdicts
 *
 * Of what a test prints only the beginning and the end are passed on when it is
 * a lot: the port is slow, and the test would wait for it.  When a test has ended,
 * or its time has, whatever it has left running is killed.  One that SIGKILL does
 * not end is left behind, and the rest goes on.
 *
 * After the last line the machine powers off.  When init itself cannot go on it
 * says "Bail out! WHY" instead.  There is no other way out: what is left to the
 * watchdog outside is a panic, or a hang.
 *
 * "init PLAN RESULTS" does the same on a host that runs and is not the rig's, as
 * any process, for "make host-test".  There it mounts nothing and powers nothing
 * off, what the kernel said before is not looked at, what is killed is only what a
 * test has started, and SIGINT, SIGTERM and SIGHUP end the test that runs, and init
 * with "Bail out!".  Modules that it has loaded stay then: the caller removes them.
 * Its exit status is 0 unless it bailed out.
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

#include "common.h"

#define MAX_WORDS	32
#define RESULTS_PORT	"/dev/ttyS1"

/* Of a test's output, in bytes, what is passed on at the least. */
#define OUTPUT_HEAD	16384
#define OUTPUT_TAIL	4096

/* What begins each line that is not init's own, and none that is. */
#define QUOTE		"    # | "

/* Of KUnit's output: suites, their tests, and the parameters of these. */
#define KUNIT_LEVELS	3
#define KUNIT_INDENT	4

/* What SIGKILL gets to end a test, in seconds of guest time. */
#define KILL_LIMIT	30

enum verdict { PASS, FAIL, SKIP };

/* What the kernel says when something is wrong with it, from 5.10 to 7.x. */
static const char * const kernel_complaints[] = {
	/* Also of KASAN, KCSAN, KFENCE, ODEBUG, lockdep, the scheduler, watchdogs. */
	"WARNING:",
	"BUG:",
	"kernel BUG at",
	"Oops",
	"Kernel panic",

	/* Exceptions.  With a ':' it is not a process that got a signal for it. */
	"general protection fault",
	"stack segment:",
	"double fault",
	"divide error:",
	"invalid opcode:",
	"unchecked MSR access error",

	/* Memory. */
	"UBSAN:",
	"refcount_t:",
	"list_add corruption",
	"list_add double add",
	"list_del corruption",
	"new suspected memory leaks",
	"Objects remaining in",
	"Slab cache still has objects",

	/* Locks, RCU and what does not get on.  Not every "INFO:" is a complaint. */
	"DEBUG_LOCKS_WARN_ON",
	"INFO: possible",
	"INFO: inconsistent lock state",
	"INFO: suspicious RCU usage",
	"INFO: trying to register non-static key",
	"INFO: lockdep is turned off",
	"INFO: rcu",
	"INFO: task",
	"hard LOCKUP",

	/* VMX, after "kvm: " or "kvm_intel: ". */
	"vmread failed",
	"vmwrite failed",
	"vmclear failed",
	"vmptrld failed",
	"invept failed",
	"invvpid failed",
};

static int console = -1, results = -1, kmsg = -1;

/* Whether this is a process of a host that is not ours, and not its PID 1. */
static bool guest_of_host;

/* The signal that is to end us there. */
static int end_signal;

/* Of the whole boot. */
static unsigned int passed, failed, skipped;

/* The sequence number of the kernel's next log record; on a host, not yet known. */
#define ANY_RECORD	(~0ULL)
static unsigned long long next_record;

/* Of the group that runs: its number, its tests and how many failed. */
static struct {
	bool open;
	unsigned int nr, tests, failed;
	char name[64];
} group;

/* Of the plan: its tests, those of KUnit too, and how many have begun. */
static unsigned int planned, begun;

/*
 * What KUnit logged, while somebody is listening.  At each level so many results
 * came, and are due: a plan "1..N" announces N, and a subtest one, a level up.
 * Which of the two there are depends on the kernel.
 */
static struct {
	bool listening;
	unsigned int ok, not_ok, skipped;
	struct kunit_level {
		unsigned int plan, subtests, came;
	} level[KUNIT_LEVELS];
} kunit;

static void put(int fd, const char *text, size_t len)
{
	while (fd >= 0 && len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= n;
	}
}

static void vsay(int fd, const char *fmt, va_list ap)
{
	char line[1024];
	int n = vsnprintf(line, sizeof(line), fmt, ap);

	/* A line that is cut is a line still. */
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	put(fd, line, n);
}

static __printf(1, 2) void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(console, fmt, ap);
	va_end(ap);
}

static __printf(1, 2) void ktap(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(results, fmt, ap);
	va_end(ap);
}

/* What cannot be in a line does not get there. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

/* What init itself has to say, within the group that runs or, without, on top. */
static __printf(2, 3) void state(const char *key, const char *fmt, ...)
{
	char value[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	make_printable(value);
	ktap("%s# rig: %s: ", group.open ? "    " : "", key);
	put(results, value, strlen(value));
	put(results, "\n", 1);
}

/* The emulated UART drops what it still holds when the power goes. */
static void __noreturn power_off(int status)
{
	if (guest_of_host) {
		tcdrain(results);
		exit(status);
	}
	sync();
	tcdrain(results);
	tcdrain(console);
	usleep(100000);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static __printf(1, 2) void __noreturn bail_out(const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	make_printable(why);

	ktap("Bail out! %s\n", why);
	say("rig: Bail out! %s\n", why);
	power_off(1);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Which signal has told us to end, or 0. */
static int told_to_end(void)
{
	return __atomic_load_n(&end_signal, __ATOMIC_RELAXED);
}

static bool starts_with(const char *text, const char *start)
{
	return !strncmp(text, start, strlen(start));
}

/* A line that is not init's own. */
static void quote(const char *text)
{
	put(results, QUOTE, strlen(QUOTE));
	put(results, text, strlen(text));
	put(results, "\n", 1);
}

/* Pass on a message that is KUnit's, and not for anybody else to judge. */
static bool is_from_kunit(char *text)
{
	const char *start = text + strspn(text, " \t");
	size_t depth = (start - text) / KUNIT_INDENT;
	struct kunit_level *level;
	char *newline;

	if (!kunit.listening)
		return false;
	level = kunit.level + (depth < KUNIT_LEVELS ? depth : KUNIT_LEVELS - 1);
	if (starts_with(start, "ok ")) {
		kunit.ok++;
		level->came++;
	} else if (starts_with(start, "not ok ")) {
		kunit.not_ok++;
		level->came++;
	} else if (starts_with(start, "1..")) {
		level->plan += strtoul(start + strlen("1.."), NULL, 10);
	} else if (starts_with(start, "# Subtest:")) {
		if (depth)
			level[-1].subtests++;
	} else if (!starts_with(start, "#") &&
		   !starts_with(start, "TAP version") &&
		   !starts_with(start, "KTAP version")) {
		return false;
	}
	if (strstr(start, "# SKIP"))
		kunit.skipped++;

	/* One message may be many lines. */
	while ((newline = strstr(text, "\\x0a"))) {
		*newline = '\0';
		quote(text);
		text = newline + strlen("\\x0a");
	}
	if (*text)
		quote(text);
	return true;
}

/* How many results KUnit has announced that did not come. */
static unsigned int kunit_missing(void)
{
	unsigned int i, due, missing = 0;
	const struct kunit_level *level;

	for (i = 0; i < KUNIT_LEVELS; i++) {
		level = kunit.level + i;
		due = level->plan > level->subtests ? level->plan :
						      level->subtests;
		if (due > level->came)
			missing += due - level->came;
	}
	return missing;
}

static bool is_complaint(const char *text)
{
	size_t i;

	/* SLUB's, "BUG kmalloc-64 (Not tainted): Redzone overwritten" */
	if (starts_with(text, "BUG "))
		return true;
	for (i = 0; i < ARRAY_SIZE(kernel_complaints); i++)
		if (strstr(text, kernel_complaints[i]))
			return true;
	return false;
}

/*
 * Read what the kernel logged since the last call, the first time since it
 * booted.  Complaints go to the results; returns how many there were.  One is that
 * records were overwritten before they were read: the next one has a number that
 * is too high.
 */
static unsigned int kernel_complained(void)
{
	unsigned long long nr;
	unsigned int found = 0;
	char record[8192 + 1];
	ssize_t n;

	for (;;) {
		char *text;

		n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && (errno == EINTR || errno == EPIPE))
			continue;
		if (n <= 0)
			return found;
		record[n] = '\0';

		/* "priority,sequence,time,flags;text", then tagged lines */
		text = strchr(record, ';');
		if (!text || sscanf(record, "%*u,%llu,", &nr) != 1)
			continue;
		if (next_record != ANY_RECORD && nr > next_record) {
			state("lost", "%llu kernel log records",
			      nr - next_record);
			found++;
		}
		next_record = nr + 1;

		text++;
		text[strcspn(text, "\n")] = '\0';
		if (!is_from_kunit(text) && is_complaint(text)) {
			state("kernel", "%s", text);
			found++;
		}
	}
}

/* Count one verdict, @why being the reason where it is not a pass. */
static void result(const char *what, enum verdict verdict, const char *why,
		   double took)
{
	unsigned int complaints = kernel_complained();
	char reason[96];

	if (complaints && verdict != FAIL) {
		snprintf(reason, sizeof(reason),
			 "%u complaint(s) in the kernel's log", complaints);
		verdict = FAIL;
		why = reason;
	}

	group.tests++;
	state("took", "%.2f", took);
	switch (verdict) {
	case PASS:
		passed++;
		ktap("    ok %u %s\n", group.tests, what);
		say("rig: %s: %s: ok (%.2f s of guest time)\n", group.name,
		    what, took);
		break;
	case SKIP:
		skipped++;
		ktap("    ok %u %s # SKIP %s\n", group.tests, what, why);
		say("rig: %s: %s: SKIP %s\n", group.name, what, why);
		break;
	case FAIL:
		failed++;
		group.failed++;
		state("why", "%s", why);
		ktap("    not ok %u %s\n", group.tests, what);
		say("rig: %s: %s: FAILED, %s (%.2f s of guest time)\n",
		    group.name, what, why, took);
		break;
	}
}

static void end_group(void)
{
	if (!group.open)
		return;
	group.open = false;
	ktap("    1..%u\n", group.tests);
	ktap("%sok %u %s\n", group.failed ? "not " : "", group.nr, group.name);
}

static void begin_group(const char *name)
{
	unsigned int nr = group.nr + 1;

	end_group();
	memset(&group, 0, sizeof(group));
	group.open = true;
	group.nr = nr;
	snprintf(group.name, sizeof(group.name), "%s", name);
	ktap("    KTAP version 1\n    # Subtest: %s\n", name);
}

/* Before a test, so that one that takes the kernel with it is known. */
static void announce(const char *test)
{
	state("running", "%s", test);
	say("rig: %s: %u of %u: %s\n", group.name, ++begun, planned, test);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What the module in @file is called once it is loaded. */
static void module_name(const char *file, char *name, size_t size)
{
	snprintf(name, size, "%s", base_name(file));
	name[strcspn(name, ".")] = '\0';
	for (; *name; name++)
		if (*name == '-')
			*name = '_';
}

/* Read a file of a module's in sysfs; return its size, or -1. */
static ssize_t read_module_file(const char *name, const char *file, void *data,
				size_t size)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s/%s", name, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, data, size);
	close(fd);
	return n;
}

/*
 * Name the code that was loaded, so that no variant is taken for another, by its
 * build ID or, if the kernel has no notes, its srcversion.  The latter is the same
 * for code that differs only in headers outside of the module's folder.
 */
static void show_version(const char *file)
{
	char name[64], version[64] = "";
	unsigned char note[64];
	ssize_t n;
	int i;

	module_name(file, name, sizeof(name));
	n = read_module_file(name, "notes/.note.gnu.build-id", note, sizeof(note));
	/* The ID follows a header of three words and the four bytes of "GNU". */
	for (i = 0; n >= 16 + 12 && i < 12; i++)
		sprintf(version + 2 * i, "%02x", note[16 + i]);

	if (!*version &&
	    read_module_file(name, "srcversion", version, sizeof(version) - 1) > 0)
		version[strcspn(version, "\n")] = '\0';
	if (*version)
		state("module", "%s version %s", name, version);
}

/* NULL, or why not. */
static const char *insert_module(const char *file, const char *params)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	long ret = fd < 0 ? -1 : syscall(SYS_finit_module, fd, params, 0);
	const char *why = ret ? strerror(errno) : NULL;

	if (fd >= 0)
		close(fd);
	if (!why)
		show_version(file);
	return why;
}

static const char *remove_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ?
	       strerror(errno) : NULL;
}

static void load_module(char **word, unsigned int words)
{
	double start = seconds();
	char params[256] = "", what[320];
	const char *why;
	unsigned int i;

	for (i = 1; i < words; i++) {
		strncat(params, word[i], sizeof(params) - strlen(params) - 1);
		strncat(params, i + 1 < words ? " " : "",
			sizeof(params) - strlen(params) - 1);
	}
	snprintf(what, sizeof(what), "load %s%s%s", base_name(word[0]),
		 *params ? " " : "", params);
	why = insert_module(word[0], params);
	result(what, why ? FAIL : PASS, why, seconds() - start);
}

static void unload_module(const char *name)
{
	double start = seconds();
	const char *why;
	char what[80];

	snprintf(what, sizeof(what), "unload %s", name);
	why = remove_module(name);
	result(what, why ? FAIL : PASS, why, seconds() - start);
}

static void run_kunit(const char *test, const char *file)
{
	char name[64], reason[128] = "";
	enum verdict verdict = FAIL;
	double start = seconds();
	unsigned int complaints, missing;
	const char *why;

	announce(test);
	memset(&kunit, 0, sizeof(kunit));
	kunit.listening = true;
	why = insert_module(file, "");
	if (why) {
		result(test, FAIL, why, seconds() - start);
		kunit.listening = false;
		return;
	}
	complaints = kernel_complained();
	missing = kunit_missing();
	kunit.listening = false;

	module_name(file, name, sizeof(name));
	why = remove_module(name);
	if (why)
		snprintf(reason, sizeof(reason), "it cannot be removed: %s", why);
	else if (complaints)
		snprintf(reason, sizeof(reason),
			 "%u complaint(s) in the kernel's log", complaints);
	else if (kunit.not_ok || !kunit.ok)
		snprintf(reason, sizeof(reason), "%u not ok, %u ok",
			 kunit.not_ok, kunit.ok);
	else if (missing)
		snprintf(reason, sizeof(reason), "%u result(s) did not come",
			 missing);
	else if (kunit.skipped)
		verdict = SKIP;
	else
		verdict = PASS;
	result(test, verdict, verdict == SKIP ? "the tests asked for it" : reason,
	       seconds() - start);
}

/* What comes from a test: how much of it was passed on, and the end of the rest. */
struct output {
	int fd;
	bool in_line;
	size_t passed, kept;
	char tail[OUTPUT_TAIL];
};

static void pass_on(struct output *out, const char *text, size_t len)
{
	const char *end = text + len;

	while (text < end) {
		const char *newline = memchr(text, '\n', end - text);
		const char *next = newline ? newline + 1 : end;

		if (!out->in_line)
			put(results, QUOTE, strlen(QUOTE));
		out->in_line = !newline;
		put(results, text, next - text);
		text = next;
	}
}

static void end_line(struct output *out)
{
	if (out->in_line)
		put(results, "\n", 1);
	out->in_line = false;
}

/* Take what the test has printed; false at the end of it. */
static bool take_output(struct output *out)
{
	char text[4096];
	ssize_t n = read(out->fd, text, sizeof(text));
	ssize_t i;

	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	if (out->passed < OUTPUT_HEAD) {
		pass_on(out, text, n);
		out->passed += n;
		return true;
	}
	for (i = 0; i < n; i++)
		out->tail[out->kept++ % OUTPUT_TAIL] = text[i];
	return true;
}

static void end_output(struct output *out)
{
	size_t at = out->kept % OUTPUT_TAIL;

	if (out->kept > OUTPUT_TAIL) {
		end_line(out);
		state("left out", "%zu", out->kept - OUTPUT_TAIL);
	}
	if (out->kept >= OUTPUT_TAIL)
		pass_on(out, out->tail + at, OUTPUT_TAIL - at);
	pass_on(out, out->tail, at);
	end_line(out);
}

/*
 * Wait until @pid ends, taking what comes from it; false when it is past its
 * @deadline.
 */
static bool await(pid_t pid, struct output *out, double deadline, int *status)
{
	struct pollfd pfd = { .fd = out->fd, .events = POLLIN };

	while (waitpid(pid, status, WNOHANG) != pid) {
		if (seconds() > deadline || told_to_end())
			return false;
		if (poll(&pfd, 1, 10) > 0 && !take_output(out))
			pfd.fd = -1;
	}
	return true;
}

/* Kill our children; on a host, where there are others' processes, too. */
static void kill_children(void)
{
	struct dirent *entry;
	char path[300], line[512], *end;
	DIR *proc = opendir("/proc");
	FILE *stat;
	int parent;

	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		stat = fopen(path, "re");
		if (!stat)
			continue;
		/* "PID (NAME) STATE PARENT ...": a NAME may have any character. */
		end = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
		if (end && sscanf(end, ") %*c %d", &parent) == 1 &&
		    parent == getpid())
			kill(atoi(entry->d_name), SIGKILL);
		fclose(stat);
	}
	if (proc)
		closedir(proc);
}

/* End all that a test has started; false when some of it would not end. */
static bool kill_all(void)
{
	double deadline = seconds() + KILL_LIMIT;

	/* All but init itself; those that lose their parent become init's. */
	if (!guest_of_host)
		kill(-1, SIGKILL);
	do {
		if (seconds() > deadline)
			return false;
		if (guest_of_host)
			kill_children();
		usleep(1000);
	} while (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD);
	return true;
}

static void __noreturn exec_test(char **argv, int out)
{
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	execv(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void run_test(char **word, unsigned int words)
{
	const char *name = word[0];
	double start = seconds();
	struct output out = {};
	struct pollfd pfd = { .events = POLLIN };
	bool in_time, gone;
	char *end, why[128];
	int fds[2], status;
	double limit;
	pid_t pid;

	limit = words > 2 ? strtod(word[1], &end) : 0;
	if (limit <= 0 || *end)
		bail_out("plan: \"test NAME SECONDS FILE\" expected");

	announce(name);
	if (pipe2(fds, O_CLOEXEC))
		bail_out("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		bail_out("fork: %s", strerror(errno));
	if (!pid)
		exec_test(word + 2, fds[1]);
	close(fds[1]);

	out.fd = fds[0];
	pfd.fd = fds[0];
	in_time = await(pid, &out, start + limit, &status);
	gone = kill_all();

	/* What is still in the pipe, and nobody can add to it. */
	fcntl(out.fd, F_SETFL, O_NONBLOCK);
	while (poll(&pfd, 1, 0) > 0 && take_output(&out))
		;
	end_output(&out);
	close(out.fd);

	if (told_to_end())
		bail_out("%s: it was told to end: %s", name,
			 strsignal(told_to_end()));

	if (!gone) {
		snprintf(why, sizeof(why), "SIGKILL does not end it");
		result(name, FAIL, why, seconds() - start);
	} else if (!in_time) {
		snprintf(why, sizeof(why), "still ran after %.0f s", limit);
		result(name, FAIL, why, seconds() - start);
	} else if (WIFSIGNALED(status)) {
		snprintf(why, sizeof(why), "killed by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
		result(name, FAIL, why, seconds() - start);
	} else if (WEXITSTATUS(status) == KSFT_SKIP) {
		result(name, SKIP, "the test asked for it",
		       seconds() - start);
	} else {
		snprintf(why, sizeof(why), "exit status %d",
			 WEXITSTATUS(status));
		result(name, WEXITSTATUS(status) ? FAIL : PASS, why,
		       seconds() - start);
	}
}

static void count_tests(FILE *plan)
{
	char line[1024];

	while (fgets(line, sizeof(line), plan))
		planned += starts_with(line, "test ") ||
			   starts_with(line, "kunit ");
	rewind(plan);
}

static void carry_out(char *line, unsigned int lineno)
{
	char *word[MAX_WORDS + 1] = { NULL };
	unsigned int words = 0;
	char *at;

	for (at = strtok(line, " \t\n"); at; at = strtok(NULL, " \t\n")) {
		if (words == MAX_WORDS)
			bail_out("plan:%u: over %d words", lineno, MAX_WORDS);
		word[words++] = at;
	}
	if (!words || word[0][0] == '#')
		return;

	if (words == 2 && !strcmp(word[0], "group"))
		begin_group(word[1]);
	else if (!group.nr)
		bail_out("plan:%u: no group yet", lineno);
	else if (words > 1 && !strcmp(word[0], "load"))
		load_module(word + 1, words - 1);
	else if (words == 2 && !strcmp(word[0], "unload"))
		unload_module(word[1]);
	else if (words > 1 && !strcmp(word[0], "test"))
		run_test(word + 1, words - 1);
	else if (words == 3 && !strcmp(word[0], "kunit"))
		run_kunit(word[1], word[2]);
	else
		bail_out("plan:%u: no such command: %s", lineno, word[0]);
}

static void mount_one(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, MS_NOSUID, NULL) && errno != EBUSY)
		bail_out("mount %s on %s: %s (kernel option missing?)", type,
			 where, strerror(errno));
}

static int open_port(const char *path, int flags)
{
	int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC | flags, 0644);
	struct termios tio;

	if (fd >= 0 && !tcgetattr(fd, &tio)) {
		cfmakeraw(&tio);
		cfsetspeed(&tio, B115200);
		tcsetattr(fd, TCSANOW, &tio);
	}
	return fd;
}

/* Which machine this is, for the head of the report. */
static void describe_host(void)
{
	char line[4096], model[256] = "unknown";
	struct utsname uts;
	bool vmx = false, svm = false;
	unsigned int cpus = 0;
	FILE *cpuinfo;
	char *value;

	cpuinfo = fopen("/proc/cpuinfo", "re");
	if (!cpuinfo)
		bail_out("/proc/cpuinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), cpuinfo)) {
		value = strchr(line, ':');
		if (!value)
			continue;
		value[strcspn(value, "\n")] = '\0';
		if (!strncmp(line, "model name", 10)) {
			snprintf(model, sizeof(model), "%s",
				 value + 1 + strspn(value + 1, " "));
			cpus++;
		} else if (!strncmp(line, "flags", 5)) {
			vmx |= !!strstr(value, " vmx");
			svm |= !!strstr(value, " svm");
		}
	}
	fclose(cpuinfo);

	uname(&uts);
	state("host kernel", "%s", uts.release);
	state("host cpu", "%u x %s", cpus, model);
	state("virtualization", "%s", vmx ? "vmx" : svm ? "svm" : "none");
	say("rig: Linux %s on %u x %s, %s\n", uts.release, cpus, model,
	    vmx ? "vmx" : svm ? "svm" : "no hardware virtualization");
}

static void be_pid_1(void)
{
	mount_one("devtmpfs", "/dev");
	console = open_port("/dev/console", 0);
	results = open_port(RESULTS_PORT, 0);
	if (results < 0)
		bail_out("no second serial port for the results");
	ktap("KTAP version 1\n");

	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("debugfs", "/sys/kernel/debug");
	mount_one("tmpfs", "/tmp");
	mount_one("tmpfs", "/dev/shm");
}

static void end_soon(int sig)
{
	__atomic_store_n(&end_signal, sig, __ATOMIC_RELAXED);
}

static void be_guest_of_host(const char *file)
{
	struct sigaction action = { .sa_handler = end_soon };

	guest_of_host = true;
	next_record = ANY_RECORD;
	console = 1;
	results = open_port(file, O_CREAT | O_TRUNC);
	if (results < 0)
		bail_out("%s: %s", file, strerror(errno));
	ktap("KTAP version 1\n");

	/* Those that lose their parent become ours. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		bail_out("prctl: %s", strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

int main(int argc, char **argv)
{
	unsigned int lineno = 0;
	char path[32], line[1024];
	const char *file = path;
	FILE *plan;

	snprintf(path, sizeof(path), "/plan.%ld",
		 sysconf(_SC_NPROCESSORS_ONLN));
	if (getpid() == 1) {
		be_pid_1();
	} else if (argc == 3) {
		file = argv[1];
		be_guest_of_host(argv[2]);
	} else {
		fprintf(stderr, "usage: init PLAN RESULTS, or as PID 1\n");
		return 2;
	}

	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		bail_out("/dev/kmsg: %s", strerror(errno));
	if (guest_of_host)
		lseek(kmsg, 0, SEEK_END);
	describe_host();

	begin_group("boot");
	result("reached init", PASS, "", guest_of_host ? 0 : seconds());

	plan = fopen(file, "re");
	if (!plan)
		bail_out("%s: %s", file, strerror(errno));
	count_tests(plan);
	while (fgets(line, sizeof(line), plan)) {
		carry_out(line, ++lineno);
		if (told_to_end())
			bail_out("it was told to end: %s",
				 strsignal(told_to_end()));
	}
	fclose(plan);

	end_group();
	ktap("1..%u\n", group.nr);
	state("totals", "pass %u fail %u skip %u", passed, failed, skipped);
	say("rig: done: %u passed, %u failed, %u skipped\n", passed, failed,
	    skipped);
	power_off(0);
}
