# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are built to complain: what they have to have, and to say."""

import contextlib
import io
import unittest
from types import SimpleNamespace
from unittest import mock

from common import Case, Test
from riglib import __main__ as commands, judge, plan, results, tables
from riglib.errors import Wrong
from riglib.ktap import Line
from riglib.views import readme, tap

RACE = "BUG: KCSAN: data-race in kvm_vcpu_kick+0x1a/0x40 / vcpu_enter_guest+0x9/0x10"


def fault(name="leaks"):
    return SimpleNamespace(name=name, flavour="kasan", what="it leaks",
                           says="memory leaks")


class Run:
    """A run of a flavour, all of it well."""

    def __init__(self, flavour="kasan", faults=()):
        variants = ["patched"]
        if tables.flavours()[flavour]["variants"] == "both":
            variants = ["unpatched", "patched"]
        names = [one.name for one in faults]
        self.faults = faults
        self.plan = plan.Plan(
            what="debug", kernel="5.10", folder=f"build/5.10/debug/{flavour}",
            series="v5.10-v5.19", version="", pinned=True, commit="", machine="bochs",
            vmx="", cpu_time="", flavour=flavour, kept=["kvm-intel.ko", "kvm.ko"])
        self.plan.variants = [*variants, *names]
        boots = tables.flavours()[flavour]["boots"]
        self.plan.tests = [plan.Test(
            name=name, program=name, source="rig", cpus=1, parameters="-", seconds=1,
            file="", machine="bochs", expect=expect) for name, expect in (
                ("msr_test", "pass"), ("bug_test", "bug"), ("checks", "pass"))
            if boots]
        self.plan.boots = [plan.Boot(f"{variant}-1" if variant in variants else variant,
                                     variant, "bochs", 1, [variant], {})
                           for variant in self.plan.variants if boots]
        self.results = results.Results(self.plan, [], [], {}, {
            boot.name: [] for boot in self.plan.boots})
        for boot in self.plan.boots:
            for name in ("load kvm.ko", *(test.name for test in self.plan.tests)):
                self.results.records.append(results.Record(
                    "5.10", "bochs", boot.name, boot.variants[0], name,
                    name != "load kvm.ko", verdict="pass", why="",
                    modules={"kvm_intel": boot.variants[0]}))
        if "unpatched" in variants and boots:
            self.of("bug_test", "unpatched").verdict = "fail"
        for name in names:
            self.complain("checks", name, "kmemleak: 3 new suspected memory leaks")

    def of(self, name, variant):
        return self.results.of(variant=variant, name=name)[0]

    def complain(self, name, variant, text):
        record = self.of(name, variant)
        record.verdict, record.why = "fail", "1 complaint(s) in the kernel's log"
        record.complaints.append(text)

    def bad(self, left_out=()):
        lines = judge.judge_flavour(self.results, self.faults, left_out)
        return [line.name for line in lines if not line.ok]


