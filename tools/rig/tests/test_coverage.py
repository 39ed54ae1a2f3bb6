# SPDX-License-Identifier: GPL-2.0-only
"""Coverage: what came of the counts, what is looked at, and what has to be run."""

import contextlib
import io
import json
import os
import pty
import select
import subprocess
import unittest
import zlib
from types import SimpleNamespace

import common
from riglib import (__main__ as commands, coverage, judge, machines, plan, results,
                    tables)
from riglib.coverage import Function, Line, read_dump
from riglib.views import coverage as view

VMX = "arch/x86/kvm/vmx/vmx.c"
SOURCE = """#include "vmx.h"

static const u32 msrs[] = {
	1, 2,
};

/* Calls nothing(), says so. */
static bool
inner(int a,
      int b)
{
	return a == b;
}

static inline bool one_line(int a) { return inner(a, 1); }

void outer(int a)
{
	if (one_line(a) || helper(a) /* not unused(a) */)
		pr_info("unused(%d)", a);
}

void unused(int a)
{
	outer(a);
}
""".split("\n")
HEADER = """static inline int helper(int a)
{
	return a;
}
""".split("\n")


def dump(*files, head=None, end=b"end\n"):
    """What gcov-dump sends of these, each (name, bytes)."""
    data = b"gcov-dump %d\n" % (len(files) if head is None else head)
    for name, content in files:
        data += b"%d %08x %s\n" % (len(content), zlib.crc32(content), name.encode())
        data += content + b"\n"
    return data + end


class Dump(common.Test):
    FILES = [("x86", b"one\nend\n"), ("vmx/vmx", bytes(range(256))), ("vmx/nested", b"")]
    NAMES = [name for name, _ in FILES]

    def assertWrong(self, data, *texts):
        files, problems = read_dump(data, self.NAMES)
        self.assertEqual(len(problems), len(texts), problems)
        for text, problem in zip(texts, problems):
            self.assertIn(text, problem)
        return files

    def test_whole(self):
        self.assertEqual(read_dump(dump(*self.FILES), self.NAMES),
                         (dict(self.FILES), []))

    def test_nothing(self):
        self.assertWrong(b"", "nothing was counted")

    def test_missing(self):
        files = self.assertWrong(dump(*self.FILES[:2], head=3), "vmx/nested: it did not")
        self.assertEqual(set(files), {"x86", "vmx/vmx"})

    def test_fewer_than_wanted(self):
        self.assertWrong(dump(*self.FILES[:2]), "gcov-dump 3", "vmx/nested: it did not")

    def test_strange(self):
        self.assertWrong(dump(*self.FILES, ("mmu", b"x"), head=3), "mmu: it was not to")

    def test_twice(self):
        self.assertWrong(dump(*self.FILES, self.FILES[0], head=3), "x86: it came twice")

    def test_each_byte_counts(self):
        data = dump(*self.FILES)
        for at in range(len(data)):
            for byte in (data[at] ^ 1, data[at] ^ 0x80):
                spoilt = data[:at] + bytes([byte]) + data[at + 1:]
                self.assertTrue(read_dump(spoilt, self.NAMES)[1], at)
            self.assertTrue(read_dump(data[:at], self.NAMES)[1], at)
            self.assertTrue(read_dump(data[:at] + data[at + 1:], self.NAMES)[1], at)

    def test_more_behind_the_end(self):
        self.assertWrong(dump(*self.FILES) + b"x", "it does not end")


