# SPDX-License-Identifier: GPL-2.0-only
"""The one reader of TAP and KTAP: what guest/init.c says of a boot, and what our
own checks and judgements say.

Nothing is taken for granted.  A file has to begin, count and end as it should;
where it does not, that is among its problems, and what it does hold is still read.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

VERDICT = re.compile(r"(not )?ok ([0-9]+) (?:- )?(.*)")
PLAN = re.compile(r"1\.\.([0-9]+)")
FACT = re.compile(r"# rig: ([a-z ]+): (.*)")
TOTALS = re.compile(r"pass ([0-9]+) fail ([0-9]+) skip ([0-9]+)")
SKIP = " # SKIP"


@dataclass
class Result:
    """A verdict, and what was said since the one before."""
    name: str
    verdict: str
    number: int = 0
    why: str = ""
    seconds: float = None
    complaints: list = field(default_factory=list)
    modules: dict = field(default_factory=dict)
    log: list = field(default_factory=list)


@dataclass
class Group:
    """What one variant's results are."""
    name: str
    results: list = field(default_factory=list)
    running: str = ""		# a test that began, and has no verdict
    plan: int = None
    verdict: str = ""
    pending: Result = None	# what was said since the last verdict


@dataclass
class Boot:
    """What a boot has said."""
    facts: dict = field(default_factory=dict)
    groups: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    ended: bool = False


@dataclass
class Line:
    """A line of TAP with what stands under it."""
    ok: bool
    name: str
    skip: str = None
    details: list = field(default_factory=list)


def verdict_of(line):
    """(verdict, number, name, reason of a skip) of an "ok" or "not ok" line."""
    match = VERDICT.fullmatch(line)
    if not match:
        return None
    name, marked, reason = match[3].partition(SKIP)
    verdict = "fail" if match[1] else "skip" if marked else "pass"
    return verdict, int(match[2]), name, reason.strip()


