# SPDX-License-Identifier: GPL-2.0-only
"""Whether what came is what was expected: lines of TAP.

Expected, of a test on the unpatched and on the patched KVM:

pass	both pass
bug	it fails on the unpatched, and passes on the patched one
fail	both fail, for a reason that is known
skip	both skip, for a reason that is known
chance	each may pass, fail or skip: it is flaky here
unbuilt	it does not compile here

In a tree of the user's a bug may be mended, and what is said of other kernels need
not hold: there the two have to end the same way, or as a bug does.  On real VMX, a
test may skip on both.  Nowhere may a verdict be missing.
"""

import difflib
import re

from .ktap import Line
from .machines import MACHINES
from . import tables

ARRIVED = ("pass", "fail", "skip")


def reasons(*records):
    """Why, of what did not pass, and what the kernel said."""
    for record in records:
        if record.verdict != "pass":
            yield f"{record.variant}: {record.verdict}: {record.why}"
        for text in record.complaints:
            yield f"{record.variant}: the host kernel: {text}"


class Judge:
    def __init__(self, results):
        self.results, self.plan = results, results.plan
        self.lines = []

    def say(self, ok, text, details=(), skip=None):
        self.lines.append(Line(bool(ok), text, skip if ok else None,
                               [] if ok else list(details)))

    # ---- what every boot has to be

    def boots(self, may_crash=()):
        for boot in self.plan.boots:
            self.one_boot(boot, may_crash)

    def one_boot(self, boot, may_crash):
        records = [record for record in self.results.of(boot=boot.name)
                   if record.variant not in may_crash]
        problems = self.results.problems.get(boot.name, ["it was not booted"])
        if any(record.verdict == "crash"
               for record in self.results.of(boot=boot.name)
               if record.variant in may_crash):
            # That it ended before its time is said of the variant that did it.
            ends = {ending.why for ending in self.results.endings}
            problems = [problem for problem in problems if problem not in ends]
        self.say(not problems, f"{boot.name}: the boot has said all, to its end",
                 problems)
        self.modules(boot, records)
        # A test that is known to fail may fail by what the kernel says.
        loud = [record for record in records if record.complaints and
                not self.may_fail(record)]
        quiet = records and all(record.verdict in ARRIVED for record in records)
        self.say(quiet and not loud, f"{boot.name}: the host kernel did not complain",
                 [f"{record.name}: {text}" for record in loud
                  for text in record.complaints] or
                 ["not all of it has run"])

    def modules(self, boot, records):
        others = [record for record in records if not record.test]
        wrong = [record for record in others if record.verdict != "pass"]
        self.say(others and not wrong,
                 f"{boot.name}: the modules came and went, {len(others)} steps",
                 [f"{record.name}: {text}" for record in wrong
                  for text in reasons(record)] or ["there are no such steps"])

    def may_fail(self, record):
        test = self.plan.test(record.name) if record.test else None
        return bool(test) and (test.expect in ("fail", "chance") or
                               test.expect == "bug" and record.variant == "unpatched")

    # ---- unpatched against patched

    def pair(self, test):
        return tuple(self.results.record(test.name, variant)
                     for variant in ("unpatched", self.plan.patched))

    def good(self, test, u, p):
        """Whether a pair of verdicts is as expected."""
        if test.expect == "unbuilt":
            return {u, p} == {"missing"} or self.plan.lenient and u == p
        if test.expect == "chance":
            return u in ARRIVED and p in ARRIVED
        if u not in ARRIVED or p not in ARRIVED:
            return False
        if test.expect == "bug":
            return (u, p) == ("fail", "pass") or self.plan.lenient and u == p != "fail"
        if u != p:
            return False
        if self.plan.lenient:
            return u != "fail" or self.plan.what == "suite" and not test.ours
        return u == test.expect or (
            u == "skip" and not MACHINES[test.machine].emulated)

    def word(self, test, u, p):
        """What to say of a known failure, skip or bug that is no more."""
        if (u == p == "pass" and test.expect in ("fail", "skip") or
                u == "pass" and test.expect == "bug" or
                test.expect == "unbuilt" and "missing" not in (u, p)):
            known = {"bug": "fail unpatched", "unbuilt": "not compile"}.get(
                test.expect, test.expect)
            return f" - it is known to {known}, and does not: see tools/rig/tables"
        return ""

    def test(self, test, show=None):
        records = self.pair(test)
        u, p = (record.verdict for record in records)
        ok = self.good(test, u, p)
        text = show(test, u, p) if show else (
            f"{test.name}: {u} unpatched, {p} {self.plan.patched}")
        skip = None
        if ok and u == p and u in ("skip", "missing"):
            skip = test.reason or (records[0].why if show else "on both")
        self.say(ok, text + self.word(test, u, p), reasons(*records), skip)

    def readme(self, said, now):
        """What RESULTS says of this kernel, where it is about it."""
        wrong = [f"RESULTS: {row}" for row in said if row not in now]
        wrong += [f"now: {row}" for row in now if row not in said]
        self.say(now and not wrong,
                 "tools/rig/RESULTS has these figures (if not: make readme)", wrong)

    # ---- of the tests of the table

    def variants_differ(self, variants=None):
        versions = {}
        for record in self.results.of():
            if "kvm_intel" in record.modules:
                versions.setdefault(record.variant, set()).add(
                    record.modules["kvm_intel"])
        variants = variants or self.plan.variants
        sets = [versions.get(variant, set()) for variant in variants]
        self.say(all(len(one) == 1 for one in sets) and not set.intersection(*sets),
                 "the kvm-intel.ko of the two variants differ",
                 [f"{variant}: {', '.join(sorted(found)) or 'none was loaded'}"
                  for variant, found in zip(variants, sets)])

    def all_differ(self):
        """Of what was built differently, no two were loaded as the same."""
        loaded = {}
        for variant in self.plan.variants:
            one = {}
            for record in self.results.of(variant=variant):
                one.update(record.modules)
            loaded[variant] = one.get("kvm"), one.get("kvm_intel")
        wrong = [f"{variant}: {', '.join(filter(None, one)) or 'none was loaded'}"
                 for variant, one in loaded.items()
                 if None in one or list(loaded.values()).count(one) > 1]
        self.say(loaded and not wrong,
                 f"the modules of the {len(loaded)} variants differ", wrong)

    def notes(self):
        """A test that stops at a bug of the unpatched kernel gets to tell less."""
        u, p = (sorted({(record.name, note)
                        for record in self.results.of(variant=variant, test=True)
                        for note in record.notes})
                for variant in self.plan.variants)
        bugs = {test.name for test in self.plan.tests if test.expect == "bug"}
        wrong = [f"only unpatched: {name}: {note}" for name, note in u
                 if (name, note) not in p]
        wrong += [f"only patched: {name}: {note}" for name, note in p
                  if (name, note) not in u and name not in bugs]
        self.say(not wrong, f"both variants: {len({note for _, note in u + p})} things "
                 f"not reached", wrong)

    def figures(self):
        rows = {row["name"]: row for row in tables.read("figures")}
        expected = [(test, rows[name]) for test in self.plan.tests
                    for name in test.figures]
        for test, row in expected:
            u, p = (record.figures.get(row["name"]) for record in self.pair(test))
            what = row["what"].format(**{"of": "?", **(u or {}), **(p or {})})
            unit = unit_of(row, self.plan)
            if u is None or p is None:
                self.say(False, f"{what}: missing, in {unit}",
                         [f"{test.name} printed none on the {variant} KVM"
                          for variant, value in (("unpatched", u), ("patched", p))
                          if value is None])
                continue
            ok = {"less": p["n"] < u["n"], "at-most": p["n"] <= u["n"],
                  "same": p == u}[row["rule"]]
            self.say(ok, f"{what}: {p['n']} {unit} patched, {u['n']} unpatched",
                     [{"less": "it has to be less than unpatched",
                       "at-most": "it must not be more than unpatched",
                       "same": f"they differ: {u} {p}"}[row["rule"]]])

    def again(self):
        """Emulation is exact: anything else is a change nobody made."""
        first = self.plan.boots[0].name
        if "again" not in {boot.name for boot in self.plan.boots}:
            return
        pairs = [{(record.variant, i): record for i, record in enumerate(
            self.results.of(boot=boot))} for boot in (first, "again")]

        def same(what, value):
            one, other = ([value(record) for record in boot.values()]
                          for boot in pairs)
            wrong = [f"{a.variant} {a.name}: {value(a)}, then {value(b)}"
                     for a, b in zip(pairs[0].values(), pairs[1].values())
                     if value(a) != value(b)]
            self.say(one and one == other, f"same {what} in both boots",
                     wrong or ["one of them did not run"])

        same("verdicts", lambda record: (record.name, record.verdict))
        if not self.plan.exact:
            return
        same("figures", lambda record: record.figures)
        one, two = (self.results.instructions(boot) for boot in (first, "again"))
        self.say(one is not None and one == two,
                 f"same instructions in both boots: {one} and {two}",
                 ["they differ, or one of them was not counted"])


