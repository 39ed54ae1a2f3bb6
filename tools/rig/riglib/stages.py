# SPDX-License-Identifier: GPL-2.0-only
"""Long targets, "make test" and "make test-all": stage by stage, whatever becomes of
each, and then the count.

Each stage leaves TAP of this very run, or it is "not ok - not run".  A stage that
"make test-all" has run, with all of it ok, on what is here now is not run again.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import children, ktap, tables
from .errors import Wrong
from .views.terminal import clock, left, painted

STAGES = Path("build/stages")
# What the stages depend on, besides the files here.
VARIABLES = ("VMX", "PIN", "MIRROR", "QEMU_ACCEL", "BOOT_LIMIT", "BOOT_STALL")
# The fault that KVM's own suite has to find, where there is one of that name, and
# the tests it is tried with.
SUITE_FAULT = "recalc-not-called"
SUITE_FAULT_TESTS = "msr_filter_test"
# The one that QEMU's filter, of one range, has to suffer from
VMM_FAULT = "written-last-ignored"

# Debian's own kernels that are tried as hosts
STOCK = ("5.10", "6.12")

# Random programs: a minute's worth
FUZZ_PROGRAMS = 300


@dataclass
class Stage:
    name: str
    command: list
    tap: str
    fails: bool = False		# the command fails, and the TAP says whether it should


def of_kernel(kernel, more, first):
    """The stages of one kernel; more: all faults, and the whole suite; first: at least
    the faults in the lines of the series, and each boot twice.  Where the table unreached
    knows nothing of a kernel, there is no telling what the tests should cover."""
    if kernel == "ksrc":
        # Which range of kernels it is of, and so its faults, is not known before it is here.
        make, faults = ["make", f"KSRC={os.environ.get('KSRC', '')}"], tables.faults()
        names, covered = set(), False
    else:
        make = ["make", f"BASE={kernel}", "KSRC="]
        series = tables.kernels()[kernel]["series"]
        faults = tables.faults(series)
        names = {fault.name for fault in faults}
        covered = any(tables.holds_for(row["kernels"], kernel, series)
                      for row in tables.read("unreached"))
    report = f"build/{kernel}/report"
    yield Stage(f"{kernel} check", [*make, "check"], f"build/{kernel}/check/check.tap")
    again = ["AGAIN=1"] if more or first else []
    yield Stage(f"{kernel} run", [*make, "run", *again],
                f"{report}/tests/judgement.tap")
    yield Stage(f"{kernel} fuzz", [*make, "fuzz", f"PROGRAMS={FUZZ_PROGRAMS}"],
                f"{report}/fuzz/judgement.tap")
    if faults and (more or first):
        own = [] if more else ["OWN=1"]
        yield Stage(f"{kernel} faults", [*make, "faults", *own],
                    f"{report}/faults/judgement.tap")
    if not more:
        return
    yield Stage(f"{kernel} kselftest", [*make, "kselftest"],
                f"{report}/suite/judgement.tap")
    yield Stage(f"{kernel} debug-kernel", [*make, "debug-kernel"],
                f"{report}/debug/judgement.tap")
    yield Stage(f"{kernel} vmm", [*make, "vmm"], f"{report}/vmm/judgement.tap")
    yield Stage(f"{kernel} nested", [*make, "nested"], f"{report}/nested/judgement.tap")
    if kernel in STOCK:
        yield Stage(f"{kernel} host-test", [*make, "host-test", "STOCK=1"],
                    f"{report}/stock/judgement.tap")
    if VMM_FAULT in names:
        yield Stage(f"{kernel} vmm with a fault", [*make, "vmm", f"FAULT={VMM_FAULT}"],
                    f"{report}/vmm-part/caught.tap", fails=True)
    if covered:
        yield Stage(f"{kernel} coverage", [*make, "coverage"],
                    f"{report}/coverage/judgement.tap")
    if SUITE_FAULT in names:
        yield Stage(f"{kernel} kselftest with a fault",
                    [*make, "kselftest", f"FAULT={SUITE_FAULT}",
                     f"TESTS={SUITE_FAULT_TESTS}"],
                    f"{report}/suite-part/caught.tap", fails=True)


def stages(what, kernels):
    yield Stage("lint", ["make", "lint"], "build/lint/lint.tap")
    for kernel in kernels:
        yield from of_kernel(kernel, what == "test-all", kernel == kernels[0])


def state():
    """What tells two states of this tree apart."""
    def git(*args):
        done = subprocess.run(["git", "-c", "safe.directory=*", *args],
                              capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None

    tree, diff = git("rev-parse", "HEAD^{tree}"), git("diff", "HEAD")
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    if None in (tree, diff, new):
        return None		# no git: nothing is kept
    digest = hashlib.sha256(tree + diff)
    for path in sorted(filter(None, new.split(b"\0"))):
        digest.update(path + Path(os.fsdecode(path)).read_bytes())
    for variable in VARIABLES:
        digest.update(f"{variable}={os.environ.get(variable, '')}\n".encode())
    return digest.hexdigest()


class Runner:
    def __init__(self, what, kernels):
        self.stages = list(stages(what, kernels))
        self.keep = what == "test-all"
        self.state = state() if self.keep else None
        self.start = time.monotonic()
        self.seconds = {}
        self.kept = {}		# stage: when it was run

    def note(self, stage):
        return STAGES / f"{stage.name.replace(' ', '-')}.json"

    def noted(self, stage):
        """What is known of the last time that just this was run."""
        try:
            note = json.loads(self.note(stage).read_text())
            return note if note["command"] == stage.command else {}
        except (OSError, ValueError, KeyError):
            return {}

    def write_note(self, stage, note):
        self.note(stage).write_text(json.dumps(note))

    def progress(self, stage):
        """Which of them it is, the time so far, and what is left by the last run's."""
        at = self.stages.index(stage)
        last = [self.noted(one).get("seconds") for one in self.stages[at:]
                if not self.can_keep(one)]
        seconds = time.monotonic() - self.start
        unknown = last.count(None)
        return (f"{at + 1} of {len(self.stages)}, {clock(seconds)}"
                f"{left(sum(filter(None, last)))}"
                f"{f', not counting {unknown} that were never timed' if unknown else ''}")

    def run(self):
        STAGES.mkdir(parents=True, exist_ok=True)
        stopped = False
        try:
            for stage in self.stages:
                self.one(stage)
        except KeyboardInterrupt:
            stopped = True
        return self.summary(stopped)

    def one(self, stage):
        note = self.noted(stage)
        if self.can_keep(stage):
            self.kept[stage.name] = note["when"]
            self.seconds[stage.name] = note["seconds"]
            print(f"==== {stage.name}: kept, as it was on {note['when']}", flush=True)
            return
        print(painted(f"==== {stage.name}: {self.progress(stage)}", "bold"), flush=True)
        Path(stage.tap).unlink(missing_ok=True)
        # Until it has ended well, only how long it took the last time holds.
        if note:
            self.write_note(stage, {**note, "state": None})
        start = time.monotonic()
        status = children.run(stage.command)
        self.seconds[stage.name] = round(time.monotonic() - start)
        lines, problems = ktap.read_tap(stage.tap)
        good = not problems and all(line.ok for line in lines)
        if not problems:
            self.write_note(stage, {
                "name": stage.name, "command": stage.command,
                "state": self.state if good and (status == 0 or stage.fails) else None,
                "seconds": self.seconds[stage.name],
                "when": time.strftime("%Y-%m-%d %H:%M")})
        if good and status and not stage.fails:
            # All that it said is well, and yet it failed.
            with open(stage.tap, "a", encoding="utf-8") as tap:
                tap.write(f"Bail out! {' '.join(stage.command)}: status {status}\n")

    def can_keep(self, stage):
        """Whether it went well on what is here now, and is not to be run again."""
        lines, problems = ktap.read_tap(stage.tap)
        return bool(self.state and self.noted(stage).get("state") == self.state and
                    lines and not problems and not os.environ.get("FRESH"))

    def summary(self, stopped):
        """Every stage, what it counts and how long it took; and all that failed."""
        total = {"passed": 0, "failed": 0, "skipped": 0}
        bad = []
        print(f"\n  {'stage':<34} {'passed':>7} {'failed':>7} {'skipped':>7} "
              f"{'seconds':>8}")
        for stage in self.stages:
            n, wrong = count(stage, stage.name in self.seconds)
            bad += wrong
            for what in total:
                total[what] += n[what]
            took = self.seconds.get(stage.name, "not run")
            print(f"  {stage.name:<34} {n['passed']:>7} {n['failed']:>7} "
                  f"{n['skipped']:>7} {took:>8}"
                  f"{'  kept' if stage.name in self.kept else ''}")
        print(f"  {'':<34} {'':>7} {'':>7} {'':>7} "
              f"{clock(sum(self.seconds.values())):>8}\n")
        for line in bad:
            print(painted(line, "red"))
        text = f"{total['passed']} passed, {total['failed']} failed"
        if total["skipped"]:
            text += f", {total['skipped']} skipped"
        print(text, flush=True)
        if stopped:
            return 130
        return 1 if total["failed"] or not total["passed"] else 0