class Guest(common.Case):
    """guest/gcov-dump.c, to a terminal that is none."""

    def dump(self, *names):
        """Its exit status, and what came of it."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        program = self.folder / "gcov-dump"
        subprocess.run(
            ["gcc", "-std=gnu11", "-Wall", "-Werror", f'-DCOUNTED="{self.folder}"',
             f'-DPORT="{os.ttyname(slave)}"', "-o", program,
             "tools/rig/guest/gcov-dump.c"], check=True)
        with common.Popen([program, "/kvm", *names],
                          stdout=subprocess.DEVNULL) as process:
            data = b""
            while not data.endswith(b"end\n") and select.select([master], [], [], 60)[0]:
                data += os.read(master, 65536)
            return process.wait(), data

    def setUp(self):
        super().setUp()
        (self.folder / "kvm/vmx").mkdir(parents=True)
        self.files = {"x86": bytes(range(256)) * 400, "vmx/vmx": b"\x04\x11\x13\r\n"}
        for name, content in self.files.items():
            (self.folder / f"kvm/{name}.gcda").write_bytes(content)

    def test_whole(self):
        status, data = self.dump(*self.files)
        self.assertEqual(status, 0)
        self.assertEqual(read_dump(data, list(self.files)), (self.files, []))

    def test_one_is_not_there(self):
        status, data = self.dump("vmx/nested", *self.files)
        self.assertEqual(status, 1)
        self.assertEqual(read_dump(data, ["vmx/nested", *self.files]),
                         (self.files, ["vmx/nested: it did not come"]))


class Port(common.Case):
    def test_only_who_wants_it_has_a_third(self):
        (self.folder / "memory").write_text("1024\n")
        (self.folder / "boot.iso").write_text("")
        texts = []
        for name in ("without", "with"):
            out = self.folder / name
            out.mkdir()
            machines.MACHINES["bochs"].prepare_bochs(self.folder, out, 1)
            texts.append((out / "bochsrc").read_text())
            (self.folder / "third-port").write_text("counted\n")
        self.assertNotIn("com3", texts[0])
        self.assertEqual(texts[1],
                         texts[0] + "com3: enabled=1, mode=file, dev=counted\n")


class Sources:
    """In place of a kernel's source."""

    FILES = {VMX: SOURCE, "arch/x86/kvm/x86.h": HEADER}

    def __init__(self, added=None):
        self.of = added or {}

    def lines(self, file):
        return self.FILES[file]

    def added(self):
        return self.of

    def headers(self):
        return ["arch/x86/kvm/x86.h"]


class Select(common.Test):
    ROWS = [{"file": VMX, "function": "outer"}]

    def counts(self, source, numbers, count=1):
        counts = coverage.Counts(source)
        for file, number in numbers:
            counts.lines[file, number] = {"vmx/vmx": (count, [])}
        return counts

    def test_functions(self):
        self.assertEqual(list(coverage.functions(SOURCE)), [
            ("inner", 9, 13), ("one_line", 15, 15), ("outer", 17, 21),
            ("unused", 23, 26)])

    def test_called(self):
        source = Sources()
        known = coverage.Functions(source, source.FILES)
        self.assertEqual({name for _, name in known.called_by(VMX, "outer")},
                         {"outer", "one_line", "inner", "helper"})

    def test_whole_and_added(self):
        source = Sources({VMX: {4, 12, 24, 25}, coverage.SVM + "svm.c": {1}})
        numbers = [(VMX, n) for n in (4, 12, 15, 17, 19, 20, 23, 25)]
        found, lacking = coverage.select(source, self.counts(source, numbers), self.ROWS)
        self.assertEqual(lacking, [])
        self.assertEqual({(one.name, one.whole, tuple(line.number for line in one.lines))
                          for one in found},
                         {("outer", True, (17, 19, 20)), ("one_line", True, (15,)),
                          ("inner", True, (12,)), ("unused", False, (25,)),
                          ("-", False, (4,))})

    def test_what_is_not_counted_is_lacking(self):
        source = Sources()
        found, lacking = coverage.select(source, self.counts(source, [(VMX, 12)]),
                                         self.ROWS)
        self.assertEqual(lacking, [f"outer() of {VMX}"])
        gone = [{"file": VMX, "function": "renamed"}]
        self.assertEqual(coverage.select(source, self.counts(source, []), gone)[1],
                         [f"renamed() of {VMX}"])