class Flavours(Case):
    def assertOne(self, run, *texts, **more):
        bad = run.bad(**more)
        self.assertEqual(len(bad), len(texts), bad)
        for text, line in zip(texts, bad):
            self.assertIn(text, line)

    def test_good(self):
        for flavour in tables.flavours("debug-kernel"):
            self.assertEqual(Run(flavour).bad(), [], flavour)
        self.assertEqual(Run(faults=[fault()]).bad(), [])

    def test_each_verdict_is_missed(self):
        for variant in ("unpatched", "patched"):
            for name in ("msr_test", "bug_test", "checks"):
                for verdict in ("missing", "crash"):
                    run = Run()
                    run.of(name, variant).verdict = verdict
                    self.assertOne(run, name, f"{variant}-1")

    def test_the_patched_may_not_complain(self):
        run = Run()
        run.complain("msr_test", "patched", "WARNING: possible deadlock")
        self.assertOne(run, "msr_test", "patched-1: no complaint")

    def test_nor_when_its_test_fails_in_the_unpatched_too(self):
        run = Run()
        run.complain("bug_test", "patched", "WARNING: possible deadlock")
        self.assertOne(run, "bug_test", "patched-1: no complaint")

    def test_what_both_complain_of_is_not_the_series_doing(self):
        run = Run("kcsan")
        run.complain("msr_test", "unpatched", RACE)
        run.complain("msr_test", "patched",
                     "BUG: KCSAN: data-race in vcpu_enter_guest+0x19/0x20 / "
                     "kvm_vcpu_kick+0x1/0x80")
        self.assertEqual(run.bad(), [])
        run.complain("bug_test", "patched",
                     RACE.replace("kick+0x1a/0x40", "kick_msr+0x1/0x4"))
        self.assertOne(run, "bug_test", "patched-1: no complaint")

    def test_a_race_is_judged_where_msrs_are_and_all_else_everywhere(self):
        run = Run("kcsan")
        for name, variant in (("msr_test", "patched"), ("checks", "unpatched")):
            run.complain(name, variant, RACE)
        self.assertEqual(run.bad(), [])
        for text in ("WARNING: possible deadlock", "BUG: KCSAN: data-race in "
                     "kvm_msr_allowed [kvm] / kvm_vm_ioctl [kvm]"):
            run = Run("kcsan")
            run.complain("msr_test", "patched", text)
            self.assertOne(run, "msr_test", "patched-1: no complaint")

    def test_a_failure_is_one_whatever_both_complain_of(self):
        run = Run()
        for variant in ("unpatched", "patched"):
            run.complain("msr_test", variant, RACE)
            run.of("msr_test", variant).why = "exit status 254"
        self.assertOne(run, "msr_test")

    def test_what_checks_nothing(self):
        """Lockdep that has turned itself off, or a leak."""
        run = Run()
        run.of("checks", "patched").verdict = "fail"
        run.of("checks", "patched").why = "exit status 1"
        self.assertOne(run, "checks")

    def test_a_bug_need_not_show(self):
        run = Run()
        run.of("bug_test", "unpatched").verdict = "pass"
        self.assertEqual(run.bad(), [])
        run.of("bug_test", "patched").verdict = "fail"
        self.assertOne(run, "bug_test")

    def test_options(self):
        run = Run()
        run.plan.lacks = ["KASAN"]
        self.assertOne(run, "the kernel has KASAN")
        config = self.folder / ".config"
        config.write_text("CONFIG_KASAN=y\nCONFIG_KVM=m\n# CONFIG_UBSAN is not set\n")
        self.assertEqual(plan.lacking(["KASAN", "UBSAN", "KVM=y", "KVM=m"], config),
                         ["UBSAN", "KVM=y"])

    def test_only_built(self):
        run = Run("i386")
        run.plan.kept = ["kvm.ko"]
        self.assertOne(run, "kvm-intel.ko")

    def test_a_boot_that_ends_early(self):
        run = Run()
        run.results.problems["patched-1"] = ["the guest hangs"]
        self.assertOne(run, "patched-1: the boot has said all")
        run = Run()
        run.of("load kvm.ko", "patched").verdict = "fail"
        self.assertOne(run, "patched-1: the modules")

    def test_the_same_kvm_twice(self):
        run = Run()
        for record in run.results.of(variant="unpatched"):
            record.modules = {"kvm_intel": "patched"}
        self.assertOne(run, "the kvm-intel.ko of the two variants differ")

    def test_a_fault_that_nobody_complains_of(self):
        run = Run(faults=[fault()])
        run.complain("checks", "unpatched", "kmemleak: 1 new suspected memory leaks")
        self.assertOne(run, "leaks: caught by checks")
        run = Run(faults=[fault()])
        run.of("checks", "leaks").verdict = "pass"
        run.of("checks", "leaks").complaints.clear()
        self.assertOne(run, "leaks: caught by nobody")

    def test_a_complaint_of_something_else(self):
        run = Run(faults=[fault()])
        run.of("checks", "leaks").complaints[:] = [RACE]
        self.assertOne(run, "leaks: caught by checks")

    def test_a_fault_that_is_not_there(self):
        self.assertOne(Run(faults=[fault()]), "leaks: does not build",
                       left_out=[("leaks", "see log")])
        run = Run(faults=[fault()])
        run.results.records = [record for record in run.results.records
                               if record.variant != "leaks"]
        self.assertOne(run, "leaks: caught by nobody")

    def test_all_of_a_kernel(self):
        """A flavour that left no results is not ok."""
        def debug(*names):
            with contextlib.redirect_stdout(io.StringIO()) as said:
                status = commands.debug(self.folder, *names)
            return status, said.getvalue()

        status, said = debug("kasan", "clang")
        self.assertEqual(status, 1)
        self.assertIn("kasan: no verdict", said)
        self.assertIn("0 of 2 as expected", said)
        self.assertEqual(debug()[0], 1)


