# SPDX-License-Identifier: GPL-2.0-only
"""The judge, on recorded logs: a good one has nothing wrong with it, and a spoilt one
has, whatever it was that went missing."""

import copy
import json
import re
import unittest
from dataclasses import replace
from unittest import mock

from common import KERNELS, Case
from riglib import faults, holes, judge, ktap, plan, results, stages, tables
from riglib.boot import Ending
from riglib.errors import Wrong
from riglib.views import readme, tap, text

RESULT = re.compile(r"    (not )?ok [0-9]+ ")


class Good(Case):
    def test_recorded(self):
        """Else the tests below would not mean anything."""
        self.assertTrue(KERNELS)
        for kernel in KERNELS:
            self.assertEqual(self.recorded(kernel).bad(), [], kernel)

    def test_figures_arrive(self):
        for kernel in KERNELS:
            found = self.recorded(kernel).results()
            values = [value for record in found.of(test=True) if record.boot
                      for value in record.figures.values()]
            self.assertTrue(values and None not in values, kernel)


class OneLineLess(Case):
    """Each line that says something, taken away: all of them have to be missed."""

    def each(self, kernel, wanted):
        first = self.recorded(kernel)
        tried = 0
        for boot in first.boots():
            whole = first.lines(boot)
            for i, line in enumerate(whole):
                if not wanted(line):
                    continue
                first.write(boot, whole[:i] + whole[i + 1:])
                self.assertTrue(first.bad(), f"{kernel} {boot}:{i + 1}: {line}")
                tried += 1
            first.write(boot, whole)
        return tried

    def test_results(self):
        for kernel in KERNELS:
            self.assertGreater(self.each(kernel, RESULT.match), 40)

    def test_skeleton(self):
        def skeleton(line):
            return re.match(r"(not )?ok |1\.\.|    1\.\.|    # Subtest: |"
                            r"# rig: totals", line)
        for kernel in KERNELS:
            self.assertGreater(self.each(kernel, skeleton), 10)

    def test_figures(self):
        patterns = [re.compile(rf"    # \| {row['pattern']}")
                    for row in tables.read("figures")]
        for kernel in KERNELS:
            self.assertGreater(self.each(kernel, lambda line: any(
                pattern.match(line) for pattern in patterns)), 4)

    def test_result_and_its_counts(self):
        """As if init had never heard of the test: numbers, plans and totals agree."""
        for kernel in KERNELS:
            for name in [test.name for test in self.recorded(kernel).plan.tests]:
                run = self.recorded(kernel)
                for boot in run.boots():
                    run.write(boot, without(run.lines(boot), name))
                    self.assertEqual(
                        ktap.read_boot(run.path(boot)).problems, [], name)
                self.assertBad(run, name)


def result_of(line):
    """A verdict's line: (not, name, skip)."""
    return re.fullmatch(r"    (not )?ok [0-9]+ (.*?)( # SKIP.*)?", line)


def recount(lines):
    """A boot's results with all counts right again."""
    out, group, number, failed, groups = [], None, 0, 0, 0
    totals = {"pass": 0, "fail": 0, "skip": 0}
    for line in lines:
        match = result_of(line)
        if line.startswith("    # Subtest: "):
            group, number, failed = line, 0, 0
        if match:
            number += 1
            failed += bool(match[1])
            totals["fail" if match[1] else "skip" if match[3] else "pass"] += 1
            line = f"    {match[1] or ''}ok {number} {match[2]}{match[3] or ''}"
        elif line.startswith("    1.."):
            line = f"    1..{number}"
        elif re.match(r"(not )?ok ", line) and group:
            groups += 1
            line = f"{'not ' if failed else ''}ok {groups} {group.split(': ')[1]}"
        elif line.startswith("# rig: totals"):
            line = "# rig: totals: " + " ".join(
                f"{what} {n}" for what, n in totals.items())
        out.append(line)
    return out


def without(lines, name):
    """As if init had never heard of the test."""
    out = []
    for line in lines:
        match = result_of(line)
        if match and match[2] == name:
            while out[-1].startswith(("    # |", "    # rig: ")):
                out.pop()
            continue
        out.append(line)
    return recount(out)


