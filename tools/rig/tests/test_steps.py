# SPDX-License-Identifier: GPL-2.0-only
"""What the scripts share, and the small ones: lib.sh, tap.sh, run-step, livepatch, setup."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).resolve().parent / "logs/steps"


def run(*args, cwd=TOP, **env):
    return subprocess.run([str(a) for a in args], text=True, cwd=cwd, capture_output=True,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, V="0", **env))


class Folder(unittest.TestCase):
    """A repository with nothing in it but what the scripts share."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.top)
        self.steps = self.top / "tools/rig/steps"
        self.steps.mkdir(parents=True)
        for name in ("lib.sh", "tap.sh", "run-step", "configure"):
            shutil.copy(TOP / "tools/rig/steps" / name, self.steps)

    def script(self, path, text):
        file = self.top / path
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)
        return file


class Lib(Folder):
    def test_the_top_from_both_depths(self):
        for path, lib in (("tools/rig/setup", "steps/lib.sh"),
                          ("tools/rig/steps/any", "lib.sh")):
            file = self.script(path, f'. "${{0%/*}}/{lib}"\npwd\n')
            for command, cwd in ((file, "/"), (path, self.top),
                                 (f"./{file.name}", file.parent)):
                done = run(command, cwd=cwd)
                self.assertEqual(done.stdout.strip(), str(self.top), done.stderr)

    def first_error(self, log, more=0):
        done = run("sh", "-c", '. tools/rig/steps/lib.sh; first_error "$1" "$2"',
                   "tools/rig/steps/any", log, more, cwd=self.top)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def first_error_of(self, text):
        log = self.top / "log"
        log.write_text(text)
        return self.first_error(log)

    def test_first_error_of_recorded_logs(self):
        for log, line in (
                ("no-flex", "/bin/sh: 1: flex: not found"),
                ("gcc", "filter.c:4:20: error: ‘missing’ undeclared (first use in this "
                        "function)"),
                ("ld", "ld.c:(.text+0x5): undefined reference to `absent'"),
                ("ld-library", "/usr/bin/ld: cannot find -lnosuchlib: No such file or "
                               "directory"),
                ("kconfig", "drivers/Kconfig:3: syntax error"),
                ("no-rule", "make: *** No rule to make target 'gone.c', needed by "
                            "'prog'.  Stop."),
                ("sphinx", "Extension error: Could not import extension nosuchext "
                           "(exception: No module named 'nosuchext')")):
            with self.subTest(log):
                self.assertEqual(self.first_error(LOGS / f"{log}.log"), f"{line}\n")

    def test_what_a_compiler_shows_below_it(self):
        self.assertEqual(self.first_error(LOGS / "gcc.log", 3).splitlines()[1:], [
            "    4 |         return x + missing;",
            "      |                    ^~~~~~~"])
        self.assertEqual(self.first_error(LOGS / "gcc.log", 1).count("\n"), 2)

    def test_a_missing_file_that_did_not_matter(self):
        self.assertEqual(self.first_error_of(
            "cat: /sys/x: No such file or directory\n  CC      a.o\n"
            "/bin/sh: 1: bc: not found\nmake[1]: *** [Kbuild:24: timeconst.h] Error 127\n"
            "make[1]: *** Waiting for unfinished jobs....\n"
            "ls: /y: No such file or directory\nmake: *** [Makefile:1: prepare] Error 2\n"),
            "/bin/sh: 1: bc: not found\n")

    def test_neither_a_warning_nor_a_command(self):
        self.assertEqual(self.first_error_of(
            "a.c:1:1: warning: an error: or not\n"
            'test -e x || ( echo >&2 "  ERROR: Kernel configuration is invalid."; false)\n'
            "  gcc -Werror=date-time -o lib/error.o\n  CC      lib/errname.o\n"
            'ERROR: modpost: "f" [arch/x86/kvm/kvm.ko] undefined!\n'),
            'ERROR: modpost: "f" [arch/x86/kvm/kvm.ko] undefined!\n')

    def test_make_is_the_last_resort(self):
        self.assertEqual(self.first_error_of(
            "  GEN     x\nmake[1]: *** [a:1: x] Error 3\nmake: *** [b:2: y] Error 2\n"),
            "make[1]: *** [a:1: x] Error 3\n")

    def test_no_error_at_all(self):
        self.assertEqual(self.first_error_of("one\ntwo\n\n"), "two\n")
        self.assertEqual(self.first_error_of(""), "")


