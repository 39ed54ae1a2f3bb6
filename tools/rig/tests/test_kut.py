# SPDX-License-Identifier: GPL-2.0-only
"""kvm-unit-tests: what of unittests.cfg is run, how, and what has to be the same."""

import unittest
from unittest import mock

import common
from riglib import kut, plan, results
from riglib.errors import Wrong

CFG = """
# a comment
[one]
file = one.flat
smp = 2
qemu_params = -cpu max,+vmx
test_args = "-a* b"
check = /sys/a=Y /sys/b=0
[two]
file = two.flat
extra_params = -cpu host
test_args = c*
[thirty-two]
file = one.flat
arch = i386
[large]
file = one.flat
smp = 4
[seldom]
file = one.flat
groups = vmx nodefault
"""
LOG = ["      1 FAIL: a", "checks: 3 passed, 1 failed, 0 skipped; 0123456789ab"]


class Reading(common.Case):
    def read(self, text=CFG):
        (self.folder / "x86").mkdir(exist_ok=True)
        (self.folder / kut.CONFIG).write_text(text)
        return kut.read(self.folder)

    def test_which_are_run(self):
        rows = {"two": {"what": "left-out", "reason": "slow"}}
        self.assertEqual(
            [kut.left_out(name, test, rows) for name, test in self.read().items()],
            ["", "slow", "for i386 only", "it asks for 4 CPUs, and the host has 2",
             "not run unless asked for by its name, says unittests.cfg"])

    def test_how_long(self):
        self.assertEqual([kut.seconds({"what": what}) for what in ("pass", "chance", "90")],
                         [kut.SECONDS, kut.SECONDS, 90])

    def test_the_shell_gets_the_words_that_are_meant(self):
        wanted = {"one": ["/sys/a=Y /sys/b=0", "/kut/one.flat", "-smp", "2", "-cpu",
                          "max,+vmx", "-append", "-a* b"],
                  "two": ["", "/kut/two.flat", "-smp", "1", "-cpu", "host", "-append",
                          "c*"]}
        tests = self.read()
        for name, words in wanted.items():
            script = kut.script(name, tests[name]).replace(
                "exec /bin/sh /kut/kut.sh", "printf '%s\\n'")
            said = common.run(["/bin/sh", "-c", script], capture_output=True,
                              text=True, check=True).stdout
            self.assertEqual(said.split("\n")[:-1], words)

    def test_bad_input(self):
        with self.assertRaisesRegex(Wrong, "it is to be a tree of kvm-unit-tests"):
            kut.read(self.folder)
        with self.assertRaisesRegex(Wrong, "no tests in it"):
            self.read("# nothing\n")
        with self.assertRaisesRegex(Wrong, "no section headers"):
            self.read("file = a\n")
        with self.assertRaisesRegex(Wrong, "names no file"):
            kut.script("one", {})


class Running(common.Case):
    """guest/kut.sh, with a QEMU that only says what one said."""

    def run_one(self, status, out="", err=""):
        qemu = self.folder / "qemu-system-x86_64"
        qemu.write_text(f"#!/bin/sh\nprintf '{out}'\nprintf '{err}' >&2\nexit {status}\n")
        qemu.chmod(0o755)
        done = common.run(
            ["/bin/sh", kut.RUNNER, "", "/kut/one.flat", "-smp", "1"],
            env={"PATH": f"{self.folder}:/usr/bin:/bin", "TMPDIR": str(self.folder)},
            capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def test_a_pass(self):
        status, said = self.run_one(1, "PASS: a 1\\nPASS: b\\n", "warning: a\\n")
        self.assertEqual(status, 0)
        self.assertIn("checks: 2 passed, 0 failed, 0 skipped; ", said)
        self.assertEqual(self.run_one(1, "enabling apic\\n")[0], 0)

    def test_neither_numbers_nor_the_order_count(self):
        self.assertEqual(self.run_one(1, "PASS: a 1\\nPASS: b\\n"),
                         self.run_one(1, "PASS: b\\nPASS: a 2\\n"))
        self.assertNotEqual(self.run_one(1, "PASS: a\\n"), self.run_one(1, "PASS: b\\n"))

    def test_a_qemu_that_does_not_start_is_no_pass(self):
        self.assertEqual(self.run_one(1, err="qemu: cannot set up guest memory\\n"),
                         (2, "not run: qemu: cannot set up guest memory\n"))

    def test_failures_and_skips(self):
        status, said = self.run_one(3, "PASS: a\\nFAIL: b\\n")
        self.assertEqual(status, 1)
        self.assertIn("FAIL: b", said)
        self.assertEqual(self.run_one(77, "SKIP: a\\n")[0], 4)
        status, said = self.run_one(0, err="qemu: it is gone\\n")
        self.assertEqual(status, 1)
        self.assertIn("qemu: it is gone", said)


class Judged(common.Test):
    """A test that ran on both variants, and what one of them may do to it."""

    def bad(self, expect="pass", **changes):
        made = plan.Plan("kut", "5.10", "build/5.10", "v5.10-v5.19", "", True, "",
                         "bochs", "", "", variants=["unpatched", "patched"])
        made.tests = [plan.Test("one", "one", "kut", 1, "-", 9, __file__, "bochs",
                                expect=expect)]
        made.notes = ["two: slow"]
        made.boots = [plan.Boot(name, name, "bochs", 1, [name], {})
                      for name in made.variants]
        records = []
        for name in made.variants:
            record = results.Record("5.10", "bochs", name, name, "one", True,
                                    verdict="fail", why="exit status 1", log=list(LOG),
                                    modules={"kvm_intel": name})
            records.append(record)
        for key, value in changes.items():
            setattr(records[1], key, value)
        endings = [mock.Mock(boot=name, whole=True) for name in made.variants]
        found = results.Results(made, endings, records, {}, {
            name: [] for name in made.variants})
        self.lines = kut.judge_kut(found)
        return [line.name for line in self.lines if not line.ok and "one" in line.name]

    def test_the_same_failure_is_expected(self):
        self.assertEqual(self.bad(), [])
        self.assertIn("two: left out", [line.name for line in self.lines])

    def test_another_verdict_another_check_or_none(self):
        self.assertEqual(len(self.bad(verdict="pass")), 1)
        self.assertEqual(len(self.bad(log=[LOG[0], LOG[1] + "c"])), 1)
        self.assertEqual(len(self.bad(log=[])), 1)
        for expect in ("pass", "chance"):
            self.assertEqual(len(self.bad(expect, verdict="missing")), 1)
            self.assertEqual(len(self.bad(expect, verdict="crash")), 1)
            self.assertEqual(len(self.bad(expect, why="still ran after 60 s")), 1)
            self.assertEqual(len(self.bad(expect, log=["not run: no memory"])), 1)

    def test_not_run_on_both_is_not_the_same(self):
        with mock.patch(f"{__name__}.LOG", ["not run: no memory"]):
            self.assertEqual(len(self.bad()), 1)

    def test_chance(self):
        self.assertEqual(self.bad("chance", verdict="pass", log=[]), [])


if __name__ == "__main__":
    unittest.main()