class Merge(common.Case):
    def gcov(self, counts, *lines):
        counts.add({"current_working_directory": "/obj", "files": [{
            "file": "/src/" + VMX, "lines": [
                {"line_number": number, "count": count, "branches": [
                    {"count": n, "throw": False} for n in branches]}
                for number, count, branches in lines]}]}, "vmx/vmx", "/obj")

    def test_boots_add_up(self):
        source = Sources()
        source.src = self.folder
        (self.folder / VMX).parent.mkdir(parents=True)
        (self.folder / VMX).write_text("")
        counts = coverage.Counts(source)
        counts.file = lambda *_: VMX
        self.gcov(counts, (19, 5, [5, 0]), (20, 0, []))
        self.gcov(counts, (19, 2, [0, 2]), (20, 0, []))
        line = counts.line(VMX, 19)
        self.assertEqual((line.count, line.branches, line.misses), (7, [5, 2], ""))
        self.assertEqual(counts.line(VMX, 20).misses, "line")
        self.assertIsNone(counts.line(VMX, 21))

    def test_copies(self):
        """Of a line that is in many places, that which was seen most of."""
        best = coverage.best_copy
        self.assertEqual(best("if (a)", [5, 0, 0, 0, 3, 1]), [3, 1])
        self.assertEqual(best("if (a)", [5, 0, 0, 2]), [5, 0])
        self.assertEqual(best("if (a && b)", [1, 2, 0, 0, 0, 0, 3, 4]), [1, 2, 3, 4])
        self.assertEqual(best("if (a && b)", [0, 2, 0, 0, 1, 2]), [1, 2])
        self.assertEqual(best("switch (a) {", [1, 2, 3]), [1, 2, 3])
        self.assertEqual(best("return a;", []), [])

    def test_names_of_files(self):
        source = Sources()
        source.src = self.folder
        (self.folder / VMX).parent.mkdir(parents=True)
        (self.folder / VMX).write_text("")
        counts = coverage.Counts(source)
        for name, cwd in ((str(self.folder / VMX), "/obj"), (VMX, "/obj"),
                          (VMX, str(self.folder)), (f"..{self.folder}/{VMX}", "/obj")):
            self.assertEqual(counts.file(name, cwd, "/obj"), VMX)
        for name in ("/usr/include/stdio.h", "include/generated/autoconf.h"):
            self.assertIsNone(counts.file(name, "/obj", "/obj"))

    def test_gcov(self):
        """The compiler that is here, and its gcov."""
        (self.folder / "a.c").write_text(
            "int main(int argc, char **argv)\n{\n\tif (argc > 1)\n"
            "\t\t__builtin_puts(*argv);\n\treturn !argv;\n}\n")
        for command in (["gcc", "-O2", "--coverage", "-o", "a.o", "-c", "a.c"],
                        ["gcc", "--coverage", "-o", "a", "a.o"]):
            subprocess.run(command, cwd=self.folder, check=True)
        none = coverage.gcov(self.folder, "a")
        self.assertEqual({line["count"] for line in none["files"][0]["lines"]}, {0})
        subprocess.run(["./a"], cwd=self.folder, check=True)
        lines = {line["line_number"]: line["count"]
                 for line in coverage.gcov(self.folder, "a")["files"][0]["lines"]}
        self.assertEqual((lines[3], lines[4], lines[5]), (1, 0, 1))
        (self.folder / "a.gcda").write_bytes(b"no counts")
        with self.assertRaises(coverage.Wrong):
            coverage.gcov(self.folder, "a")


def row(misses="line", line="return -ENOENT;", function="bit", reason="no such MSR"):
    return {"kernels": "*", "file": VMX, "function": function, "misses": misses,
            "line": line, "reason": reason}