def ending(lines, name, verdict):
    """As if the test had ended so, "ok" or "not ok", on all variants."""
    out = []
    for line in lines:
        match = result_of(line)
        out.append(f"    {verdict} 0 {name}" if match and match[2] == name else line)
    return recount(out)


class Missing(Case):
    def test_2_tests_gone(self):
        """Two of the series' tests gone from all results."""
        gone = ("nested_msr_filter_test", "fastpath_msr_filter_test")
        for kernel in KERNELS:
            run = self.recorded(kernel)
            for name in gone:
                for boot in run.boots():
                    run.write(boot, without(run.lines(boot), name))
            for name in gone:
                self.assertBad(run, f"{name}: missing unpatched, missing patched")

    def test_3_figure(self):
        """A figure that did not come is no 0, and 0 is not faster."""
        run = self.recorded()
        for boot in run.boots():
            lines = run.lines(boot)
            at = next((i for i, line in enumerate(lines)
                       if "# Subtest: patched" in line), len(lines))
            run.write(boot, [line for i, line in enumerate(lines)
                             if i < at or "# | cost,1," not in line])
        self.assertBad(run, "filter of 1 range: missing")
        self.assertFalse([line for line in run.bad() if " 0 " in line])

    @unittest.skipUnless("next" in KERNELS, "no run of next is recorded")
    def test_3_merges(self):
        run = self.recorded("next")
        run.drop(lambda line: "# | merges: " in line and "filter changes" in line)
        self.assertBad(run, "idle filter changes: missing")

    def test_4_empty_second_boot(self):
        for spoil in ("", "KTAP version 1\n"):
            run = self.recorded()
            run.path("again").write_text(spoil)
            # As on real VMX, where there are no instructions to compare.
            run.plan.machine = "kvm"
            for text_ in ("again: the boot has said all", "again: the modules",
                          "again: the host kernel did not complain",
                          "same verdicts in both boots"):
                self.assertBad(run, text_)

    def test_4_no_second_boot(self):
        run = self.recorded()
        (run.out / "boots" / "again" / "boot.json").unlink()
        run.path("again").unlink()
        self.assertBad(run, "again: the boot has said all")

    def test_5_not_compiled(self):
        """A selftest that was not built is in no boot, and yet in the plan."""
        run = self.recorded()
        name = "msr_filter_test"
        run.plan.test(name).file = "nowhere"
        for boot in run.plan.boots:
            for variant, steps in boot.steps.items():
                boot.steps[variant] = [step for step in steps if step.name != name]
        for boot in run.boots():
            run.write(boot, without(run.lines(boot), name))
        self.assertBad(run, f"{name}: missing unpatched, missing patched")
        found = run.results()
        self.assertIn("was not built", found.record(name, "patched").why)
        self.assertIn("missing", text.of_tests(found, run.judged()))

    def test_readme(self):
        run = self.recorded()
        now = [("a", "pass")]
        self.assertEqual(run.bad(readme=(now, now)), [])
        self.assertBad(run, "RESULTS", readme=([], now))
        self.assertBad(run, "RESULTS", readme=([], []))


