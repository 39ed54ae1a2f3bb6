# SPDX-License-Identifier: GPL-2.0-only
"""The report: all that there is, is on the page, fits there, and can be read by others'
programs; and what is not there is said."""

import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import common
import test_bench
import test_flavours
import test_fuzz
import test_judge
from riglib import (__main__ as commands, browser, compare, coverage, fuzz, judge, report,
                    results, stages, tables)
from riglib.errors import Wrong
from riglib.views import curves, junit, page, readme, tap

GNUPLOT = shutil.which("gnuplot")
SELENIUM = importlib.util.find_spec("selenium") and Path("/usr/bin/chromedriver").exists()
JUNITPARSER = importlib.util.find_spec("junitparser")
JINJA2 = importlib.util.find_spec("jinja2")
PAPER = 718			# A4 less its margins, in CSS pixels
# The kernel's own reader of KTAP; older ones read that of KUnit only.
PARSERS = sorted(Path("build").glob("*/src/tools/testing/kunit/kunit_printer.py"))
READ = """
import json, sys, kunit_parser, inspect
more = {}
if "printer" in inspect.signature(kunit_parser.parse_run_tests).parameters:
    import kunit_printer
    more["printer"] = kunit_printer.stdout
found = kunit_parser.parse_run_tests(sys.stdin, **more)
print(json.dumps([[one.name, one.status.name] for one in found.subtests]))
"""


def part_of(case, name):
    """Something that another test makes, for this one."""
    made = case(name)
    made.setUp()
    return made


class Reports(common.Case):
    """A build/ with what recorded runs said, and what other tests make of such."""

    def setUp(self):
        super().setUp()
        self.build = self.folder / "build"
        self.parts = []
        patch = mock.patch.object(stages, "STAGES", self.folder / "stages")
        patch.start()
        self.addCleanup(patch.stop)

    def put(self, kernel, what, found, lines):
        """As a run leaves it."""
        out = self.build / kernel / "report" / what
        out.mkdir(parents=True, exist_ok=True)
        found.plan.write(out / "plan.json")
        found.write(out / "results.json")
        (out / "judgement.tap").write_text(tap.judgement(lines))
        return out

    def ran(self, kernel, spoil=None):
        run = self.recorded(kernel)
        if spoil:
            spoil(run)
        found = run.results()
        return self.put(kernel, "tests", found, judge.judge_tests(found))

    def other(self, case, name):
        made = part_of(case, name)
        self.addCleanup(made.doCleanups)
        return made

    def all(self):
        """Something of each target; 7.2 was never run, and of "make kselftest" on 6.1
        nothing came."""
        for kernel in ("5.10", "6.1", "next"):
            self.ran(kernel)
        self.ran("6.12", lambda run: run.replace("ok", "not ok", variant="patched"))
        made = self.other(test_judge.Faults, "run_of")
        found = made.run_of(["first", "second"], lambda record: setattr(
            record, "verdict", "fail" if record.variant == "first" and
            record.name == "msr_filter_test" else record.verdict))
        wanted = [made.fault(name) for name in ("first", "second")]
        self.put("5.10", "faults", found, judge.judge_faults(found, wanted))
        fuzzer = self.other(test_fuzz.Fuzz, "run_of")
        found = fuzzer.run_of(fuzzer.made(PROGRAMS="40"))
        self.put("5.10", "fuzz", found, fuzz.judge_fuzz(found))
        flavour = test_flavours.Run()
        self.put("5.10", "debug/kasan", flavour.results,
                 judge.judge_flavour(flavour.results))
        found = self.other(test_bench.Bench, "results").results()
        out = self.put("5.10", "bench", found, judge.judge_bench(found))
        if GNUPLOT:
            curves.draw(found, out)
        found = self.recorded("next").results()
        out = self.put("next", "coverage", found, judge.judge_tests(found))
        self.functions = [coverage.Function("a.c", "covered_function", True, [
            coverage.Line(1, "ran();", 3, [1, 0]), coverage.Line(2, "not_run();")])]
        coverage.Coverage(self.functions, {}, [], [], {}).write(out / "coverage.json")
        begun = self.build / "6.1/report/suite"
        begun.mkdir(parents=True)
        (begun / "plan.json").write_text("{}")
        stages.STAGES.mkdir()
        (stages.STAGES / "lint.json").write_text(json.dumps(
            {"name": "lint", "seconds": 77, "when": "2026-11-26 20:00"}))
        return report.gather(self.build)


