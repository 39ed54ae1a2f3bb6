# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's curves: what is read, what is missed, and what is shown of it."""

import csv
import io
import json
import shutil
import unittest
from pathlib import Path
from unittest import mock

from common import Case, Test
from riglib import bench, children, faults, judge, plan, results, tables
from riglib.errors import Wrong
from riglib.views import curves, readme

STATES = [
    bench.State("unpatched", "a" * 40, 0, "the kernel without the series"),
    bench.State("+0001", "b" * 40, 34, "KVM: VMX: Skip \"updates\""),
    bench.State("+0010", "c" * 40, 18, "KVM: nSVM: Heed MSR filter changes", "+0001"),
    bench.State("+0015", "d" * 40, 3, "KVM: x86: Wait for vCPUs " + "x" * 80),
]


def line(curve, x, median):
    return f"curve,{curve},{x},64,{median - 2},{median - 1},{median},{median + 1}," \
           f"{median + 9},60"


def log_of(variant):
    """As the benchmark prints it; all but the curve of ioctl-same is the same from
    +0001 on."""
    lines = []
    for curve in tables.read("curves"):
        for x in tables.points(curve):
            median = 1000 + 10 * x
            if variant == "unpatched" or (
                    variant == "+0015" and curve["name"] == "ioctl-same"):
                median += 500
            lines.append(line(curve["name"], x, median))
    return lines