class Readme(Case):
    """The tables in RESULTS, of the results of some kernels."""

    def setUp(self):
        super().setUp()
        patched = mock.patch.object(readme, "RESULTS", self.folder / "RESULTS")
        patched.start()
        self.addCleanup(patched.stop)
        readme.RESULTS.write_text("\n".join(
            [readme.TESTS[0], "", readme.TESTS[1], readme.SUITE[0], "",
             "  6.1      its own   73     54     12      6         1          0",
             readme.SUITE[1], "", readme.HOLES[0], "", readme.HOLES[1], ""]))
        self.reports = {kernel: self.recorded(kernel).results()
                        for kernel in ("5.10", "6.1")}
        self.both = readme.tests_table(self.reports)
        readme.replace(readme.TESTS, self.both, readme.RESULTS)

    def test_a_column_reads_as_it_was_written(self):
        for kernel, one in self.reports.items():
            self.assertEqual(sorted(readme.column_of(kernel)),
                             sorted(readme.column(one)))

    def test_it_says_of_which_commit_each_run_is(self):
        for kernel, one in self.reports.items():
            line = next(line for line in self.both if line.split()[:1] == [kernel])
            self.assertTrue(line.endswith(f" at {one.plan.commit}"), line)

    def test_a_kernel_without_new_results_keeps_its_column_and_says_so(self):
        readme.replace(readme.TESTS, readme.tests_table(
            {"5.10": self.reports["5.10"]}), readme.RESULTS)
        lines = readme.RESULTS.read_text().split("\n")
        self.assertEqual(sum(line.endswith(readme.EARLIER) for line in lines), 1)
        self.assertEqual(
            [line for line in map(lambda line: line.removesuffix(readme.EARLIER), lines)
             if line in self.both and line], list(filter(None, self.both)))
        # Once more, and it is said no more often.
        again = readme.tests_table({"5.10": self.reports["5.10"]})
        self.assertTrue(set(again) <= set(lines))

    def test_its_suite_is_kept_too_and_says_so(self):
        for _ in range(2):
            lines = readme.suite_table({})
            self.assertEqual([line.split() for line in lines if
                              line.startswith("  6.1 ")],
                             ["6.1 its own 73 54 12 6 1 0".split()])
            self.assertEqual([line for line in lines if line.endswith(readme.EARLIER)],
                             [f"  6.1{readme.EARLIER}"])
            self.assertEqual(len(readme.suite_of("6.1")), 1)
            readme.replace(readme.SUITE, lines, readme.RESULTS)

    def holes(self, *tests):
        """The table of holes that these recorded results make, written and read."""
        lines = readme.holes_table({one: self.reports[one] for one in tests}, {})
        readme.replace(readme.HOLES, lines, readme.RESULTS)
        return {line.split()[0]: re.findall("not run|\\S+", line[2 + readme.HOLE:])
                for line in lines if line.startswith("    ")}

    def cell(self, rows, name, kernel):
        return rows[name][list(tables.kernels()).index(kernel)]

    def test_a_hole_is_as_its_test_ended(self):
        rows = self.holes("5.10", "6.1")
        l2 = "nested_msr_filter_test/*while*"
        self.assertEqual(self.cell(rows, l2, "6.1"), "open>closed")
        self.assertEqual(self.cell(rows, "msr_filter_test/*spec_ctrl", "6.1"), "-")
        self.assertEqual(self.cell(rows, l2, "next"), "not run")
        # The same, kept.
        rows = self.holes()
        self.assertEqual(self.cell(rows, l2, "6.1"), "open>closed")
        self.assertEqual(self.cell(rows, l2, "next"), "not run")

    def test_a_hole_has_its_letter(self):
        lines = readme.holes_table(self.reports, {})
        self.assertIn("  a  L2 accesses FS_BASE, GS_BASE and KERNEL_GS_BASE, whatever "
                      "the filter says", lines)

    def test_a_hole_that_no_test_showed_is_not_closed(self):
        for record in self.reports["6.1"].records:
            record.verdict = "pass" if record.variant == "unpatched" else "missing"
        name = "bench"
        with mock.patch.dict(tables.read("holes")[2], test=name):
            self.assertEqual(self.cell(self.holes("6.1"), name, "6.1"), "pass>missing")
        for record in self.reports["6.1"].records:
            record.verdict = "missing"
        with mock.patch.dict(tables.read("holes")[2], test=name):
            self.assertEqual(self.cell(self.holes("6.1"), name, "6.1"), "missing")

    def test_a_hole_can_be_some_scenarios_of_a_test(self):
        for variant, verdicts in (("unpatched", ["fail", "pass", "missing"]),
                                  ("patched", ["pass", "pass", "missing"])):
            record = self.reports["5.10"].record("nested_msr_filter_test", variant)
            self.assertEqual([holes.verdict_of(record, case) for case in (
                "*while*", "*not_passed_through", "*nothing*")], verdicts)

    def test_the_holes_of_a_tree_are_those_that_are_seen(self):
        for kernel, seen in (("5.10", "aceiklm"), ("6.1", "cefklm"),
                             ("6.12", "bcefiklm"), ("next", "cegijlmn")):
            found = holes.letters(self.recorded(kernel).results())
            # Nobody has looked at AMD.
            self.assertEqual(holes.join(found), seen)
            self.assertNotIn("d", found)

    def test_a_tree_of_the_users_is_asked_for_all_holes(self):
        report = self.recorded("6.1").results()
        self.assertNotIn("a", holes.letters(report))
        report.plan.kernel = "ksrc"
        self.assertEqual(holes.letters(report)["a"], "")

    def test_a_hole_that_is_not_closed_is_marked(self):
        report = self.recorded("6.12").results()
        for verdicts, said in ((("fail", "fail"), "b!"), (("pass", "fail"), "b!"),
                               (("fail", "crash"), "b!"), (("fail", "missing"), "b!"),
                               (("pass", "pass"), ""), (("missing", "missing"), ""),
                               (("crash", "pass"), "")):
            for variant, verdict in zip(("unpatched", "patched"), verdicts):
                with mock.patch.dict(tables.read("holes")[1], test="msr_filter_test"):
                    report.record("msr_filter_test", variant).verdict = verdict
                    found = holes.letters(report)
            self.assertEqual(holes.join(found), f"{said}cefiklm", verdicts)
        self.assertEqual(holes.letters(None, None), {})

    def test_letters_are_in_order(self):
        self.assertEqual(list(tables.lint()), [])
        with mock.patch.dict(tables.read("holes")[1], hole="a"):
            self.assertIn("they are called aac", "".join(tables.lint()))

    def test_letters_read_as_they_were_written(self):
        for seen in ({"a": "a", "b": "b!"}, {"c": "c"}):
            self.assertEqual(holes.split(holes.join(seen)), seen)
        self.assertEqual(holes.join({"a": ""}), "none")
        for empty in ("none", "-"):
            self.assertEqual(holes.split(empty), {})

    def test_a_hole_on_amd_is_seen_in_the_suite_or_in_a_part_of_it(self):
        row = next(dict(row, kernels="*") for row in tables.read("holes")
                   if row["test"].endswith("@svm"))
        suite, part = copy.deepcopy(self.reports["5.10"]), self.reports["5.10"]
        test = part.plan.tests[0]
        seen = [record for record in part.records if record.name == test.name]
        test.name = row["test"]
        for record in seen:
            record.name = row["test"]
            record.verdict = "fail" if record.variant == "unpatched" else "pass"
        self.assertEqual(readme.hole_seen(row, "5.10", {}, {"5.10": suite}, {}), None)
        self.assertEqual(readme.hole_seen(row, "5.10", {}, {"5.10": suite},
                                          {"5.10": part}), "open>closed")
        part.plan.variants = ["unpatched", "some-fault"]
        self.assertEqual(readme.hole_seen(row, "5.10", {}, {}, {"5.10": part}), None)