@unittest.skipUnless(JINJA2, "there is no jinja2: tools/rig/setup report")
class Page(Reports):
    def html(self):
        return page.page(self.all())

    def test_nothing_from_elsewhere(self):
        """No scripts, and no address but those in the page itself."""
        html = self.html()
        self.assertFalse("<script" in html)
        for address in re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", html):
            self.assertRegex("".join(address), r"^(#|data:)")

    def test_what_tests_say_is_no_html(self):
        self.ran("5.10", lambda run: run.replace(
            "Test failed at step", "<script>alert(1)</script>"))
        html = page.page(report.gather(self.build))
        self.assertFalse("<script" in html)
        self.assertTrue("&lt;script&gt;" in html)

    def test_nothing_was_run(self):
        with mock.patch.object(report, "BUILD", self.build), \
                mock.patch.object(report, "OUT", self.build / "report"):
            (self.build / "report").mkdir(parents=True)
            (self.build / "report/report.html").write_text("an old one")
            with self.assertRaisesRegex(Wrong, "no kernel has results"):
                commands.make_report()
            self.assertFalse((self.build / "report").exists())

    def test_command(self):
        self.ran("5.10")
        with mock.patch.object(report, "BUILD", self.build), \
                mock.patch.object(report, "OUT", self.build / "report"), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertFalse(commands.make_report())
        self.assertEqual(sorted(path.name for path in (self.build / "report").iterdir()),
                         ["junit.xml", "report.html"])
        self.assertIn("  7.2     not run", said.getvalue())

    def test_overview(self):
        targets, rows = page.overview(self.all())
        cell = {(kernel, target): f"{one.sign} {one.text}" for kernel, cells in rows
                for target, one in zip(targets, cells)}
        self.assertEqual(cell["7.2", "run"], " not run")
        self.assertEqual(cell["6.1", "kselftest"], "✗ missing")
        self.assertRegex(cell["5.10", "run"], r"^✓ (\d+) of \1$")
        self.assertRegex(cell["6.12", "run"], r"^✗ unexpected: \d+ of \d+$")

    def test_a_judgement_that_is_cut_short_is_not_good(self):
        out = self.ran("5.10")
        lines = (out / "judgement.tap").read_text().split("\n")
        (out / "judgement.tap").write_text("\n".join(lines[:10]) + "\n")
        run, = report.gather(self.build)["5.10"]
        self.assertFalse(run.good)
        self.assertFalse(page.together([run]).ok)
        (out / "judgement.tap").unlink()
        run, = report.gather(self.build)["5.10"]
        self.assertEqual(page.together([run]).text, "missing")

    def test_a_fault_that_is_caught_is_good(self):
        """Though the tests that catch it fail."""
        out = self.ran("5.10")
        found = results.load(out)
        found.plan.patched = "a-fault"
        out = self.put("5.10", "suite-part", found, [judge.Line(False, "msr_test: fail")])
        run = report.gather(self.build)["5.10"][1]
        self.assertFalse(run.good)
        (out / "caught.tap").write_text("TAP version 13\n1..1\nok 1 - caught by many\n")
        run = report.gather(self.build)["5.10"][1]
        self.assertTrue(run.good)
        self.assertTrue("kselftest, a part" in page.page(report.gather(self.build)))

    def test_results_of_an_earlier_run(self):
        self.ran("5.10")
        out = self.ran("6.1")
        plan = json.loads((out / "plan.json").read_text())
        (out / "plan.json").write_text(json.dumps({**plan, "id": "another"}))
        run, = report.gather(self.build)["6.1"]
        self.assertIn("earlier run", run.problems[0])

    def test_console_of_a_boot_that_failed(self):
        out = self.ran("5.10")
        data = json.loads((out / "results.json").read_text())
        data["endings"][0].update(whole=False, why="the guest hangs")
        (out / "results.json").write_text(json.dumps(data))
        boot = out / "boots" / Path(data["endings"][0]["folder"]).name
        boot.mkdir(parents=True)
        (boot / "console.log").write_text("first\n" * 99 + "last words\n")
        (out / "judgement.tap").write_text("TAP version 13\n1..1\nnot ok 1 - boot\n")
        html = page.page(report.gather(self.build))
        self.assertTrue("last words" in html)
        self.assertEqual(html.count("first\n"), report.CONSOLE - 2)