class RunStep(Folder):
    def test_it_says_the_cause_and_where_the_log_is(self):
        done = run(self.steps / "run-step", "CONFIG", "a/.config", "build/log/config", 0,
                   "sh", "-c", f"cat {LOGS / 'no-flex.log'}; exit 2")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "  CONFIG  a/.config\n")
        cause, end = done.stderr.splitlines()
        self.assertEqual(cause.strip(), "/bin/sh: 1: flex: not found")
        self.assertRegex(end, "^run-step: CONFIG a/.config failed after 0m0.s; "
                              "the whole log: build/log/config$")

    def test_it_says_little_of_what_goes_well(self):
        done = run(self.steps / "run-step", "CC", "x", "build/log/cc", 0, "echo", "hello")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, "  CC      x\n", ""))
        self.assertEqual((self.top / "build/log/cc").read_text(), "hello\n")


class Configure(Folder):
    def setUp(self):
        super().setUp()
        (self.top / "obj").mkdir()
        (self.top / "fragment").write_text("# ours\nCONFIG_B=y\nCONFIG_C=y\n")
        # Takes all but CONFIG_C, and fails when there is a file "broken".
        self.script("make", """
case $1 in
tinyconfig) echo CONFIG_A=y >obj/.config ;;
olddefconfig) [ ! -e broken ] || exit 1
	grep -v -e CONFIG_C -e '#' obj/.config >obj/new; mv obj/new obj/.config ;;
esac
""")

    def configure(self, *args):
        return run(self.steps / "configure", *args)

    def test_it_keeps_what_stays_the_same(self):
        config = self.top / "obj/.config"
        self.assertEqual(self.configure("obj", "fragment", "./make").returncode, 0)
        self.assertEqual(config.read_text(), "CONFIG_A=y\nCONFIG_B=y\n")
        os.utime(config, (1, 1))
        self.assertEqual(self.configure("obj", "fragment", "./make").returncode, 0)
        self.assertEqual(config.stat().st_mtime, 1)
        self.assertEqual(self.configure("lacks", "obj", "fragment").stdout,
                         "  note: CONFIG_C=y is not in this kernel\n")

    def test_a_failure_leaves_what_was_there(self):
        (self.top / "broken").touch()
        self.assertNotEqual(self.configure("obj", "fragment", "./make").returncode, 0)
        self.assertEqual(list((self.top / "obj").iterdir()), [])
        (self.top / "obj/.config").write_text("CONFIG_OLD=y\n")
        self.assertNotEqual(self.configure("obj", "fragment", "./make").returncode, 0)
        self.assertEqual((self.top / "obj/.config").read_text(), "CONFIG_OLD=y\n")