class UsersTree(Case):
    """With KSRC= it is not known which bugs a tree has."""

    def lenient(self, name="5.10"):
        run = self.recorded(name)
        run.plan.kernel = "ksrc"
        return run

    def test_6_module_does_not_load(self):
        run = self.lenient()
        for boot in run.boots():
            run.write(boot, ending(run.lines(boot), "load kvm-intel.ko", "not ok"))
        self.assertBad(run, "the modules came and went")

    def test_13_bug_mended(self):
        """One rule: a bug that is mended in a tree of the user's is well; one that a
        known kernel no longer has is reported."""
        name = "nested_msr_filter_test"
        for run, well in ((self.lenient(), True), (self.recorded(), False)):
            for boot in run.boots():
                run.write(boot, ending(run.lines(boot), name, "ok"))
            bad = [line for line in run.bad() if line.startswith(name)]
            self.assertEqual(bad == [], well)
            if not well:
                self.assertIn("known to fail unpatched, and does not", bad[0])

    def test_failure_on_both(self):
        run = self.lenient()
        name = "msr_filter_test"
        for boot in run.boots():
            run.write(boot, ending(run.lines(boot), name, "not ok"))
        self.assertBad(run, f"{name}: fail unpatched, fail patched")


class Expectations(Case):
    """A pair of verdicts against what is expected, all of them."""

    GOOD = {"pass": [("pass", "pass")], "fail": [("fail", "fail")],
            "skip": [("skip", "skip")], "bug": [("fail", "pass")],
            "unbuilt": [("missing", "missing")],
            "chance": [(a, b) for a in judge.ARRIVED for b in judge.ARRIVED]}

    def test_all(self):
        run = self.recorded()
        one = judge.Judge(run.results())
        verdicts = (*judge.ARRIVED, "crash", "missing")
        for expect, good in self.GOOD.items():
            test = replace(run.plan.tests[0], expect=expect, reason="known")
            for u in verdicts:
                for p in verdicts:
                    self.assertEqual(one.good(test, u, p), (u, p) in good,
                                     f"{expect}: {u}, {p}")

    def test_6_known_failure_passes(self):
        one = judge.Judge(self.recorded().results())
        test = replace(one.plan.tests[0], expect="fail", reason="known")
        one.pair = lambda _: [results.Record("", "", "", "", "", True, verdict="pass")
                              for _ in range(2)]
        one.test(test)
        self.assertFalse(one.lines[0].ok)
        self.assertIn("known to fail, and does not", one.lines[0].name)