@unittest.skipUnless(SELENIUM and JINJA2, "there is no browser: tools/rig/setup browser")
class InBrowser(Reports):
    def rows_wanted(self, runs):
        """What has to be in a row of some table: pieces of text, in their order."""
        for kernel, mine in runs.items():
            for run in mine:
                yield [f"{kernel} {run.name}"]
                if not run.found:
                    continue
                plan = run.found.plan
                if run.what == "faults":
                    yield from ([name, "1 test" if name == "first" else "nobody"]
                                for name in plan.variants)
                elif run.what == "fuzz":
                    yield from ([kernel, "patched", test.name.partition(":")[2],
                                 f"{fuzz.wanted_programs(test)} of "] for test in plan.tests)
                elif run.what == "bench":
                    yield from ([curves.span(*step)] for curve in tables.read("curves")
                                for step in curves.steps(run.found, curve))
        for _, rows in (page.overview(runs), page.tests(runs, "suite"), page.figures(runs)):
            yield from ([name, *map(self.said, cells)] for name, cells in rows)
        for what, test, cells in page.holes(runs)[1]:
            yield [what, test, *map(self.said, cells)]
        yield ["5.10", "kasan"]
        yield ["all", "1 of 2 lines, 50.0 %", "1 of 2 branches, 50.0 %"]
        yield ["covered_function", "1 of 2", "1 of 2"]
        yield ["lint", "77 s"]

    @staticmethod
    def said(cell):
        return f"{cell.sign} {cell.text}".strip()

    def verdicts_are_there(self, rows, column, run):
        """Each in the row of its test, and in the column of its kernel, with a sign."""
        for test in run.found.plan.tests if run.found and run.what == "tests" else ():
            u, p = (run.found.record(test.name, variant).verdict
                    for variant in ("unpatched", "patched"))
            cells = [row[column].split("\n")[0] for row in rows
                     if row[0] == test.name and len(row) == 1 + len(tables.kernels())]
            sign = "✓" if run.line_of(test.name).ok else "✗ unexpected:"
            self.assertEqual(cells, [f"{sign} {u if u == p else f'{u}>{p}'}"],
                             (run.kernel, test.name))

    def test_phone_and_desk(self):
        runs = self.all()
        path = self.folder / "report.html"
        path.write_text(page.page(runs))
        with browser.Browser() as opened:
            for width, media in ((browser.PHONE, "screen"), (993, "screen"),
                                 (browser.DESK, "screen"), (PAPER, "print")):
                opened.open(path, width, media=media)
                self.assertEqual(opened.problems(), [], width)
                rows = ["\n".join(row) for row in opened.rows()]
                for column, mine in enumerate(runs.values(), 1):
                    for run in mine:
                        self.verdicts_are_there(opened.rows(), column, run)
                self.assertEqual(opened.unexpected(), [
                    f"✗ {line.name}" for mine in runs.values() for run in mine
                    for line in run.bad])
                for wanted in self.rows_wanted(runs):
                    pattern = re.compile(".*".join(map(re.escape, wanted)), re.S)
                    self.assertTrue(any(map(pattern.search, rows)), wanted)
                opened.open_all()
                self.assertEqual(opened.problems(), [], width)

    def test_it_would_be_seen(self):
        """That the browser finds what is wrong with a page."""
        path = self.folder / "bad.html"
        path.write_text("<div style='width: 999px'>wide</div>"
                        "<img src='file:///nowhere.png'>")
        with browser.Browser() as opened:
            opened.open(path, browser.PHONE)
            said = "\n".join(opened.problems())
        self.assertIn("too wide: DIV: wide", said)
        self.assertIn("console: ", said)

    @unittest.skipUnless(GNUPLOT, "gnuplot is not here")
    def test_pictures(self):
        path = self.folder / "report.html"
        path.write_text(page.page(self.all()))
        with mock.patch.object(browser, "PICTURES", self.folder / "pictures"), \
                contextlib.redirect_stdout(io.StringIO()):
            browser.pictures(path)
        for picture in (self.folder / "pictures").iterdir():
            self.assertEqual(picture.read_bytes()[:4], b"\x89PNG")
        self.assertEqual(sorted(one.name for one in (self.folder / "pictures").iterdir()),
                         ["curves.png", "report.png"])