class Readme(Case):
    def test_a_row(self):
        run = Run(faults=[fault()])
        run.complain("msr_test", "unpatched", RACE)
        run.complain("bug_test", "unpatched", RACE)
        lines = judge.judge_flavour(run.results, run.faults)
        self.assertEqual(readme.of_flavour(run.results, lines),
                         ("5.10", "kasan", "1", "3/3", "1>0", "1/1", "0"))
        lines = judge.judge_flavour(Run("i386").results)
        self.assertEqual(readme.of_flavour(Run("i386").results, lines),
                         ("5.10", "i386", "-", "built", "-", "-", "0"))

    def test_results_from_elsewhere(self):
        """They are judged already, and need nothing of the build that they are of."""
        run = Run(faults=[fault()])
        out = self.folder / "5.10/report/debug/kasan"
        out.mkdir(parents=True)
        run.results.plan.write(out / "plan.json")
        run.results.write(out / "results.json")
        old = ("5.10", "kasan", "9", "9/9", "9>9", "9/9", "9")
        path = self.folder / "RESULTS"
        path.write_text(f"{readme.DEBUG[0]}\n\n  {'  '.join(old)}\n\n{readme.DEBUG[1]}\n")
        with mock.patch.object(readme, "RESULTS", path), \
                mock.patch.object(readme, "Path", lambda _: self.folder):
            with self.assertRaises(Wrong):
                list(readme.debug_rows("5.10"))
            (out / "judgement.tap").write_text(
                tap.judgement(judge.judge_flavour(run.results, run.faults)))
            self.assertEqual(list(readme.debug_rows("5.10")),
                             [("5.10", "kasan", "1", "3/3", "0>0", "1/1", "0")])

    def test_what_there_are_no_new_results_of_is_kept(self):
        old = ("5.10", "kasan", "1", "3/3", "1>0", "1/1", "0")
        path = self.folder / "RESULTS"
        path.write_text(f"{readme.DEBUG[0]}\n\n  {'  '.join(old)}\n\n"
                        f"{readme.DEBUG[1]}\n")
        with mock.patch.object(readme, "RESULTS", path), \
                mock.patch.object(readme, "Path", lambda _: self.folder / "none"):
            self.assertEqual(list(readme.debug_rows("5.10")), [old])
            self.assertEqual(list(readme.debug_rows("6.1")), [])


class Vmm(Test):
    """What guest/vmm.c says has to be the same of both variants."""

    SEEN = ["ok: running: 0x35 is 0x40004, KVM exits to QEMU 1 times for it",
            "nested: ok: running: 0x35 is 0x40004, KVM exits to QEMU 1 times for it"]

    def bad(self, unpatched, patched):
        run = Run("vmm")
        for variant, log in (("unpatched", unpatched), ("patched", patched)):
            run.results.records.append(results.Record(
                "5.10", "bochs", f"{variant}-1", variant, "vmm", True, verdict="pass",
                why="", log=log))
        bad = [line for line in judge.judge_vmm(run.results) if not line.ok]
        self.details = [text for line in bad for text in line.details]
        return [line.name for line in bad]

    def test_what_is_missing_is_named_and_nothing_else(self):
        self.bad(self.SEEN, self.SEEN[1:])
        self.assertEqual(self.details, [f"only unpatched: {self.SEEN[0]}"])

    def test_the_same(self):
        self.assertEqual(self.bad(self.SEEN, self.SEEN), [])

    def test_another_value_a_line_less_and_nothing_at_all(self):
        text = "both variants say the same of the VMM and its guests"
        other = [line.replace("0x40004", "0x1") for line in self.SEEN]
        for log in (other, self.SEEN[:1], []):
            self.assertEqual(self.bad(self.SEEN, log), [text])
        for log in ([], self.SEEN[:1]):
            self.assertEqual(self.bad(log, log), [text])


class Judgement(Test):
    def test_lines_are_of_tap(self):
        self.assertTrue(all(isinstance(line, Line)
                            for line in judge.judge_flavour(Run().results)))


if __name__ == "__main__":
    unittest.main()
