# SPDX-License-Identifier: GPL-2.0-only
"""Long targets: every stage is counted, run or not, and kept only where it may be."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import common
from riglib import stages, tables


class Stages(common.Case):
    def setUp(self):
        super().setUp()
        for patch in (mock.patch.object(stages, "STAGES", self.folder / "notes"),
                      mock.patch.object(stages, "state", lambda: self.state)):
            patch.start()
            self.addCleanup(patch.stop)
        self.state = "one"

    def stage(self, name, script, **more):
        tap = self.folder / f"{name}.tap"
        return stages.Stage(name, ["sh", "-c", script.replace("TAP", str(tap))],
                            str(tap), **more)

    def run_all(self, *made, what="test-all"):
        """Exit status, and what was printed."""
        with mock.patch.object(stages, "stages", lambda *_: made), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            status = stages.Runner(what, []).run()
        return status, said.getvalue()

    def test_well(self):
        status, said = self.run_all(
            self.stage("a", "printf '1..2\\nok 1 - x\\nok 2 - y # SKIP no\\n' >TAP"))
        self.assertEqual(status, 0)
        self.assertTrue(said.endswith("1 passed, 0 failed, 1 skipped\n"), said)

    def test_nothing_came(self):
        status, said = self.run_all(self.stage("a", "true"))
        self.assertEqual(status, 1)
        self.assertIn("not ok - a: ", said)

    def test_results_of_an_earlier_run(self):
        """7: what a stage left earlier is not what it did now."""
        made = self.stage("a", "exit 1")
        Path(made.tap).write_text("1..1\nok 1 - x\n")
        status, said = self.run_all(made)
        self.assertEqual(status, 1)
        self.assertIn("0 passed, 1 failed", said)

    def test_failed_though_all_is_well(self):
        status, said = self.run_all(
            self.stage("a", "printf '1..1\\nok 1 - x\\n' >TAP; exit 3"))
        self.assertEqual(status, 1)
        self.assertIn("status 3", said)

    def test_has_to_fail(self):
        status, _ = self.run_all(self.stage(
            "a", "printf '1..1\\nok 1 - caught\\n' >TAP; exit 1", fails=True))
        self.assertEqual(status, 0)

    def test_kept(self):
        """A stage that went well is not run again, until something has changed."""
        count = self.folder / "count"
        made = self.stage("a", f"echo >>{count}; printf '1..1\\nok 1 - x\\n' >TAP")
        bad = self.stage("b", f"echo >>{count}; printf '1..1\\nnot ok 1 - x\\n' >TAP")
        for state, what, runs in (("one", "test-all", 2), ("one", "test-all", 3),
                                  ("two", "test-all", 5), ("two", "test", 7),
                                  (None, "test-all", 9), (None, "test-all", 11)):
            self.state = state
            self.run_all(made, bad, what=what)
            self.assertEqual(len(count.read_text()), runs, (state, what))

    def test_each_kernel_and_a_tree_of_the_users(self):
        for what in ("test", "test-all"):
            for kernel in (*tables.kernels(), "ksrc"):
                names = [stage.name for stage in stages.stages(what, [kernel])]
                self.assertIn(f"{kernel} run", names)
                self.assertEqual(f"{kernel} vmm" in names, what == "test-all")
                self.assertEqual(f"{kernel} nested" in names, what == "test-all")
                self.assertEqual(f"{kernel} host-test" in names, what == "test-all" and
                                 kernel in ("5.10", "6.12"))
                self.assertEqual(len(names), len(set(names)))

    def test_interrupted(self):
        """Stages that were not reached are named, and nothing is left running."""
        script = self.folder / "stage"
        script.write_text("trap 'kill $!; exit 130' TERM\necho $$\nsleep 60 &\nwait\n")
        code = ("import sys; from riglib import children, stages;"
                "from pathlib import Path;"
                f"stages.STAGES = Path('{self.folder}');"
                "stages.stages = lambda *_: ["
                f"stages.Stage('a', ['sh', '{script}'], 'none'),"
                "stages.Stage('b', ['true'], 'none')];"
                "children.heed_signals(); sys.exit(stages.Runner('test', []).run())")
        with common.Popen([sys.executable, "-B", "-u", "-c", code], text=True,
                          stdout=subprocess.PIPE,
                          env={**os.environ, "PYTHONPATH": "tools/rig"}) as rig:
            rig.stdout.readline()		# the stage's name
            pid = int(rig.stdout.readline())
            time.sleep(0.1)
            rig.send_signal(signal.SIGTERM)
            said = rig.stdout.read()
        self.assertEqual(rig.returncode, 130)
        self.assertIn("not ok - a: not run", said)
        self.assertIn("not ok - b: not run", said)
        self.assertFalse(Path(f"/proc/{pid}").exists())