class Short(Reports):
    """The short table in README: what ran last, and what is kept."""

    def table(self):
        """Written into README, and read back: rows of cells, by kernel."""
        lines = readme.short_table(report.gather(self.build), {})
        readme.replace(readme.SHORT, lines, readme.README)
        kernels = list(tables.kernels())
        return {line[2:2 + readme.SHORT_NAME].strip(): dict(
            zip(kernels, readme.cells_of(line))) for line in lines[3:-1]}

    def setUp(self):
        super().setUp()
        patch = mock.patch.object(readme, "README", self.folder / "README")
        patch.start()
        self.addCleanup(patch.stop)
        readme.README.write_text(f"{readme.SHORT[0]}\n{readme.SHORT[1]}of\n")

    def test_what_ran(self):
        self.all()
        rows = self.table()
        ok, of = map(int, rows["make run, as expected"]["5.10"].split("/"))
        self.assertEqual(ok, of)
        ok, of = map(int, rows["make run, as expected"]["6.12"].split("/"))
        self.assertLess(ok, of)
        self.assertEqual(rows["make run, as expected"]["7.2"], "-")
        self.assertEqual(rows["make kselftest, as expected"]["6.1"], "missing")
        self.assertEqual(rows["random programs, failed of all"]["5.10"], "0/44")
        self.assertEqual([rows[name]["next"] for name in (
            "lines run, of those in reach", "branches taken, of those in reach")], ["1/2", "1/2"])
        self.assertIn(">", rows["an update, 16 ranges"]["5.10"])

    def test_coverage(self):
        self.all()
        out = self.build / "next/report/coverage"
        self.functions[0].lines[1].reason = "no such CPU"
        self.functions[0].lines[0].reason = coverage.NO_TEST + "a test"
        coverage.Coverage(self.functions, {}, [], [], {}).write(out / "coverage.json")
        rows = self.table()
        self.assertEqual(rows["lines run, of those in reach"]["next"], "1/1")
        self.assertEqual(rows["branches taken, of those in reach"]["next"], "1/2")
        (out / "coverage.json").unlink()
        self.assertEqual(self.table()["lines run, of those in reach"]["next"], "missing")

    def test_what_there_are_no_new_results_of_is_kept(self):
        self.all()
        before = self.table()
        shutil.rmtree(self.build / "5.10")
        self.assertEqual(self.table(), before)
        # What has run anew, with fewer tests, takes the place of what was.
        self.ran("5.10", lambda run: run.replace("ok", "not ok", variant="patched"))
        after = self.table()
        self.assertNotEqual(after.pop("make run, as expected"),
                            before.pop("make run, as expected"))
        self.assertEqual(after, before)


class JUnit(Reports):
    @unittest.skipUnless(JUNITPARSER, "there is no junitparser: tools/rig/setup lint")
    def test_read_by_others(self):
        import junitparser
        runs = self.all()
        path = self.folder / "junit.xml"
        path.write_text(junit.page(runs))
        read = junitparser.JUnitXml.fromfile(str(path))
        suites = {suite.name: suite for suite in read}
        for kernel, mine in runs.items():
            for run in mine:
                suite = suites[f"{kernel} {run.name}"]
                cases = {(case.name, case.is_passed, case.is_skipped) for case in suite}
                for line in run.lines:
                    self.assertIn((line.name, line.ok and line.skip is None,
                                   line.skip is not None), cases)
                self.assertEqual(suite.failures, len(run.bad))
                self.assertEqual(suite.errors, bool(run.problems))
                self.assertEqual(suite.tests, len(list(suite)))
        self.assertEqual((suites["7.2"].tests, suites["7.2"].skipped), (1, 1))
        self.assertEqual(suites["6.1 kselftest"].errors, 1)
        for what in ("tests", "failures", "errors", "skipped"):
            self.assertEqual(getattr(read, what), sum(
                getattr(suite, what) for suite in read), what)

    def test_what_xml_cannot_have(self):
        self.assertEqual(junit.clean("a\x1b[1m\x00\ud800b\tc"), "a?[1m??b\tc")