class Hostile(Case):
    def test_8_test_prints_ktap(self):
        """What a test prints is not what init says, whatever it prints."""
        run = self.recorded()
        before = run.results()
        evil = ["Subtest: patched", "# Subtest: patched", "    # Subtest: patched",
                "ok 1 bench", "not ok 1 bench", "1..1", "# rig: totals: pass 9",
                "# rig: why: no", "Bail out! now", "\x0c    # Subtest: patched",
                "\x1c    ok 1 x", "\u2028    ok 1 x", "x\r    not ok 2 y", "\x00"]
        for boot in run.boots():
            lines = []
            for line in run.lines(boot):
                lines.append(line)
                if line.startswith("    # rig: running: "):
                    lines += [f"    # | {one}" for one in evil]
            run.write(boot, lines)
        self.assertEqual(run.bad(), [])
        after = run.results()
        self.assertEqual([(one.variant, one.name, one.verdict, one.figures)
                          for one in before.records],
                         [(one.variant, one.name, one.verdict, one.figures)
                          for one in after.records])

    def test_9_complaints(self):
        for said in ("kernel: UBSAN: shift-out-of-bounds in x.c:1:2",
                     "kernel: kmemleak: 1 new suspected memory leaks",
                     "lost: 7 kernel log records"):
            run = self.recorded()
            lines = run.lines("bochs-1")
            at = max(i for i, line in enumerate(lines)
                     if line.startswith("    # rig: took"))
            run.write("bochs-1", lines[:at] + [f"    # rig: {said}"] + lines[at:])
            self.assertBad(run, "bochs-1: the host kernel did not complain")

    def test_other_lines(self):
        run = self.recorded()
        for line in ("what is this", "    neither is this", "    # rig: nonsense: 1"):
            whole = self.recorded().lines("bochs-1")
            run.write("bochs-1", whole[:30] + [line] + whole[30:])
            self.assertBad(run, "bochs-1: the boot has said all")

    def test_cut(self):
        """At any byte of the last lines, and at any line."""
        run = self.recorded()
        whole = run.path("bochs-1").read_text()
        for at in [*range(len(whole) - 120, len(whole)), 0, 1, 100, 5000]:
            run.path("bochs-1").write_text(whole[:at])
            self.assertTrue(run.bad(), f"cut at {at} of {len(whole)}")

    def test_same_variant_twice(self):
        """Two variants that are the same code."""
        run = self.recorded()
        versions = re.findall(r"# rig: module: kvm_intel version (\S+)",
                              run.path("bochs-1").read_text())
        self.assertEqual(len(set(versions)), 2)
        for version in versions:
            run.replace(version, "THESAME")
        self.assertBad(run, "the kvm-intel.ko of the two variants differ")


class Stale(Case):
    def test_7_results_of_an_earlier_run(self):
        """Whatever ended this run before its boot, the rows of another are not it."""
        run = self.recorded()
        found = run.results()
        found.write(run.out / "results.json")
        self.assertTrue(results.load(run.out).records)
        new = json.loads((run.out / "plan.json").read_text())
        new["id"] = "another"
        (run.out / "plan.json").write_text(json.dumps(new))
        with self.assertRaisesRegex(Wrong, "an earlier run"):
            results.load(run.out)
        (run.out / "results.json").unlink()
        with self.assertRaisesRegex(Wrong, "no results"):
            results.load(run.out)

    def test_7_caught_without_a_fault(self):
        """What ran without a fault cannot have caught one."""
        run = self.recorded()
        self.assertFalse(judge.judge_caught(run.results())[0].ok)