def count(stage, ran):
    """What a stage's TAP counts; what is wrong with the TAP counts as one failure."""
    if not ran:
        return {"passed": 0, "failed": 1, "skipped": 0}, \
            [f"not ok - {stage.name}: not run"]
    lines, problems = ktap.read_tap(stage.tap)
    bad = [f"not ok - {stage.name}: {line.name}" for line in lines if not line.ok]
    if problems:
        bad.append(f"not ok - {stage.name}: {stage.tap}: {'; '.join(problems)}")
    passed = [line for line in lines if line.ok and line.skip is None]
    skipped = [line for line in lines if line.ok and line.skip is not None]
    return {"passed": len(passed), "failed": len(bad), "skipped": len(skipped)}, bad


def count_files(*paths):
    """The sum of some TAP files; a file that is not there counts, by its name, as a
    failure."""
    runner = Runner.__new__(Runner)
    runner.stages = [Stage(path, [], path) for path in paths]
    runner.seconds, runner.kept = {path: 0 for path in paths}, {}
    return runner.summary(False)


def run(what, *kernels):
    unknown = set(kernels) - {"ksrc", *tables.kernels()}
    if what not in ("test", "test-all") or unknown or not kernels:
        raise Wrong(f"stages: test or test-all, and kernels; not {what} "
                    f"{' '.join(kernels)}")
    sys.stdout.reconfigure(line_buffering=True)
    return Runner(what, kernels).run()