class Kernels(common.Case):
    @unittest.skipUnless(PARSERS, "no source of a kernel from 6.0 on is in build/")
    def test_ktap_is_read_by_the_kernel(self):
        for kernel in common.KERNELS:
            found = self.recorded(kernel).results()
            for variant in found.plan.variants:
                for parser in PARSERS:
                    done = subprocess.run(
                        [sys.executable, "-B", "-c", READ], text=True,
                        input=tap.kselftest(found, variant), capture_output=True,
                        env={"PYTHONPATH": str(parser.parent)}, check=True)
                    said = dict(json.loads(done.stdout.strip().split("\n")[-1]))
                    self.assertEqual(said, {
                        f"selftests: kvm: {test.name}":
                        {"pass": "SUCCESS", "skip": "SKIPPED", "fail": "FAILURE"}[
                            found.record(test.name, variant).verdict]
                        for test in found.plan.tests}, parser)


class Compare(Reports):
    def compare(self, a, b):
        return compare.compare(str(a), str(b))

    def changed(self, out, change):
        """A copy of results, with something else in it."""
        data = json.loads((out / "results.json").read_text())
        change(data)
        path = self.folder / "changed.json"
        path.write_text(json.dumps(data))
        return path

    def test_the_same(self):
        out = self.ran("5.10")
        self.assertEqual(self.compare(out, out / "results.json")[2:],
                         ["", "no changes in verdicts and figures"])
        self.ran("6.1")
        self.assertEqual(self.compare(self.build, self.build)[2:],
                         ["", "no changes in verdicts and figures"])

    def test_what_changed_and_nothing_else(self):
        def change(data):
            data["plan"]["commit"] = "another"
            for record in data["records"]:
                record["seconds"] = 99.0
                if (record["name"], record["variant"]) == ("msr_filter_test", "patched"):
                    record["verdict"] = "fail"
                if (record["name"], record["variant"]) == ("bench", "patched"):
                    record["figures"]["cost-1"]["n"] *= 2
                    record["figures"]["cost-16"] = None

        out = self.ran("5.10")
        found = results.load(out)
        n, m = (found.record("bench", "patched").figures[name]["n"]
                for name in ("cost-1", "cost-16"))
        self.assertEqual(self.compare(out, self.changed(out, change))[3:], [
            "5.10, tests",
            f"  commit   {found.plan.commit} > another",
            "  msr_filter_test, patched: pass > fail",
            f"  filter of 1 range, patched, retired instructions: {n} > {2 * n}  "
            f"+100.0 %",
            f"  filter of 16 ranges, patched, retired instructions: {m} > missing",
            "", "3 changes in verdicts and figures"])

    def test_a_test_that_is_gone(self):
        def change(data):
            data["plan"]["tests"] = [test for test in data["plan"]["tests"]
                                     if test["name"] != "msr_filter_test"]

        out = self.ran("5.10")
        self.assertIn("  msr_filter_test, patched: pass > not there",
                      self.compare(out, self.changed(out, change)))

    def test_a_run_that_is_in_one_only(self):
        self.ran("5.10")
        runs = self.build / "5.10/report"
        self.all()
        said = self.compare(self.build, runs.parent.parent)
        self.assertEqual(said[-1], "no changes in verdicts and figures")
        (runs / "fuzz/results.json").rename(self.folder / "gone")
        other = self.folder / "other"
        (other / "fuzz").mkdir(parents=True)
        for name in ("plan.json", "judgement.tap"):
            (other / "fuzz" / name).write_text((runs / "fuzz" / name).read_text())
        (self.folder / "gone").rename(other / "fuzz/results.json")
        said = self.compare(runs, other)
        self.assertIn("fuzz: only in B", said)
        self.assertIn("tests: only in A", said)

    def test_bad_input(self):
        out = self.ran("5.10")
        self.all()
        bad = self.folder / "bad.json"
        for content in ("", "[]", '{"plan": 1}', "no JSON"):
            bad.write_text(content)
            with self.assertRaisesRegex(Wrong, "^[^\n]*bad.json: [^\n]*$"):
                self.compare(out, bad)
        for a, b in ((out, self.folder / "nowhere"), (out, self.build),
                     (out, self.build / "5.10/report/faults")):
            with self.assertRaisesRegex(Wrong, "^[^\n]+$"):
                self.compare(a, b)
        with self.assertRaisesRegex(Wrong, "which two runs"):
            commands.compare_runs("", "x")
