# SPDX-License-Identifier: GPL-2.0-only
"""What came of a plan: one record for each of its steps, arrived or not.

A verdict is "missing" until it arrives, and "crash" when its test began and the
host did not live to say how it ended; a figure is None until it arrives.
"""

import difflib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import ktap, plan as plans, tables
from .boot import Ending
from .errors import Wrong

POINT = re.compile(r"curve,(?P<name>[a-z0-9-]+),(?P<x>\d+),(?P<rounds>\d+),"
                   r"(?P<min>-?\d+),(?P<q1>-?\d+),(?P<n>-?\d+),(?P<q3>-?\d+),"
                   r"(?P<max>-?\d+),(?P<at_median>\d+)")
WORST_FIRST = ("crash", "fail", "missing", "skip", "pass")
NOTE = re.compile(r"(skipped|XFAIL|XPASS): ")


@dataclass
class Record:
    kernel: str
    machine: str
    boot: str
    variant: str
    name: str			# of the test or, of a step that is none, the step
    test: bool
    parameters: str = ""
    verdict: str = "missing"
    why: str = "no result arrived"
    seconds: float = None	# of guest time
    figures: dict = field(default_factory=dict)
    complaints: list = field(default_factory=list)
    modules: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    log: list = field(default_factory=list)


@dataclass
class Results:
    plan: plans.Plan
    endings: list
    records: list
    facts: dict			# boot: what init says of the host
    problems: dict		# boot: what is wrong with what it said

    def of(self, boot=None, variant=None, name=None, test=None):
        return [record for record in self.records
                if boot in (None, record.boot) and variant in (None, record.variant)
                and name in (None, record.name) and test in (None, record.test)]

    def record(self, test, variant):
        """What came of a test on a variant, in the boot that is not a repeat."""
        found = [record for record in self.of(variant=variant, name=test, test=True)
                 if record.boot != "again"]
        return found[0] if found else Record(
            self.plan.kernel, self.plan.machine, "", variant, test, True)

    def worst(self, test, variant):
        """A test's verdict on a variant that may be in more boots than one: the worse
        one counts.  None where the variant is not to run it."""
        if not self.plan.is_for(test, variant):
            return None
        return min((record.verdict for record in self.of(
            variant=variant, name=test.name, test=True)),
            key=WORST_FIRST.index, default="missing")

    def whole(self, boot):
        mine = [ending for ending in self.endings if ending.boot == boot]
        return bool(mine) and all(ending.whole for ending in mine)

    def instructions(self, boot):
        mine = [ending.instructions for ending in self.endings if ending.boot == boot]
        return mine[0] if len(mine) == 1 else None

    def fact(self, key, machine=None):
        for boot in self.plan.boots:
            if machine in (None, boot.machine) and key in self.facts.get(boot.name, {}):
                return self.facts[boot.name][key]
        return "unknown"

    def write(self, path):
        path.write_text(json.dumps(asdict(self)))


def skipped_cases(log):
    """Notes on the cases of a test that were skipped, e.g. for lack of a CPU feature."""
    for verdict, _, name, reason in filter(None, map(
            ktap.verdict_of, map(str.strip, log))):
        if verdict == "skip":
            yield f"skipped: {name + ': ' if name else ''}{reason}"


def read_figures(names, log):
    """The figures that a test is to print, of what it did print."""
    rows = {row["name"]: row for row in tables.read("figures")}
    figures = {}
    for name in names:
        pattern = re.compile(rows[name]["pattern"])
        found = [match for match in map(pattern.fullmatch, log) if match]
        figures[name] = figure_of(found) if found else None
    return figures


def read_points(names, log):
    """The same of the benchmark's curves; a point that is there twice is none."""
    found = [match for match in map(POINT.fullmatch, log) if match]
    at = [f"{match['name']} {match['x']}" for match in found]
    return {name: {key: int(value) for key, value in
                   found[at.index(name)].groupdict().items() if key != "name"}
            if at.count(name) == 1 else None for name in names}


def figure_of(matches):
    if "state" in matches[0].re.groupindex:
        return {"n": sum(int(match["n"]) for match in matches),
                "state": {match["name"]: f"{match['n']} states, {match['state']}"
                          for match in matches}}
    return {key: int(value) for key, value in matches[0].groupdict().items()}


