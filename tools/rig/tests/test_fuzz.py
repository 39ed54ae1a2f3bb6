# SPDX-License-Identifier: GPL-2.0-only
"""Random programs: who runs how many, and what is no good run."""

import os
import unittest
from types import SimpleNamespace
from unittest import mock

import common
from riglib import fuzz, plan, results
from riglib.errors import Wrong

PLAN = {"what": "fuzz", "kernel": "5.10", "folder": "build/5.10",
        "series": "v5.10-v5.19", "version": "", "pinned": True, "commit": "",
        "machine": "bochs", "vmx": "", "cpu_time": ""}


def fault(name, caught_by="selftests"):
    return SimpleNamespace(name=name, caught_by=caught_by, machine="", cpus=1, flavour="")


class Fuzz(common.Case):
    def made(self, **environment):
        made = plan.Plan(**PLAN)
        with mock.patch.dict(os.environ, {"JOBS": "2", **environment}), \
                mock.patch.object(plan, "new_plan", lambda *_: (None, made)):
            return fuzz.plan_fuzz("build/5.10", "bochs")

    def run_of(self, made, said="programs: {n}", verdict="pass"):
        """What came of it: each test says so much, and ends so."""
        found = results.Results(made, [], [], {}, {
            boot.name: [] for boot in made.boots})
        for boot in made.boots:
            for variant in boot.variants:
                test, = [test for test in made.tests
                         if boot.name == test.name.partition(":")[2]]
                n = fuzz.wanted_programs(test)
                found.records += [
                    results.Record("5.10", boot.machine, boot.name, variant, name,
                                   name == test.name, verdict=verdict, why="",
                                   log=said.replace("{n}", str(n)).split("\n"))
                    for name in ("load kvm.ko", test.name)]
        return found

    def bad(self, found, *more):
        return [line.name for line in fuzz.judge_fuzz(found, *more) if not line.ok]

    def test_shares(self):
        made = self.made(SEED="7", PROGRAMS="101")
        self.assertEqual([(test.name, test.cpus, test.machine, test.arguments)
                          for test in made.tests],
                         [("fuzz:vmx-1-part-1", 1, "bochs", "-s 7 -n 51"),
                          ("fuzz:vmx-1-part-2", 1, "bochs", "-s 58 -n 50"),
                          ("fuzz:vmx-2", 2, "bochs", "-s 108 -n 5"),
                          ("fuzz:svm", 1, "svm", "-s 113 -n 5")])

    def test_bad_numbers(self):
        for name, value in (("SEED", "x"), ("PROGRAMS", "-1"), ("PROGRAMS", "0")):
            with self.assertRaises(Wrong, msg=f"{name}={value}"):
                self.made(**{name: value})

    def test_well(self):
        self.assertEqual(self.bad(self.run_of(self.made())), [])

    def test_not_all_programs(self):
        for said in ("programs: 0", "nothing"):
            self.assertEqual(len(self.bad(self.run_of(self.made(), said))), 4, said)

    def test_failure(self):
        found = self.run_of(self.made(), verdict="fail", said="programs: {n}\n"
                            "program 12 fails at step 3 of 30, FUZZ_CPU: L1 read 0x10: KVM")
        lines = fuzz.judge_fuzz(found)
        self.assertIn("SEED=12: L1 read 0x10: KVM",
                      [text for line in lines for text in line.details])

    def test_nothing_arrived(self):
        found = self.run_of(self.made())
        found.records = []
        self.assertEqual(len([name for name in self.bad(found) if "programs" in name]),
                         4)

    def test_unpatched(self):
        """Each hole of the table has to be seen, where it is to be seen."""
        made = self.made(UNPATCHED="1")
        what = [row["what"] for row in fuzz.tables.read("fuzz")
                if row["kind"] == "hole"]
        found = self.run_of(made, "programs: 9", "fail")
        with mock.patch.dict(os.environ, {"UNPATCHED": "1"}):
            names = [name for name in self.bad(found) if "hole" in name]
        self.assertTrue(names)
        self.assertLessEqual(len(names), len(what))

    def test_shrunk_programs_are_kept(self):
        found = self.run_of(self.made(), "/* program 5 */\n{ .op = FUZZ_VM },\n"
                            "/* end of program */\nmore")
        self.assertEqual(fuzz.programs(found), {"patched-5.c": [
            "/* program 5 */", "{ .op = FUZZ_VM },", "/* end of program */"]})

    def faults(self, verdicts, seed=1):
        made = plan.Plan(**PLAN)
        made.variants = ["patched", *verdicts]
        fuzz.add(made, "", 1, "vmx-1-half-1", made.variants, seed, 400, "-q")
        found = self.run_of(made)
        for name, verdict in verdicts.items():
            for record in found.of(variant=name, test=True):
                record.verdict = verdict
        return found

    def test_faults(self):
        wanted = [fault("a"), fault("b", "nobody"), fault("c", "KUnit")]
        found = self.faults({"a": "fail", "b": "pass", "c": "pass"})
        self.assertEqual(self.bad(found, wanted), [])

    def test_fault_not_found(self):
        found = self.faults({"a": "pass"})
        with mock.patch.object(fuzz.tables, "faults", lambda _: [fault("a")]):
            self.assertEqual(self.bad(found, [fault("a")]), [
                "a: not found", "0 of 1 faults that selftests have to find are found, "
                "at least 90 % have to be"])

    def test_some_faults(self):
        """How many of all are found, some don't tell."""
        found = self.faults({"a": "pass"})
        of_all = [fault("a"), fault("b")]
        with mock.patch.object(fuzz.tables, "faults", lambda _: of_all):
            self.assertEqual(self.bad(found, [fault("a")]), ["a: not found"])

    def test_found_where_there_is_nothing(self):
        bad = self.bad(self.faults({"b": "fail"}), [fault("b", "nobody")])
        self.assertTrue(bad)

    def test_missing_fault(self):
        found = self.faults({"a": "fail"})
        bad = self.bad(found, [fault("a"), fault("z", "KUnit")])
        self.assertEqual([name.split(":")[0] for name in bad], ["z"])

    def test_fault_that_is_missed(self):
        """It may be found with other seeds than the usual ones, which are known."""
        missed = mock.patch.object(fuzz, "misses", lambda _: {"b": "it is rare"})
        for verdict, seed, bad in (("pass", 1, 0), ("fail", 1, 1), ("pass", 401, 0),
                                   ("fail", 401, 0), ("missing", 401, 1)):
            found = self.faults({"a": "fail", "b": verdict}, seed)
            # That the others make up for it.
            wanted = [fault("b"), *[fault("a")] * 9]
            with missed:
                self.assertEqual(len(self.bad(found, wanted)), bad, (verdict, seed))

    def test_fault_that_was_not_run(self):
        """Not even what need not be found is taken for run where nothing came of it, or
        where all that is known is that it was in no boot."""
        for caught_by in ("selftests", "KUnit", "nobody"):
            for boot in ("vmx-1-half-1", ""):
                found = self.faults({"a": "fail", "b": "missing"})
                for record in found.of(variant="b", test=True):
                    record.boot = boot
                bad = self.bad(found, [fault("a"), fault("b", caught_by)])
                self.assertEqual(bad[0], "b: not run", (caught_by, boot))

    def test_boots_that_it_is_not_in(self):
        """They have nothing to say of it."""
        found = self.faults({"a": "fail", "b": "pass"})
        record, = found.of(variant="b", test=True)
        found.records.append(results.Record(
            "5.10", "", "", "b", "fuzz:vmx-1-half-2", True, why="it is in no boot"))
        lines = fuzz.judge_fuzz(found, [fault("a"), fault("b")])
        bad, = [line for line in lines if line.name.startswith("b: ")]
        self.assertEqual((bad.name, bad.details), ("b: not found", []))


if __name__ == "__main__":
    unittest.main()
