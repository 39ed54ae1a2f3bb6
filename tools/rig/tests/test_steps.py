# SPDX-License-Identifier: GPL-2.0-only
"""What the scripts share, and the small ones: lib.sh, tap.sh, run-step, setup."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import common

TOP = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).resolve().parent / "logs/steps"


def run(*args, cwd=TOP, **env):
    return common.run([str(a) for a in args], text=True, cwd=cwd, capture_output=True,
                      stdin=subprocess.DEVNULL, env=dict(os.environ, V="0", **env))


class Folder(common.Test):
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

    def test_a_signal_ends_it(self):
        log = self.top / "build/log/cc"
        for v in ("0", "1"):
            with common.Popen(
                    [self.steps / "run-step", "CC", "x", "build/log/cc", "0", "sh", "-c",
                     "echo begun; sleep 60"], stdout=subprocess.DEVNULL,
                    env=dict(os.environ, V=v)) as it:
                while not log.exists() or not log.read_text():
                    time.sleep(0.01)
                it.send_signal(signal.SIGTERM)
                self.assertEqual(it.wait(20), 130)
            log.unlink()


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


class Lent(common.Test):
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
    def any(self, checks):
        return self.script("tools/rig/steps/any", f"""
. "${{0%/*}}/lib.sh"
. "${{0%/*}}/tap.sh"
wrong() {{ echo "this is wrong"; }}
checks() {{
{checks}
}}
run_checks out/any.tap
""")

    def tap(self, checks):
        done = run(self.any(checks))
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

    def test_a_signal_during_a_check(self):
        """It ends the program of the check at once."""
        file = self.any("check one interruptible sh -c 'echo $$ >pid; exec sleep 60'"
                        "\ncheck two true")
        pid = self.top / "pid"
        with common.Popen([file], stdout=subprocess.PIPE, text=True) as it:
            while not pid.exists() or not pid.read_text():
                time.sleep(0.01)
            it.send_signal(signal.SIGTERM)
            self.assertEqual(it.stdout.read().splitlines(), [
                "1..2", "not ok 1 - one # not run", "not ok 2 - two # not run"])
        self.assertEqual(it.returncode, 130)
        self.assertFalse(Path(f"/proc/{int(pid.read_text())}").exists())


class Setup(common.Test):
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