def unit_of(row, plan):
    return plan.cpu_time if row["unit"] == "cost" else row["unit"]


def judge_tests(results, readme=None):
    """Of "make run"; readme, what RESULTS says of it, where that is about it."""
    judge = Judge(results)
    for test in results.plan.tests:
        judge.test(test)
    judge.boots()
    judge.variants_differ()
    judge.notes()
    judge.figures()
    if readme:
        judge.readme(*readme)
    judge.again()
    return judge.lines


def suite_line(test, u, p):
    both = f"{u} on both" if u == p else f"{u} unpatched, {p} patched"
    return f"{test.name}: {both}"


def judge_suite(results, readme=None):
    judge = Judge(results)
    for test in results.plan.tests:
        judge.test(test, suite_line)
    judge.boots()
    if readme:
        judge.readme(*readme)
    return judge.lines


def caught_by(results):
    """The tests that tell a fault from the unpatched kernel: one that fails there as
    well has not caught anything."""
    plan = results.plan
    return [test.name for test in plan.tests
            if results.record(test.name, "unpatched").verdict == "pass" and
            results.record(test.name, plan.patched).verdict in ("fail", "crash")]


def judge_caught(results):
    """With FAULT=, it has to fail."""
    judge = Judge(results)
    by = caught_by(results) if results.plan.patched != "patched" else []
    judge.say(by, f"with the fault {results.plan.patched}: caught by "
              f"{', '.join(by) or 'nobody'}")
    return judge.lines