class Run:
    """A run of "make coverage", all of it well: one line is not run, and one branch
    not taken, and both are known."""

    def __init__(self):
        self.plan = plan.Plan(
            what="coverage", kernel="5.10", folder="build/5.10/debug/gcov",
            series="v5.10-v5.19", version="", pinned=True, commit="", machine="bochs",
            vmx="", cpu_time="", flavour="gcov", variants=["patched"])
        self.plan.tests = [plan.Test(
            name=name, program=name, source="rig", cpus=1, parameters="-", seconds=1,
            file="", machine="bochs") for name in ("msr_test", "gcov-dump")]
        self.plan.boots = [plan.Boot("cpus-1", "coverage", "bochs", 1, ["patched"], {})]
        self.results = results.Results(self.plan, [], [], {}, {"cpus-1": []})
        for name in ("load kvm.ko", "msr_test", "gcov-dump"):
            self.results.records.append(results.Record(
                "5.10", "bochs", "cpus-1", "patched", name, name != "load kvm.ko",
                verdict="pass", why=""))
        self.functions = [
            Function(VMX, "vmx_msr_filter_changed", True, [
                Line(10, "if (a)", 5, [5, 0]), Line(11, "continue;", 5),
                Line(13, "continue;", 7)]),
            Function(VMX, "bit", False, [Line(20, "return -ENOENT;", 0, [0, 0])])]
        self.rows = [row(), row("1", "if (a)", "vmx_msr_filter_changed")]
        self.problems, self.lacking = {"cpus-1": []}, []
        self.svm = {coverage.SVM + "svm.c": 3}

    def measured(self):
        stale = coverage.explain(self.functions, self.rows)
        return coverage.Coverage(self.functions, self.problems,
                                 [f"{of['function']}: {why}" for of, why in stale],
                                 self.lacking, self.svm)

    def lines(self):
        return judge.judge_coverage(self.results, self.measured())

    def bad(self):
        return [f"{line.name}: {line.details}" for line in self.lines() if not line.ok]


