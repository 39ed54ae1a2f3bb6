# SPDX-License-Identifier: GPL-2.0-only
"""What the tests share: a time limit, programs that get signals, and recorded runs, to
be spoilt and judged.

logs/KERNEL is a good run of "make run AGAIN=1", logs/KERNEL-WHAT one of another
target: riglib's command "record" makes them.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from riglib import children, judge, plan, results

HERE = Path(__file__).resolve().parent
LOGS = HERE / "logs"
os.chdir(HERE.parents[2])	# the tables are found from there
children.heed_signals()		# SIGTERM lets a test clean up

KERNELS = [path.name for path in sorted(LOGS.iterdir())
           if (path / "plan.json").exists() and "-" not in path.name]


def default_signals():
    """Reset, in a child before exec, what nohup and "&" in a script ignore: a shell
    cannot trap a signal that was ignored when it started."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(command, **more):
    """Do subprocess.run() of a program that gets signals."""
    # pylint: disable=subprocess-popen-preexec-fn,subprocess-run-check
    return subprocess.run(command, preexec_fn=default_signals, **more)


class Popen(subprocess.Popen):
    """A program that gets signals.  If the test fails, kill it and its children."""

    def __init__(self, command, **more):
        super().__init__(command, preexec_fn=default_signals, start_new_session=True,
                         **more)

    def __exit__(self, kind, value, traceback):
        if kind:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        super().__exit__(kind, value, traceback)


class Test(unittest.TestCase):
    """A test that fails when it runs for too long."""

    seconds = 60
    more_seconds = 10		# for its cleanup

    def run(self, result=None):
        def too_long(_number, _frame):
            self.fail(f"it still runs after {self.seconds} s")

        handler = signal.signal(signal.SIGALRM, too_long)
        timer = signal.setitimer(signal.ITIMER_REAL, self.seconds, self.more_seconds)
        try:
            return super().run(result)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)


class Recorded:
    """A copy of a recorded run."""

    def __init__(self, name, folder):
        self.out = Path(folder) / "run"
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(LOGS / name, self.out)
        self.plan = plan.load(json.loads((self.out / "plan.json").read_text()))

    def path(self, boot):
        return self.out / "boots" / boot / "results.ktap"

    def boots(self):
        return [boot.name for boot in self.plan.boots]

    def lines(self, boot):
        return self.path(boot).read_text().split("\n")

    def write(self, boot, lines):
        self.path(boot).write_text("\n".join(lines))

    def drop(self, wanted, boots=None):
        """Take lines away: those that wanted() is true of; how many."""
        n = 0
        for boot in boots or self.boots():
            lines = self.lines(boot)
            kept = [line for line in lines if not wanted(line)]
            n += len(lines) - len(kept)
            self.write(boot, kept)
        return n

    def replace(self, old, new, boots=None, variant=None):
        """Put new in the place of old, of one variant or of all; how often."""
        n = 0
        for boot in boots or self.boots():
            group, lines = None, self.lines(boot)
            for i, line in enumerate(lines):
                if line.startswith("    # Subtest: "):
                    group = line[len("    # Subtest: "):]
                if old in line and variant in (None, group):
                    lines[i] = line.replace(old, new)
                    n += 1
            self.write(boot, lines)
        return n

    def results(self):
        return results.collect(self.plan, self.out)

    def judged(self, **more):
        how = {"tests": judge.judge_tests, "suite": judge.judge_suite}[self.plan.what]
        return how(self.results(), **more)

    def bad(self, **more):
        """What is not ok, by the names of its lines."""
        return [line.name for line in self.judged(**more) if not line.ok]


class Case(Test):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def recorded(self, name="5.10"):
        return Recorded(name, self.folder)

    def assertBad(self, recorded, text, **more):
        """Some line is not ok, and names what is wrong."""
        bad = recorded.bad(**more)
        self.assertTrue(any(text in line for line in bad), f"{text}: {bad}")