class Faults(Case):
    """Made of a good run: variants that are renamed."""

    def run_of(self, names, spoil=None):
        run = self.recorded()
        half = replace(run.plan.boots[0], name="half-1", variants=["patched", *names])
        half.steps = {name: run.plan.boots[0].steps["patched"]
                      for name in half.variants}
        made = replace(run.plan, what="faults", variants=half.variants, boots=[half])
        made.tests = [replace(test, expect="pass", figures=[])
                      for test in made.tests if test.cpus == 1]
        found = results.Results(made, [], [], {}, {"half-1": []})
        good = run.results().of(boot="bochs-1", variant="patched")
        for name in half.variants:
            for record in good:
                found.records.append(replace(record, boot="half-1", variant=name))
        for record in found.records:
            if spoil:
                spoil(record)
        return found

    @staticmethod
    def fault(name, caught="selftests", **more):
        section = {"file": "f", "function": "g", "from": "a", "to": "b",
                   "caught by": caught, "what": "is wrong", **more}
        return tables.Fault("v5.10-v5.19", name, section)

    def verdicts(self, found, wanted, left_out=()):
        verdicts = {}
        for line in judge.judge_faults(found, wanted, left_out):
            name = line.name.split(":")[0]
            verdicts[name] = line.ok and verdicts.get(name, True)
        return verdicts

    def test_a_boot_that_takes_too_long_catches_nothing(self):
        """A host that hangs may be a fault's doing; the time of day is not."""
        for why, ok in (("the guest hangs: nothing heard of it for 120 s (BOOT_STALL)",
                         True),
                        ("the guest is still running after 1800 s (BOOT_LIMIT)",
                         False)):
            def spoil(record, why=why):
                if record.variant == "first" and record.name == "msr_filter_test":
                    record.verdict, record.why = "crash", why

            found = self.run_of(["first"], spoil)
            self.assertEqual(self.verdicts(found, [self.fault("first")])["first"], ok)

    def test_10_host_panics(self):
        """A fault that takes its host along is caught, and the others are judged."""
        names = ("first", "panics", "last")

        def spoil(record):
            if record.variant == "panics" and record.name == "msr_filter_test":
                record.verdict, record.why = "crash", "the guest's kernel panicked"
            elif record.variant == "panics" and record.name == "bench":
                record.verdict = "missing"
            elif record.variant in ("first", "last") and \
                    record.name == "msr_filter_smp_test":
                record.verdict = "fail"

        found = self.run_of(names, spoil)
        why = "the guest's kernel panicked"
        found.problems["half-1"] = [why]
        found.endings = [Ending("half-1", "half-1", False, why)]
        verdicts = self.verdicts(found, [self.fault(name) for name in names])
        self.assertTrue(all(verdicts.values()), verdicts)
        self.assertIn("!", text.matrix(found, [self.fault(name) for name in names]))

    def test_10_other_problems(self):
        """A panic explains itself, and nothing else."""
        def spoil(record):
            if record.variant == "a" and record.name == "msr_filter_test":
                record.verdict, record.why = "crash", "it panicked"

        found = self.run_of(("a",), spoil)
        found.endings = [Ending("half-1", "half-1", False, "it panicked")]
        for problems, well in ((["it panicked"], True),
                               (["it panicked", "the totals are wrong"], False)):
            found.problems["half-1"] = problems
            self.assertEqual(self.verdicts(found, [self.fault("a")])["half-1"], well)

    def test_10_the_rest_did_not_run(self):
        def spoil(record):
            if record.variant == "last":
                record.verdict, record.why = "missing", "the boot ended before it"
            elif record.variant == "first" and record.name == "msr_filter_test":
                record.verdict = "fail"

        found = self.run_of(("first", "last"), spoil)
        verdicts = self.verdicts(found, [self.fault("first"), self.fault("last")])
        self.assertTrue(verdicts["first"])
        self.assertFalse(verdicts["last"])

    def test_nobody(self):
        found = self.run_of(("a", "b"))
        verdicts = self.verdicts(found, [self.fault("a"), self.fault("b", "nobody")])
        self.assertEqual((verdicts["a"], verdicts["b"]), (False, True))

    def test_not_built_not_run(self):
        found = self.run_of(("a",))
        verdicts = self.verdicts(found, [self.fault("b"), self.fault("c")],
                                 [("b", "see the log")])
        self.assertEqual((verdicts["b"], verdicts["c"]), (False, False))

    def test_patched_fails(self):
        def spoil(record):
            if record.variant == "patched" and record.name == "msr_filter_test":
                record.verdict = "fail"
        verdicts = self.verdicts(self.run_of(("a",), spoil), [])
        self.assertFalse(verdicts["patched"])

    def plan_of(self, *wanted):
        """What is to run for these faults, of which all are built."""
        folder = self.folder / "5.10"
        for path in ("series", "src/.rig-version", "tests-series/msr_filter_test",
                     "tests-series/nested_msr_filter_test",
                     *(f"variants/{fault.name}/kvm-intel.ko" for fault in wanted)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("v5.10-v5.19")
        return plan.plan_faults(folder, "bochs", wanted)

    def test_svm(self):
        """A fault of SVM is tried on an AMD host, and with no other tests."""
        wanted = [self.fault("vmx"), self.fault("amd", machine="svm")]
        made = self.plan_of(*wanted)
        self.assertEqual(
            [(boot.name, boot.machine, boot.variants) for boot in made.boots],
            [("half-1", "bochs", ["patched", "vmx"]), ("half-2", "bochs", ["patched"]),
             ("svm-half-1", "svm", ["patched", "amd"]),
             ("svm-half-2", "svm", ["patched"])])
        name = "nested_msr_filter_test@svm"
        for boot in made.boots:
            tests = [step.name for steps in boot.steps.values() for step in steps
                     if step.test]
            self.assertTrue(tests)
            self.assertEqual(name in tests, boot.machine == "svm")
            self.assertEqual({one.endswith("@svm") for one in tests},
                             {boot.machine == "svm"})

        # Nothing came of it: what is missing is what had to come.
        found = results.collect(made, self.folder / "out")
        said = {one.variant: {record.name for record in found.of(variant=one.variant)
                              if record.test} for one in found.records}
        self.assertEqual(said["patched"], said["vmx"] | said["amd"])
        self.assertFalse(said["vmx"] & said["amd"])
        self.assertIn(name, said["amd"])
        self.assertEqual(self.verdicts(found, wanted)["amd"], False)

        for record in found.records:
            record.verdict = "fail" if record.name == name and \
                record.variant == "amd" else "pass"
        self.assertEqual(self.verdicts(found, wanted)["amd"], True)
        self.assertEqual(self.verdicts(found, wanted)["vmx"], False)
        row = next(line for line in text.matrix(found, wanted).split("\n")
                   if line.startswith("  amd "))
        self.assertNotRegex(row, r"[?!-]")
        self.assertEqual(row[:-len("is wrong")].count("x"), 1)

    def test_svm_alone(self):
        made = self.plan_of(*(self.fault(name, machine="svm") for name in "abc"))
        self.assertEqual([(boot.machine, boot.variants) for boot in made.boots],
                         [("svm", ["patched", "a", "c"]), ("svm", ["patched", "b"])])
        self.assertEqual([boot.machine for boot in self.plan_of().boots], ["bochs"] * 2)
        self.assertEqual({test.machine for test in made.tests}, {"svm"})

    def test_two_cpus(self):
        """A fault that it takes two CPUs to see is tried with the tests for these."""
        wanted = [self.fault("vmx"), self.fault("late", cpus="2")]
        made = self.plan_of(*wanted)
        self.assertEqual(
            [(boot.name, boot.machine, boot.cpus, boot.variants) for boot in made.boots],
            [("half-1", "bochs", 1, ["patched", "vmx"]),
             ("half-2", "bochs", 1, ["patched"]),
             ("smp-half-1", "bochs", 2, ["patched", "late"]),
             ("smp-half-2", "bochs", 2, ["patched"])])
        found = results.collect(made, self.folder / "out")
        said = {one.variant: {record.name for record in found.of(variant=one.variant)
                              if record.test} for one in found.records}
        self.assertIn("msr_filter_race_test:cpus=2", said["late"])
        self.assertFalse(said["vmx"] & said["late"])
        self.assertEqual(said["patched"], said["vmx"] | said["late"])

    def test_apply(self):
        """A fault lands in its function or macro, or nowhere."""
        src = self.folder / "src"
        src.mkdir()
        (src / "f").write_text("int g(void);\n\nint h(void)\n{\n\ta;\n}\n\n"
                               "int g(void)\n{\n\tx;\n\ta;\n}\n")
        faults.apply(self.fault("one"), src)
        self.assertEqual((src / "f").read_text().split("\n")[4:11:6], ["\ta;", "\tb;"])
        with self.assertRaisesRegex(Wrong, "fault one: no \"a\" in g\\(\\) of f"):
            faults.apply(self.fault("one"), src)


class Count(Case):
    """make test's count, of TAP files."""

    def count(self, content):
        path = self.folder / "check.tap"
        if content is not None:
            path.write_text(content)
        return stages.count(stages.Stage("5.10 check", [], str(path)), True)

    def test_whole(self):
        n, bad = self.count("1..3\nok 1 - a\nok 2 - b # SKIP no\nnot ok 3 - c\n")
        self.assertEqual(n, {"passed": 1, "failed": 1, "skipped": 1})
        self.assertEqual(bad, ["not ok - 5.10 check: c"])

    def test_1_cut(self):
        for content in ("1..36\nok 1 - a\nok 2 - b\n", "ok 1 - a\nok 2 - b\n", "",
                        "1..2\nok 1 - a\nok 3 - c\n", "1..0\nok 1 - a\n"):
            n, bad = self.count(content)
            self.assertEqual(n["failed"], 1, content)
            self.assertIn("5.10 check", bad[0])

    def test_1_file_missing(self):
        n, bad = self.count(None)
        self.assertEqual(n["failed"], 1)
        self.assertIn("check.tap", bad[0])

    def test_not_run(self):
        n, bad = stages.count(stages.Stage("next run", [], "nowhere"), False)
        self.assertEqual((n["failed"], bad), (1, ["not ok - next run: not run"]))

    def test_no_checks(self):
        """A plan of nothing is no pass."""
        _, bad = self.count("1..0\n")
        self.assertTrue(bad)

    def test_own_tap(self):
        """What the judge writes is what the reader reads."""
        lines = [ktap.Line(True, "a"), ktap.Line(False, "b", None, ["why"]),
                 ktap.Line(True, "c", "no such CPU")]
        path = self.folder / "x.tap"
        path.write_text(tap.judgement(lines))
        self.assertEqual(ktap.read_tap(path), (lines, []))


class Plans(Case):
    def test_parameters(self):
        of = plan.Stepper.parameters
        self.assertEqual(of("kvm", "-"), "")
        self.assertEqual(of("kvm", "a=1,kvm_intel.b=2,kvm.c=3"), "a=1 c=3")
        self.assertEqual(of("kvm_intel", "a=1,kvm_intel.b=2.5"), "b=2.5")

    def test_5_patch_dropped(self):
        """A test of the series is expected even where the source lost it."""
        tree = mock.Mock()
        for has in (True, False):
            tree.has_selftest.return_value = tree.has_kunit.return_value = has
            for source, known, users in (("series", True, True), ("kunit", True, has),
                                         ("own", has, has), ("6.1", not has, not has),
                                         ("rig", True, True)):
                row = {"from": source, "name": "t"}
                self.assertEqual(plan.expected_here(row, tree, False), known, source)
                self.assertEqual(plan.expected_here(row, tree, True), users, source)

    def test_hidden_rows(self):
        rows = [dict(zip(("name", "machine", "kernels"), row.split())) for row in (
            "a svm 5.10", "a svm *", "a svm 7.2,next", "a bochs 7.2,next",
            "a bochs next", "a bochs 6.1,next", "b svm *")]
        self.assertEqual(list(tables.hidden(rows)), [rows[2], rows[4]])

    def test_strangers(self):
        """A row of the table that no test of the suite has."""
        made = replace(self.recorded().plan, kernel="5.10")
        table = plan.SuiteTable(made, "bochs")
        self.assertIn("state_test", table.strangers(["dirty_log_test"]))


if __name__ == "__main__":
    unittest.main()