class Judged(common.Case):
    def assertOne(self, run, *texts):
        bad = run.bad()
        self.assertEqual(len(bad), len(texts), bad)
        for text, line in zip(texts, bad):
            self.assertIn(text, line)

    def test_good(self):
        self.assertEqual(Run().bad(), [])
        self.assertEqual(Run().measured().reached(), (3, 4, 1, 4))
        self.assertEqual(Run().measured().unreachable(), (1, 3))

    def test_what_a_test_could_reach_is_not_unreachable(self):
        run = Run()
        run.rows[0]["reason"] = "no test: a guest would have to"
        self.assertEqual(run.bad(), [])
        self.assertEqual(run.measured().unreachable(), (0, 1))

    def test_each_verdict_is_missed(self):
        for name in ("msr_test", "gcov-dump"):
            for verdict in ("fail", "missing", "crash", "skip"):
                run = Run()
                run.results.of(name=name)[0].verdict = verdict
                self.assertIn(name, run.bad()[0])

    def test_a_file_that_did_not_come(self):
        run = Run()
        run.problems["cpus-1"] = ["vmx/vmx: it did not come"]
        self.assertOne(run, "vmx/vmx: it did not come")
        run.problems = {}
        self.assertOne(run, "cpus-1: what it has counted came")

    def test_a_line_that_nobody_runs(self):
        run = Run()
        run.functions[0].lines[1].count = 0
        self.assertOne(run, "line 11: continue;: not run")

    def test_a_branch_that_nobody_takes(self):
        run = Run()
        run.functions[0].lines[2].branches = [7, 0, 0]
        self.assertOne(run, "line 13: continue;: 2 of 3 branches not taken")

    def test_one_branch_more_than_is_known(self):
        run = Run()
        run.functions[0].lines[0].branches = [5, 0, 0]
        self.assertOne(run, "line 10", "said to miss 1")

    def test_known_but_reached(self):
        run = Run()
        run.functions[1].lines[0] = Line(20, "return -ENOENT;", 1, [1, 1])
        self.assertOne(run, "all of it is reached")
        run.functions[1].lines[0].branches = [1, 0]
        self.assertOne(run, "bit", "1 of 2 branches")

    def test_known_and_not_there(self):
        for one in (row(line="return -ENOMEM;"), row(function="bits"),
                    row(line="continue;", function="vmx_msr_filter_changed")):
            run = Run()
            run.rows.append(one)
            self.assertOne(run, "no such line with code")

    def test_the_second_of_the_same(self):
        run = Run()
        run.functions[0].lines[2].count = 0
        run.rows.append(row("line", "continue; #1", "vmx_msr_filter_changed"))
        self.assertOne(run, "line 13", "all of it is reached")
        run.rows[-1]["line"] = "continue; #2"
        self.assertEqual(run.bad(), [])

    def test_many_lines_in_one_row(self):
        for text in ("if (a) ... continue; #2", "*"):
            run = Run()
            run.rows[1] = row("line", text, "vmx_msr_filter_changed")
            for line in run.functions[0].lines:
                line.count = 0
            self.assertEqual(run.bad(), [])
            run = Run()
            run.rows[1] = row("line", text, "vmx_msr_filter_changed")
            for line in run.functions[0].lines:
                line.count = line.number == 11
            self.assertOne(run, "line 10", "line 11: all of it is reached")

    def test_what_is_to_be_counted_is(self):
        run = Run()
        run.lacking = ["vmx_recalc_intercepts() of vmx.c"]
        self.assertOne(run, "vmx_recalc_intercepts")
        run = Run()
        run.functions.pop()
        run.rows.pop(0)
        self.assertOne(run, "lines of the series are counted")
        run = Run()
        run.plan.lacks = ["GCOV_KERNEL"]
        self.assertOne(run, "GCOV_KERNEL")

    def test_svm_is_not_counted(self):
        line = Run().lines()[-1]
        self.assertIn("svm.c: 3 lines", line.name)
        self.assertTrue(line.skip)

    def test_a_boot_that_left_nothing(self):
        """Of what is not there nothing is taken for good."""
        out = self.folder
        (out / "counted").mkdir()
        run = Run()
        source = SimpleNamespace(src=out)
        for text in (None, "", '{"cpus-1": []}', '{"cpus-2": []}'):
            if text is not None:
                (out / "counted/problems.json").write_text(text)
            counts, problems = coverage.read_counts(source, run.plan, out)
            self.assertEqual(counts.lines, {})
            self.assertEqual(problems["cpus-1"] == [], text == '{"cpus-1": []}')

    def test_counts_that_are_gone(self):
        """What came well, and is not there any more, is missing, boot by boot."""
        (self.folder / "counted/cpus-1").mkdir(parents=True)
        (self.folder / "counted/problems.json").write_text('{"cpus-1": []}')
        _, problems = coverage.read_counts(SimpleNamespace(src=self.folder), Run().plan,
                                           self.folder, ["vmx/vmx", "x86"])
        self.assertEqual(problems["cpus-1"], ["vmx/vmx: its counts are not there",
                                              "x86: its counts are not there"])

    def test_shown(self):
        run = Run()
        run.functions[0].lines[1].count = 0
        measured = run.measured()
        lines = judge.judge_coverage(run.results, measured)
        table = view.table(run.results, measured, lines)
        self.assertIn("all: 2 of 4 lines, 50.0 %; 1 of 4 branches, 25.0 %", table)
        self.assertIn("no such MSR", table)
        self.assertIn("UNEXPECTED", table)
        self.assertIn("3 lines of arch/x86/kvm/svm/svm.c", table)
        measured.write(self.folder / "coverage.json")
        data = json.loads((self.folder / "coverage.json").read_text())
        self.assertEqual(data["functions"][1]["lines"][0]["reason"], "no such MSR")


class Tables(common.Test):
    def test_one_flavour_counts(self):
        self.assertEqual(list(tables.flavours("coverage")), ["gcov"])

    def test_no_results(self):
        with contextlib.redirect_stdout(io.StringIO()), \
                self.assertRaises(coverage.Wrong):
            commands.judge_again("build/nowhere/report/coverage")


if __name__ == "__main__":
    unittest.main()