class Bench(Case):
    def setUp(self):
        super().setUp()
        folder = self.folder / "5.10"
        for name in ("unpatched", "patched", "+0001", "+0015"):
            (folder / "variants" / name).mkdir(parents=True)
        (folder / "rig").mkdir()
        (folder / "rig/bench").write_text("a program")
        (folder / "src").mkdir()
        (folder / "src/.rig-version").write_text("linux-source-5.10 5.10.223-1\n")
        (folder / "series").write_text("v5.10-v5.19\n")
        self.plan = plan.plan_bench(folder, "bochs", [
            dict(vars(state)) for state in STATES])
        self.logs = {variant: log_of(variant) for variant in self.plan.variants}

    def results(self):
        """Written and read as a boot's."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        boot = out / "boots/bench"
        boot.mkdir(parents=True)
        said = ["KTAP version 1", "# rig: host kernel: 5.10.223",
                "    KTAP version 1", "    # Subtest: boot", "    # rig: took: 0.1",
                "    ok 1 reached init", "    1..1", "ok 1 boot"]
        passed = 1
        for number, variant in enumerate(self.plan.variants, 2):
            said += ["    KTAP version 1", f"    # Subtest: {variant}"]
            steps = self.plan.boots[0].steps[variant]
            for i, step in enumerate(steps, 1):
                if step.test:
                    said.append(f"    # rig: running: {step.name}")
                    said += [f"    # | {text}" for text in self.logs[variant]]
                if step.name.startswith("load kvm"):
                    module = step.name[5:-3].replace("-", "_")
                    said.append(f"    # rig: module: {module} version {variant}")
                said += ["    # rig: took: 0.1", f"    ok {i} {step.name}"]
                passed += 1
            said += [f"    1..{len(steps)}", f"ok {number} {variant}"]
        said += [f"1..{number}", f"# rig: totals: pass {passed} fail 0 skip 0", ""]
        (boot / "results.ktap").write_text("\n".join(said))
        (boot / "boot.json").write_text(json.dumps({
            "boot": "bench", "folder": str(boot), "whole": True, "why": "", "seconds": 1,
            "instructions": 1}))
        return results.collect(self.plan, out)

    def bad(self):
        return [one.name for one in judge.judge_bench(self.results()) if not one.ok]


class Judged(Bench):
    def test_good(self):
        self.assertEqual(self.bad(), [])
        lines = judge.judge_bench(self.results())
        self.assertEqual(len(lines), 3 * (1 + len(tables.read("curves"))) + 4)

    def test_same_modules_run_once(self):
        self.assertEqual(self.plan.variants, ["unpatched", "+0001", "+0015"])
        self.assertEqual(self.plan.patched, "+0015")

    def test_each_point_is_missed(self):
        for variant in self.plan.variants:
            whole = self.logs[variant]
            for i, text in enumerate(whole):
                self.logs[variant] = whole[:i] + whole[i + 1:]
                curve = text.split(",")[1]
                self.assertTrue(any(
                    one.startswith(f"{variant}: {curve}:") for one in self.bad()), text)
            self.logs[variant] = whole

    def test_a_point_twice_is_none(self):
        self.logs["+0001"].append(line("rdmsr", 4, 7))
        self.assertEqual(self.bad(), ["+0001: rdmsr: 5 of 6 points"])

    def test_nothing_ran(self):
        found = results.collect(self.plan, self.folder / "nothing")
        lines = judge.judge_bench(found)
        self.assertTrue(lines)
        self.assertFalse(any(one.ok for one in lines))

    def test_the_same_modules_twice(self):
        found = self.results()
        for record in found.of():
            for name in record.modules:
                record.modules[name] = "1234"
        bad = [one.name for one in judge.judge_bench(found) if not one.ok]
        self.assertEqual(bad, ["the modules of the 3 variants differ"])


class Shown(Bench):
    def test_csv(self):
        rows = list(csv.DictReader(io.StringIO(curves.as_csv(self.results()))))
        points = sum(len(tables.points(curve)) for curve in tables.read("curves"))
        # What has the same modules has the same figures, and its own lines.
        self.assertEqual(len(rows), 4 * points)
        row = next(row for row in rows if row["variant"] == "+0010" and
                   row["curve"] == "change-same" and row["x"] == "16")
        self.assertEqual((row["lines_added"], row["lines_added_in_all"], row["median"]),
                         ("18", "52", "1160"))
        self.assertEqual(row["unit"], "retired instructions")

    def test_table(self):
        said = curves.table(self.results())
        self.assertIn("+0001 .. +0015", said)
        self.assertIn("[VMX: as +0001]", said)
        self.assertEqual([one for one in said.split("\n")[6:] if len(one) > 79], [])

    def test_table_says_what_is_missing(self):
        self.logs["+0015"] = []
        self.assertIn("missing", curves.table(self.results()))

    def test_table_says_what_is_vague(self):
        self.logs["+0001"] = [text.replace(",60", ",31") for text in log_of("+0001")]
        said = curves.table(self.results())
        commands = "\n".join(curves.plot(self.results(), tables.read("curves")[0], 0))
        self.assertEqual(commands.count("yerrorlines"), 1)
        self.assertIn("~1160", said.split("change-same:")[1].split("change-other")[0])

    def test_tics(self):
        self.assertEqual(curves.tics([0, 1, 2, 4, 8, 16]), [0, 1, 2, 4, 8, 16])
        self.assertEqual(curves.tics([1, 2, 4, 8, 16, 32, 64]), [1, 4, 8, 16, 32, 64])

    def test_commands(self):
        curve = next(row for row in tables.read("curves")
                     if row["name"] == "ioctl-same")
        said = "\n".join(curves.plot(self.results(), curve, 0))
        self.assertIn("set xlabel \"ranges\"", said)
        self.assertIn("set ylabel \"retired instructions, an ioctl\"", said)
        for title in ("unpatched, 0 lines", "+0001, 34 lines", "+0015, 55 lines"):
            self.assertIn(f'title "{title}"', said)

    def test_real_time_has_its_spread(self):
        self.plan.machine = "kvm"
        self.plan.cpu_time = "TSC cycles, median"
        said = "\n".join(curves.plot(self.results(), tables.read("curves")[0], 0))
        self.assertIn("set ylabel \"TSC cycles, a change, one vCPU\"", said)
        self.assertIn("yerrorlines", said)
        said = curves.table(self.results())
        self.assertIn("    quartiles", said)
        self.assertNotIn("~", said)

    def test_no_gnuplot(self):
        with mock.patch.object(shutil, "which", return_value=None):
            with self.assertRaisesRegex(Wrong, "make setup"):
                curves.gnuplot([])

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not here")
    def test_pictures(self):
        found = self.results()
        curves.draw(found, self.folder)
        families = {row["family"] for row in tables.read("curves")}
        for family in families:
            unit = "SRCU sections" if family == "srcu" else "retired instructions"
            self.assertTrue(unit in (self.folder / f"{family}.svg").read_text(), family)
        said = curves.plain(found)
        self.assertTrue(all(len(one) < 80 for one in said.split("\n")), said)
        self.assertIn("ranges", said)

    @unittest.skipUnless(shutil.which("gnuplot"), "gnuplot is not here")
    def test_readme(self):
        path = self.folder / "RESULTS"
        shutil.copy(readme.RESULTS, path)
        rows = curves.of_readme(self.results(), readme.BENCH[0])
        self.assertIn("  lines of KVM, in all             0      34", rows)
        self.assertIn("  change-other, 1 range         1510    1010", rows)
        readme.replace(readme.BENCH, rows, path)
        self.assertIn("\n".join(rows), path.read_text())
        self.assertEqual([one for one in rows if len(one) > 79], [])


class States(Test):
    def test_parse(self):
        found = bench.parse("unpatched 12ab 0 the kernel\n+0001 34cd 7 KVM: a b\n")
        self.assertEqual([(one.name, one.lines, one.what) for one in found],
                         [("unpatched", 0, "the kernel"), ("+0001", 7, "KVM: a b")])

    def test_nothing_was_built(self):
        with self.assertRaisesRegex(Wrong, "nothing was built"):
            bench.read("/nonexistent")


class Built(Case):
    """With a git and a make that only say that they did."""

    def setUp(self):
        super().setUp()
        (self.folder / "obj/arch/x86/kvm").mkdir(parents=True)
        (self.folder / "obj/.config").write_text("CONFIG_KVM=m\n")
        (self.folder / "variants/unpatched").mkdir(parents=True)
        for name in bench.MODULES:
            (self.folder / "variants/unpatched" / name).write_text("0")
        self.content = {"a": "0", "b": "1", "c": "1", "d": "2"}
        self.at, self.built, self.status = "", [], 0
        for where, name, fake in ((bench.Builder, "git", self.git),
                                  (children, "run", self.run_make)):
            patcher = mock.patch.object(where, name, fake)
            patcher.start()
            self.addCleanup(patcher.stop)

    def git(self, *args):
        if args[0] == "checkout":
            self.at = args[-1][0]
        return args[-1]

    def run_make(self, command):
        if command[1] == "MODULE":
            (self.folder / f"rig/{bench.COUNTER}/{bench.COUNTER}.ko").write_text("")
            return 0
        self.built.append(command[2])
        for name in bench.MODULES:
            (self.folder / "obj/arch/x86/kvm" / name).write_text(self.content[self.at])
        return self.status

    def build(self):
        found = [bench.State(one.name, one.commit, one.lines, one.what)
                 for one in STATES]
        bench.Builder(self.folder, ["make"]).build(found)
        return found

    def test_same_as(self):
        self.assertEqual([one.same_as for one in self.build()], ["", "", "+0001", ""])
        self.assertEqual(self.at, "p")		# "patched" again
        self.assertEqual(self.built, ["1/3 +0001", "2/3 +0010", "3/3 +0015"])

    def test_kept(self):
        self.build()
        self.build()
        self.assertEqual(len(self.built), 3)
        (self.folder / "obj/.config").write_text("CONFIG_KVM=y\n")
        self.build()
        self.assertEqual(len(self.built), 6)

    def test_does_not_build(self):
        self.status = 1
        with self.assertRaisesRegex(Wrong, "up to \\+0001 does not build"):
            self.build()
        self.assertEqual(self.at, "p")
        self.assertFalse((Path(self.folder) / "variants/+0001/.key").exists())

    def test_faults_share_the_keeping(self):
        self.assertTrue(issubclass(faults.Builder, faults.Keeper))


if __name__ == "__main__":
    unittest.main()