# ---- the benchmark's curves

def judge_bench(results):
    """All that was to be measured was, of what was to be loaded."""
    judge, plan = Judge(results), results.plan
    for variant in plan.variants:
        record = results.record("bench", variant)
        judge.say(record.verdict == "pass", f"{variant}: bench: {record.verdict}",
                  reasons(record))
        for curve in tables.read("curves"):
            names = tables.points(curve).values()
            missing = [name for name in names if not record.figures.get(name)]
            judge.say(not missing, f"{variant}: {curve['name']}: "
                      f"{len(names) - len(missing)} of {len(names)} points",
                      [f"missing: {name}" for name in missing])
    judge.boots()
    judge.all_differ()
    return judge.lines


# ---- kernels that are built to complain, or otherwise

# What differs between two reports of the same thing.
VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,16}\b|\b[0-9]+\b|/[0-9a-f]+\b")


def essence(complaint):
    what, race, functions = VARYING.sub("#", complaint.strip()).partition("data-race in ")
    return what + race + " / ".join(sorted(functions.split(" / ")))


class FlavourJudge(Judge):
    """Of a flavour it is enough that the patched KVM is no worse: what both complain
    of is said, and is not the series' doing."""

    def __init__(self, results):
        super().__init__(results)
        self.known = {essence(text) for record in results.of(variant="unpatched")
                      for text in record.complaints}
        self.both = "unpatched" in self.plan.variants
        ours = tables.flavours()[self.plan.flavour]["ours"]
        self.ours = re.compile("" if ours == "*" else ours)

    def news(self, *records):
        """What a variant complains of, and the unpatched KVM does not; and which is
        not what any KVM may complain of by chance."""
        return [f"{record.name}: {text}" for record in records
                for text in record.complaints
                if essence(text) not in self.known and self.ours.search(text)]

    def no_worse(self, record):
        return record.verdict == "pass" or (
            record.verdict == "fail" and record.complaints and
            record.why.endswith("in the kernel's log") and not self.news(record))

    def test(self, test, show=None):
        u, p = self.pair(test)
        ok = self.no_worse(p)
        text = f"{test.name}: {p.verdict} patched"
        if self.both:
            # A bug need not show on a kernel that is so much slower.
            ok = ok and u.verdict in ARRIVED and (
                test.expect == "bug" or self.no_worse(u))
            text = f"{test.name}: {u.verdict} unpatched, {p.verdict} patched"
        self.say(ok, text, reasons(*((u, p) if self.both else (p,))))

    def one_boot(self, boot, may_crash):
        variant = boot.variants[0]
        records = self.results.of(boot=boot.name, variant=variant)
        problems = self.results.problems.get(boot.name, ["it was not booted"])
        self.say(not problems, f"{boot.name}: the boot has said all, to its end",
                 problems)
        if not self.plan.built_in:
            self.modules(boot, records)
        news = self.news(*records, *self.results.of(boot=boot.name, variant="boot"))
        arrived = records and all(record.verdict in ARRIVED for record in records)
        what = "unpatched" if variant == "unpatched" else "patched"
        if what == "unpatched":
            said = sorted({essence(text) for record in records
                           for text in record.complaints})
            self.say(arrived, f"{boot.name}: {len(said)} complaints of the host kernel",
                     ["not all of it has run"])
        else:
            self.say(arrived and not news,
                     f"{boot.name}: no complaint of the host kernel that is new",
                     news or ["not all of it has run"])

    def fault(self, fault, why):
        if why is not None:
            self.say(self.plan.lenient, f"{fault.name}: does not build", [why], why)
            return
        records = self.results.of(boot=fault.name, variant=fault.name)
        news = self.news(*records)
        by = [record.name for record in records if record.test and
              record.verdict in ("fail", "crash") and
              self.results.record(record.name, "patched").verdict == "pass"]
        self.say([text for text in news if re.search(fault.says, text)],
                 f"{fault.name}: caught by {', '.join(by) or 'nobody'}",
                 [f"the kernel is to say \"{fault.says}\": {fault.what}",
                  *(news or ["it has said nothing new"])])