class Collector:
    def __init__(self, plan, out):
        self.plan, self.out = plan, Path(out)
        self.results = Results(plan, [], [], {}, {})

    def collect(self):
        for boot in self.plan.boots:
            self.boot(boot)
        for test in self.plan.tests:
            self.unbuilt(test)
        return self.results

    def folders(self, boot):
        """Of the boot, and of those that went on where it ended before its time."""
        first = self.out / "boots" / boot.name
        number = 1
        while first.exists():
            yield first
            number += 1
            first = self.out / "boots" / f"{boot.name}.{number}"

    def boot(self, boot):
        problems = self.results.problems.setdefault(boot.name, [])
        groups, facts, why = {}, {}, ""
        for folder in self.folders(boot):
            said = ktap.read_boot(folder / "results.ktap")
            ending = self.ending(boot, folder)
            self.results.endings.append(ending)
            if not ending.whole:
                why = ending.why
                problems.append(ending.why)
            else:
                problems += said.problems
            facts.update(said.facts)
            for group in said.groups:
                if group.name == "boot":
                    self.reached(boot, group)
                elif group.name not in boot.variants:
                    problems.append(f"{group.name}: a variant that was not to run")
                elif group.name in groups:
                    problems.append(f"{group.name}: it ran twice")
                else:
                    groups[group.name] = group
        if not self.results.facts.setdefault(boot.name, facts):
            problems.append("it said nothing")
        for variant in boot.variants:
            self.variant(boot, variant, groups.get(variant, ktap.Group(variant)),
                         why, problems)

    def ending(self, boot, folder):
        try:
            return Ending(**json.loads((folder / "boot.json").read_text()))
        except (OSError, ValueError, TypeError):
            return Ending(boot.name, str(folder), False,
                          "it is not known how the boot ended")

    def reached(self, boot, group):
        record = Record(self.plan.kernel, boot.machine, boot.name, "boot",
                        "reached init", False)
        for result in group.results:
            self.take(record, result)
        self.results.records.append(record)

    @staticmethod
    def take(record, result):
        record.verdict, record.why = result.verdict, result.why
        record.seconds, record.complaints = result.seconds, result.complaints
        record.modules, record.log = result.modules, result.log
        record.notes = [*filter(NOTE.match, result.log), *skipped_cases(result.log)]

    def variant(self, boot, variant, group, why, problems):
        """Join a variant's steps with the results that came, by their order."""
        steps = boot.steps[variant]
        names = [step.name for step in steps]
        came = [result.name for result in group.results]
        of = {}
        matcher = difflib.SequenceMatcher(None, names, came, autojunk=False)
        for block in matcher.get_matching_blocks():
            for i in range(block.size):
                of[block.a + i] = group.results[block.b + i]
        taken = {id(result) for result in of.values()}
        problems += [f"{variant}: {result.name}: a result that was not to come"
                     for result in group.results if id(result) not in taken]
        for i, step in enumerate(steps):
            test = self.plan.test(step.name) if step.test else None
            record = Record(self.plan.kernel, boot.machine, boot.name, variant,
                            step.name, step.test,
                            test.parameters if test else "")
            if i in of:
                self.take(record, of[i])
            elif step.test and group.running == step.name:
                self.take(record, group.pending)
                record.verdict = "crash"
                record.why = why or "it began, and no verdict came"
            elif why:
                record.why = f"the boot ended before it: {why}"
            if test:
                read = read_points if self.plan.what == "bench" else read_figures
                record.figures = read(test.figures, record.log)
            self.results.records.append(record)

    def unbuilt(self, test):
        """A test that nothing was built of is in no boot, and is missing."""
        for variant in self.plan.variants:
            if self.plan.is_for(test, variant) and not self.results.of(
                    variant=variant, name=test.name, test=True):
                self.results.records.append(Record(
                    self.plan.kernel, test.machine, "", variant, test.name, True,
                    test.parameters, figures={name: None for name in test.figures},
                    why="it was not built" if not Path(test.file).exists()
                        else "it is in no boot"))


def collect(plan, out):
    return Collector(plan, out).collect()


def read(path):
    """The results in a file, of whatever plan."""
    try:
        data = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        raise Wrong(f"{path}: there are no results: run it first") from None
    try:
        return Results(plans.load(data["plan"]),
                       [Ending(**ending) for ending in data["endings"]],
                       [Record(**record) for record in data["records"]],
                       data["facts"], data["problems"])
    except (KeyError, TypeError, AttributeError):
        raise Wrong(f"{path}: these are no results of the rig as it is now") from None


def load(out):
    """The results in a folder, which have to be of the plan that is there."""
    path = Path(out) / "results.json"
    found = read(path)
    try:
        wanted = json.loads((Path(out) / "plan.json").read_text())["id"]
    except (OSError, ValueError):
        raise Wrong(f"{path}: there are no results: run it first") from None
    if found.plan.id != wanted:
        raise Wrong(f"{path}: these are the results of an earlier run")
    return found
