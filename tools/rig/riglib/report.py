# SPDX-License-Identifier: GPL-2.0-only
"""The last runs of all kernels, for a page that people look at and for CI servers.

What a run has said of itself is read from its folder in build/KERNEL/report, its
judgement with it, and nothing is judged anew.  Where a run was begun and nothing came
of it, or never begun, that is said: it is never as good as one that went well.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import coverage, ktap, results, stages, tables
from .errors import Wrong

BUILD = Path("build")
OUT = BUILD / "report"
# The folder of a run, and the target of make that it is of; flavours have one each.
TARGETS = {"tests": "run", "suite": "kselftest", "suite-part": "kselftest, a part",
           "faults": "faults", "fuzz": "fuzz", "bench": "bench",
           "debug": "debug-kernel", "coverage": "coverage", "nested": "nested",
           "kut": "vmm, kvm-unit-tests", "kut-part": "vmm, some kvm-unit-tests",
           "host": "host-test", "stock": "host-test, emulated",
           "vmm": "vmm",
           "vmm-part": "vmm, with a fault"}
# Runs of these are shown where there are any, and nobody is told that there are none:
# parts, and what takes a machine or a kernel of its own.
SELDOM = ("suite-part", "vmm-part", "kut", "kut-part", "host", "stock")
CONSOLE = 60			# lines of it, its last, where a boot went wrong


@dataclass
class Run:
    """A run of one target on one kernel, whatever has come of it."""
    kernel: str
    what: str			# a key of TARGETS
    out: Path
    flavour: str = ""
    found: results.Results = None
    measured: coverage.Coverage = None
    lines: list = field(default_factory=list)	# its judgement
    problems: list = field(default_factory=list)
    when: float = 0.0

    @property
    def name(self):
        return " ".join(filter(None, (TARGETS[self.what], self.flavour)))

    @property
    def bad(self):
        return [line for line in self.lines if not line.ok]

    @property
    def good(self):
        return bool(self.lines) and not self.bad and not self.problems

    def line_of(self, name):
        """What was judged of a test or a fault; None where that is missing."""
        return next((line for line in self.lines
                     if line.name.startswith(f"{name}: ")), None)

    def seconds(self):
        """Of wall-clock time, of all boots together."""
        return sum(ending.seconds for ending in self.found.endings)

    def consoles(self):
        """Of each boot that did not end well: (its name, why, its console's end)."""
        for ending in self.found.endings if self.found else ():
            if not ending.whole:
                path = self.out / "boots" / Path(ending.folder).name / "console.log"
                yield path, ending.why, ktap.text_of(path).split("\n")[-CONSOLE:]


def read_run(kernel, what, out, flavour=""):
    run = Run(kernel, what, out, flavour)
    try:
        run.found = results.load(out)
        run.when = (out / "results.json").stat().st_mtime
        if what == "coverage":
            run.measured = coverage.load(out)
    except Wrong as error:
        run.problems.append(str(error))
    # A fault in the place of the patched KVM has to be caught, and that is all.
    faulty = run.found and run.found.plan.patched != "patched" and \
        what in ("suite-part", "vmm-part")
    path = out / ("caught.tap" if faulty else "judgement.tap")
    run.lines, problems = ktap.read_tap(path)
    if run.found:
        run.problems += [f"{path}: {one}" for one in problems]
    return run


def gather(build=None):
    """All runs, by kernel: also of one that there are none of, but of a tree of the
    user's only where there are any."""
    runs = {}
    for kernel in [*tables.kernels(), "ksrc"]:
        report = (build or BUILD) / kernel / "report"
        if kernel != "ksrc" or report.is_dir():
            runs[kernel] = list(runs_of(kernel, report))
    if not any(run.found for of_kernel in runs.values() for run in of_kernel):
        raise Wrong(f"{build or BUILD}: no kernel has results: make run, or make test")
    return runs


def runs_of(kernel, report):
    for what in TARGETS:
        if what != "debug" and (report / what).is_dir():
            yield read_run(kernel, what, report / what)
    for flavour in tables.flavours("debug-kernel"):
        if (report / "debug" / flavour).is_dir():
            yield read_run(kernel, "debug", report / "debug" / flavour, flavour)


def stage_notes():
    """What the long targets have noted of their stages, the last one last."""
    notes = []
    for path in sorted(stages.STAGES.glob("*.json"), key=lambda one: one.stat().st_mtime):
        try:
            note = json.loads(path.read_text())
            notes.append((note.get("name", path.stem), note["seconds"], note["when"]))
        except (OSError, ValueError, KeyError):
            continue
    return notes


def day(seconds):
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if seconds else "-"


def replace(path, content):
    """Put a file there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)