def judge_flavour(results, faults=(), left_out=()):
    """A flavour of the host kernel: what it has to have, the tests, the boots, and
    the faults that it is to complain of."""
    judge, plan = FlavourJudge(results), results.plan
    row = tables.flavours()[plan.flavour]
    judge.say(not plan.lacks, f"the kernel has {', '.join(row['needs'])}",
              [f"it lacks {', '.join(plan.lacks)}"])
    if not row["boots"]:
        wanted = {"kvm.ko", "kvm-intel.ko"}
        judge.say(wanted <= set(plan.kept), "kvm.ko and kvm-intel.ko were built",
                  [f"there is no {name}" for name in sorted(wanted - set(plan.kept))])
        return judge.lines
    for test in plan.tests:
        judge.test(test)
    for boot in plan.boots:
        if boot.variants[0] in ("unpatched", "patched"):
            judge.one_boot(boot, ())
    if judge.both:
        judge.variants_differ(("unpatched", "patched"))
    for fault in faults:
        judge.fault(fault, dict(left_out).get(fault.name))
    return judge.lines


# ---- a VMM that people use

def judge_vmm(results):
    """The VMM sees no difference between the variants, nor do its guests."""
    said = [results.record("vmm", variant).log for variant in results.plan.variants]
    sides = {"-": "unpatched", "+": "patched"}
    different = [f"only {sides[line[0]]}: {line[2:]}"
                 for line in difflib.ndiff(*said) if line[0] in sides]
    return judge_flavour(results) + [Line(
        said[0] == said[1] and any(line.startswith("nested: ok: ") for line in said[0]),
        "both variants say the same of the VMM and its guests", None,
        different or [f"{len(log)} lines" for log in said])]


# ---- which lines and branches of KVM the tests run