class Livepatch(Folder):
    """A tree whose series is three patches of one line each."""

    NESTED = ("nested_vmx_disable_intercept_for_msr", "nested_vmx_set_intercept_for_msr",
              "enable_x2apic_msr_intercepts", "nested_vmx_prepare_msr_bitmap",
              "nested_vmx_update_msr_bitmap", "nested_get_vmcs12_pages")
    VMX = ("possible_passthrough_msr_slot", "is_valid_passthrough_msr",
           "vmx_clear_msr_bitmap_read", "vmx_clear_msr_bitmap_write",
           "vmx_set_msr_bitmap_read", "vmx_set_msr_bitmap_write",
           "vmx_msr_bitmap_l01_changed", "vmx_disable_intercept_for_msr",
           "vmx_enable_intercept_for_msr", "vmx_set_intercept_for_msr",
           "vmx_msr_bitmap_mode", "vmx_reset_x2apic_msrs",
           "vmx_update_msr_bitmap_x2apic", "vmx_msr_filter_changed")

    def setUp(self):
        super().setUp()
        shutil.copy(TOP / "tools/rig/steps/livepatch", self.steps)
        self.src = self.top / "build/5.10/src"
        (self.src / "arch/x86/kvm/vmx").mkdir(parents=True)
        (self.src.parent / "series").write_text("v5.10-v5.19\n")
        self.git("init", "-q")
        # Used before it is defined, and the definition takes two lines to begin.
        self.source("nested.c", "static int nested_get_vmcs12_pages(int vcpu);\n\n"
                    "static int enter(int vcpu)\n{\n"
                    "\treturn nested_get_vmcs12_pages(vcpu);\n}\n\n" +
                    self.functions(self.NESTED[:-1]) +
                    "static int nested_get_vmcs12_pages(\n\tint vcpu)\n{\n"
                    "\treturn vcpu;\n}\n\nstatic int rest(void)\n{\n"
                    "\treturn enter(1);\n}\n")
        self.vmx = ("#define MSR_BITMAP_MODE_X2APIC 1\n#define OTHER 2\n\n"
                    "static u32 vmx_possible_passthrough_msrs[2] = {\n\t1,\n};\n\n" +
                    self.functions(self.VMX))
        self.source("vmx.c", self.vmx)
        self.commit("base")
        self.git("branch", "base")
        for n in (1, 3, 4):
            self.source("vmx.c", self.vmx.replace("= 0;", f"= {n};"))
            self.commit(f"patch {n}")
        self.wanted = self.git("rev-parse", "HEAD")
        self.source("vmx.c", self.vmx.replace("= 0;", "= 5;"))
        self.commit("patch 5")
        self.git("branch", "patched")
        self.series("0001-a", "0003-b", "0004-c", "0005-d")

    def functions(self, names):
        return "".join(f"static void {name}(void)\n{{\n\tint i = 0;\n\n\tfor (;;) {{\n"
                       "\t\ti++;\n\t}\n}\n\n" for name in names)

    def git(self, *args):
        done = run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *args,
                   cwd=self.src)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def source(self, name, text):
        (self.src / "arch/x86/kvm/vmx" / name).write_text(text)

    def commit(self, what):
        self.git("add", "arch")
        self.git("commit", "-q", "-m", what)

    def series(self, *names):
        (self.src / ".rig-patches").write_text("".join(f"{n}.patch\n" for n in names))

    def livepatch(self, *args):
        return run(self.steps / "livepatch", *args, cwd=self.top)

    def fails(self, *args):
        done = self.livepatch(*args)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_the_commit_after_the_last_of_them(self):
        done = self.livepatch("state", self.src)
        self.assertEqual((done.returncode, done.stdout.strip()), (0, self.wanted),
                         done.stderr)

    def test_another_series(self):
        (self.src.parent / "series").write_text("next\n")
        self.assertIn("for v5.10-v5.19 only", self.fails("state", self.src))

    def test_one_that_is_not_wanted_comes_between(self):
        self.series("0001-a", "0002-b", "0003-c", "0004-d")
        self.assertIn("0002-b.patch is among them", self.fails("state", self.src))

    def test_what_is_taken(self):
        out = self.top / "out"
        done = self.livepatch("extract", self.src, out)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        text = (out / "extracted.h").read_text()
        for name in (*self.NESTED, *self.VMX, "vmx_possible_passthrough_msrs"):
            self.assertEqual(len(re.findall(rf"^static .*\b{name}\b", text, re.M)), 1,
                             name)
        # The state of those patches, whole functions, and nothing else.
        self.assertEqual(text.count("int i = 4;"), len(self.VMX))
        self.assertEqual(text.count("\n}\n"), len(self.NESTED) + len(self.VMX))
        self.assertIn("#define MSR_BITMAP_MODE_X2APIC 1\n", text)
        for other in ("OTHER", "enter(", "rest(", "int vcpu);"):
            self.assertNotIn(other, text.replace("(\n\tint vcpu)", ""))
        # In that order, or it would not build.
        self.assertLess(text.index("nested_get_vmcs12_pages"),
                        text.index("vmx_possible_passthrough_msrs"))
        # Nothing is left over half-made.
        self.assertEqual(sorted(path.name for path in out.iterdir()), ["extracted.h"])

    def test_a_function_that_is_not_there(self):
        self.git("checkout", "-q", "-B", "patched", "base")
        for n in (1, 3, 4):
            self.source("vmx.c", self.vmx.replace("vmx_msr_bitmap_mode", f"mode{n}"))
            self.commit(f"patch {n}")
        out = self.top / "out"
        self.assertIn("has no vmx_msr_bitmap_mode", self.fails("extract", self.src, out))
        self.assertEqual(list(out.iterdir()), [])

    def module(self, attribute):
        """An object in place of the module: that function, and one that calls it."""
        (self.top / "m.c").write_text(
            f"static {attribute} int nested_get_vmcs12_pages(int vcpu)\n{{\n"
            "\treturn *(volatile int *)(long)vcpu;\n}\n"
            "int enter(int vcpu)\n{\n\treturn nested_get_vmcs12_pages(vcpu) + 1;\n}\n")
        done = run("gcc", "-O2", "-c", "m.c", "-o", "m.ko", cwd=self.top)
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.top / "m.ko"

    def test_callers(self):
        done = self.livepatch("callers", self.src, self.module("__attribute__((noinline))"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        said = self.fails("callers", self.src, self.module("inline"))
        self.assertIn("become part of its callers (0 of 1 are left)", said)
        self.assertIn("(0 of 1 are left)",
                      self.fails("callers", self.src, self.top / "absent.ko"))

    def test_nobody_calls_it(self):
        self.git("checkout", "-q", "-B", "base", "base")
        self.source("nested.c", "")
        self.commit("nothing")
        self.assertIn("does not call", self.fails("callers", self.src, self.top / "m.ko"))


class Lent(unittest.TestCase):
    """A tree that another kernel has borrowed of may be without the series, and then has
    no option for its KUnit tests."""

    def test_what_is_configured_and_built_has_the_series(self):
        done = run("make", "-nB", "-f", "tools/rig/Makefile", "BASE=6.1",
                   "build/6.1/obj/arch/x86/boot/bzImage")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = re.findall(r"steps/(source \S+ build/6.1/src \S+|run-step (?:CONFIG|KERNEL))",
                          done.stdout)
        checkout = "source checkout build/6.1/src patched"
        self.assertEqual(told[-4:], [checkout, "run-step CONFIG", checkout, "run-step KERNEL"])


class Tap(Folder):
    def tap(self, checks):
        file = self.script("tools/rig/steps/any", f"""
. "${{0%/*}}/lib.sh"
. "${{0%/*}}/tap.sh"
wrong() {{ echo "this is wrong"; }}
checks() {{
{checks}
}}
run_checks out/any.tap
""")
        done = run(file)
        text = (self.top / "out/any.tap").read_text()
        self.assertEqual(done.stdout, text)
        self.assertEqual(sorted(set(os.listdir(self.top / "out")) - {"any.tap.took"}),
                         ["any.tap"])
        return done, text.splitlines()

    def test_all_is_well(self):
        done, lines = self.tap("check one true\ncheck two true")
        self.assertEqual((done.returncode, lines), (0, ["1..2", "ok 1 - one", "ok 2 - two"]))

    def test_what_is_wrong_is_below(self):
        done, lines = self.tap("check one wrong\ncheck two false\ncheck three true")
        self.assertEqual((done.returncode, lines), (1, [
            "1..3", "not ok 1 - one", "    # this is wrong",
            "not ok 2 - two", "    # (it failed without a word)", "ok 3 - three"]))

    def test_none_is_absent(self):
        for stop in ("check_or_stop one wrong", "check one wrong; [ \"$planning\" ] || exit 3"):
            done, lines = self.tap(f"{stop}\ncheck two true\ncheck three true")
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(lines, [
                "1..3", "not ok 1 - one", "    # this is wrong",
                "not ok 2 - two # not run", "not ok 3 - three # not run"])

    def test_a_script_that_dies_within_a_check(self):
        done, lines = self.tap("check one die here\ncheck two true")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(lines, ["1..2", "not ok 1 - one # not run", "    # any: here",
                                 "not ok 2 - two # not run"])


class Setup(unittest.TestCase):
    def test_an_unknown_group(self):
        done = run(TOP / "tools/rig/setup", "nonsense")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r'^setup: tools/rig/tables/packages has no group '
                                      r'"nonsense", it has: all .*lint.*\n$')

    def test_the_groups_that_the_scripts_need(self):
        table = (TOP / "tools/rig/tables/packages").read_text()
        for group in ("all", "bochs", "kvm", "kselftest", "lint", "check"):
            self.assertTrue(re.search(rf"^\S+ +{group} +/", table, re.M), group)


if __name__ == "__main__":
    unittest.main()