class BootReader:
    def __init__(self):
        self.boot = Boot()
        self.group = None
        self.plan = None
        self.counts = {"pass": 0, "fail": 0, "skip": 0}

    def problem(self, text):
        self.boot.problems.append(text)

    def read(self, text):
        if not text:
            self.problem("there are no results")
            return self.boot
        # At "\n" only: a test may print what Python takes for the end of a line.
        lines = text.split("\n")
        if lines.pop():
            self.problem("the last line is cut short")
        if not lines or lines[0] != "KTAP version 1":
            self.problem("it does not begin with \"KTAP version 1\"")
        for number, line in enumerate(lines, 1):
            if self.boot.ended:
                self.problem(f"line {number}: there is more behind the totals")
                break
            if not (self.inner(line[4:]) if line.startswith("    ")
                    else self.outer(line)):
                self.problem(f"line {number} is not understood: {line[:60]}")
        self.close_group()
        if not self.boot.ended:
            self.problem("it ends without the totals")
        return self.boot

    def close_group(self):
        group, self.group = self.group, None
        if not group:
            return
        if group.plan is None:
            self.problem(f"{group.name}: it ends without its plan")
        elif group.plan != len(group.results):
            self.problem(f"{group.name}: {len(group.results)} results, and its plan "
                         f"says {group.plan}")
        if not group.verdict:
            self.problem(f"{group.name}: it ends without a verdict")
        elif (group.verdict == "fail") != any(
                result.verdict == "fail" for result in group.results):
            self.problem(f"{group.name}: its verdict is not that of its tests")

    def outer(self, line):
        if line == "KTAP version 1":
            return True
        if line.startswith("Bail out!"):
            self.problem(f"init gave up: {line[len('Bail out!'):].strip()}")
            return True
        if PLAN.fullmatch(line):
            self.plan = int(line[3:])
            return True
        fact = FACT.fullmatch(line)
        if fact:
            if fact[1] == "totals":
                self.end(fact[2])
            else:
                self.boot.facts[fact[1]] = fact[2]
            return True
        verdict = verdict_of(line)
        if not verdict:
            return False
        if not self.group or verdict[2] != self.group.name:
            self.problem(f"a verdict of {verdict[2]}, which did not run just now")
        else:
            self.group.verdict = verdict[0]
        if verdict[1] != len(self.boot.groups):
            self.problem(f"{verdict[2]}: group {verdict[1]} is the "
                         f"{len(self.boot.groups)}. here")
        self.close_group()
        return True

    def end(self, totals):
        self.close_group()
        if self.plan is None:
            self.problem("there is no plan before the totals")
        elif self.plan != len(self.boot.groups):
            self.problem(f"{len(self.boot.groups)} groups, and the plan says "
                         f"{self.plan}")
        match = TOTALS.fullmatch(totals)
        said = dict(zip(self.counts, map(int, match.groups()))) if match else {}
        if said != self.counts:
            self.problem(f"the totals are {totals}, and there are " + " ".join(
                f"{what} {n}" for what, n in self.counts.items()))
        self.boot.ended = True

    def inner(self, line):
        if line.startswith("# Subtest: "):
            self.close_group()
            self.group = Group(line[len("# Subtest: "):])
            self.group.pending = Result("", "missing")
            if self.group.name in {group.name for group in self.boot.groups}:
                self.problem(f"{self.group.name}: it is there twice")
            self.boot.groups.append(self.group)
            return True
        if line == "KTAP version 1":
            return True
        if not self.group:
            return False
        pending = self.group.pending
        if line.startswith("# | ") or line == "# |":
            pending.log.append(line[4:].rstrip("\r"))
            return True
        fact = FACT.fullmatch(line)
        if fact:
            return self.fact(fact[1], fact[2])
        if PLAN.fullmatch(line):
            self.group.plan = int(line[3:])
            return True
        verdict = verdict_of(line)
        if not verdict:
            return False
        pending.verdict, pending.number, pending.name, reason = verdict
        if pending.verdict == "skip":
            pending.why = reason
        if self.group.running and self.group.running != pending.name:
            self.problem(f"{self.group.name}: {self.group.running} began, and "
                         f"{pending.name} ended")
        if pending.number != len(self.group.results) + 1:
            self.problem(f"{self.group.name}: {pending.name} has number "
                         f"{pending.number}, and is the "
                         f"{len(self.group.results) + 1}.")
        if pending.seconds is None:
            self.problem(f"{self.group.name}: {pending.name}: no time is said")
        self.counts[pending.verdict] += 1
        self.group.results.append(pending)
        self.group.running = ""
        self.group.pending = Result("", "missing")
        return True

    def fact(self, key, value):
        pending = self.group.pending
        if key == "running":
            if self.group.running:
                self.problem(f"{self.group.name}: {self.group.running} has no "
                             f"verdict")
            self.group.running = value
        elif key == "took":
            try:
                pending.seconds = float(value)
            except ValueError:
                self.problem(f"{self.group.name}: {value} is no time")
        elif key == "why":
            pending.why = value
        elif key in ("kernel", "lost"):
            pending.complaints.append(value)
        elif key == "module":
            name, _, version = value.partition(" version ")
            pending.modules[name] = version
        elif key == "left out":
            pending.log.append(f"[{value} bytes left out]")
        else:
            return False
        return True


def text_of(path):
    """A file's text; nothing where there is no file."""
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def read_boot(path):
    return BootReader().read(text_of(path))


def read_tap(path):
    """The lines of a TAP file, and its problems."""
    lines, problems, plan = [], [], None
    for text in text_of(path).split("\n"):
        if PLAN.fullmatch(text):
            if plan is not None:
                problems.append("it has two plans")
            plan = int(text[3:])
            continue
        if text.startswith("Bail out!"):
            problems.append(text)
            continue
        verdict = verdict_of(text)
        if verdict:
            if verdict[1] != len(lines) + 1:
                problems.append(f"number {verdict[1]} is the {len(lines) + 1}.")
            lines.append(Line(verdict[0] != "fail", verdict[2],
                              verdict[3] if verdict[0] == "skip" else None))
        elif lines and text.startswith("    # "):
            lines[-1].details.append(text[6:])
    if plan is None or not lines:
        problems.append("it has no plan" if lines else "there are no results")
    elif plan != len(lines):
        problems.append(f"{len(lines)} results, and its plan says {plan}")
    return lines, problems