def judge_coverage(results, coverage):
    """What is not run has to be in the table unreached, and only that."""
    judge, plan = Judge(results), results.plan
    judge.say(not plan.lacks, "the kernel counts", [f"it lacks {', '.join(plan.lacks)}"])
    for test in plan.tests:
        record = results.record(test.name, "patched")
        judge.say(record.verdict == "pass", f"{test.name}: {record.verdict} patched",
                  reasons(record))
    judge.boots()
    for boot in plan.boots:
        wrong = coverage.problems.get(boot.name, ["it was not asked"])
        judge.say(not wrong, f"{boot.name}: what it has counted came, whole", wrong)
    judge.say(not coverage.lacking, "all functions of the table coverage are counted",
              [f"{name} is not" for name in coverage.lacking])
    judge.say(any(not function.whole for function in coverage.functions),
              "lines of the series are counted", ["there are none"])
    for function in coverage.functions:
        left = [line for line in function.lines if line.misses]
        unknown = [line.said() for line in left if not line.reason]
        judge.say(not unknown, f"{function.file}: {function.name}: "
                  f"{function.ran()} of {len(function.lines)} lines, "
                  f"{function.taken()} of {function.branches()} branches"
                  f"{', the rest is known' if left and not unknown else ''}", unknown)
    if not plan.lenient and plan.exact:
        judge.say(not coverage.stale, "the table unreached has nothing that is reached "
                  "or not there", coverage.stale)
    for file, lines in coverage.svm.items():
        judge.say(True, f"{file}: {lines} lines", skip="no AMD host runs here")
    return judge.lines


# ---- faults

def fault_verdict(results, name, caught):
    """Whether a variant with a fault was caught by whom it has to, and by whom."""
    records = results.of(variant=name)
    tests = [record for record in records if record.test]
    by = list(dict.fromkeys(record.name for record in tests
                            if record.verdict in ("fail", "crash")))
    crashed = [record for record in tests if record.verdict == "crash"]
    said = f"{name}: caught by {', '.join(by) or 'nobody'}"
    if not records or all(record.boot == "" for record in records):
        return False, f"{name}: was not built", []
    wrong = [record for record in records if not record.test and
             record.verdict != "pass"]
    missing = [record for record in tests if record.verdict == "missing"]
    if any("BOOT_LIMIT" in record.why for record in crashed):
        return False, f"{name}: its boot took too long, which says nothing of it", \
            list(reasons(*crashed))
    if crashed:
        said += f" ({crashed[0].why})"
    elif wrong:
        return False, f"{name}: does not load or unload: {wrong[0].name}", \
            list(reasons(*wrong))
    elif missing:
        return False, f"{name}: {len(missing)} verdicts are missing", \
            list(reasons(*missing))
    kunit = any("kunit" in test for test in by)
    selftests = any("kunit" not in test for test in by)
    return {"nobody": not by, "KUnit": kunit, "selftests": selftests,
            "selftests and KUnit": kunit and selftests}[caught], said, \
        [f"it has to be caught by {caught}", *reasons(*crashed)]


def none_to_run(what, folder):
    return Line(True, f"{what}: there are none for {folder}", f"no {what}")


def judge_faults(results, faults, left_out=()):
    """A line for each fault; left_out, those that do not build and why."""
    judge = Judge(results)
    planned = set(results.plan.variants)
    for fault in faults:
        why = dict(left_out).get(fault.name)
        if why is not None:
            # In a tree of the user's there may be other lines than a fault wants.
            judge.say(results.plan.lenient, f"{fault.name}: does not build", [why],
                      why)
        elif fault.name not in planned:
            judge.say(False, f"{fault.name}: was not run")
        else:
            ok, said, details = fault_verdict(results, fault.name, fault.caught_by)
            if ok and fault.caught_by == "nobody":
                said += f", as nobody can: {fault.what}"
            judge.say(ok, said, details)
    records = results.of(variant="patched")
    bad = [record for record in records if record.verdict not in ("pass", "skip")]
    judge.say(records and not bad, "patched: caught by nobody",
              [f"{record.name}: {text}" for record in bad
               for text in reasons(record)] or ["it has not run"])
    judge.boots(may_crash=[fault.name for fault in faults])
    return judge.lines
