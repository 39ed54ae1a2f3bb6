# SPDX-License-Identifier: GPL-2.0-only
"""Tables of text: what "make run", "make kselftest" and "make faults" print."""

import csv
import io
import re

from .. import tables
from ..judge import unit_of

ASSERTION = re.compile(r"  [^ ]*\.[ch]:[0-9]+: ")
# Of a test, on a kernel that is made wrong
MARKS = {"fail": "x", "crash": "!", "skip": "-", "pass": ".", "missing": "?"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def built_of(plan):
    """The kernel and the patches of a run, and the commit of the latter."""
    folder = "next" if plan.series == "next" else "stable"
    return f"{plan.version}, patches/{folder} at {plan.commit}"


def head(results):
    plan = results.plan
    return [f"  kernel  {built_of(plan)}",
            f"  CPU     {results.fact('host cpu', plan.machine)}",
            f"  VMX     {plan.vmx}"]


def figures(results):
    """(what, unit, unpatched, patched) of each figure that is a number; None where
    it is missing."""
    found = []
    for row in tables.read("figures"):
        for test in results.plan.tests:
            if row["name"] not in test.figures or row["rule"] == "same":
                continue
            u, p = (results.record(test.name, variant).figures.get(row["name"])
                    for variant in ("unpatched", results.plan.patched))
            what = row["what"].format(**{"of": "?", **(u or {}), **(p or {})})
            found.append((what, unit_of(row, results.plan),
                          u["n"] if u else None, p["n"] if p else None))
    return found


def change(u, p):
    return f"{(p - u) * 100 / u:+.1f} %" if u and p is not None else ""


def number(value):
    return "missing" if value is None else str(value)


def spreads(results):
    """How far apart the rounds of each cost were, where the machine is not exact."""
    for variant in results.plan.variants if not results.plan.exact else ():
        for record in results.of(variant=variant, test=True):
            for figure in record.figures.values():
                if figure and "ranges" in figure:
                    yield (f"  {variant}, {figure['ranges']} ranges: "
                           f"{figure['rounds']} rounds, from {figure['min']} to "
                           f"{figure['max']}")


def counts(results, lines):
    """How many verdicts of the tests there are of each kind."""
    records = [record for record in results.of() if record.variant != "boot"]
    n = {verdict: sum(record.verdict == verdict for record in records)
         for verdict in ("pass", "fail", "skip", "crash", "missing")}
    text = ", ".join(f"{count} {verdict}" for verdict, count in n.items()
                     if count or verdict in ("pass", "fail"))
    wrong = sum(not line.ok for line in lines)
    return (f"{text}, modules included; "
            f"{wrong or 'none'} of {len(lines)} judgements unexpected")


def of_tests(results, lines):
    """The table of "make run"."""
    plan = results.plan
    text = ["KVM with MSR filters, unpatched against patched", "", *head(results), "",
            f"  {'test':<54} {'unpatched':>9} {'patched':>9}"]
    for test in plan.tests:
        u, p = (results.record(test.name, variant).verdict
                for variant in plan.variants)
        text.append(f"  {test.name:<54} {u:>9} {p:>9}")
    text += ["", f"  {'cost of a filter change':<54} {'unpatched':>9} {'patched':>9}"]
    for what, unit, u, p in figures(results):
        named = what if what.startswith(unit) else f"{what}, in {unit}"
        text.append(f"  {named:<54} {number(u):>9} {number(p):>9} "
                    f"{change(u, p) if unit != 'merges' else '':>9}".rstrip())
    text += [*spreads(results), "", f"  {counts(results, lines)}"]
    for boot in plan.boots:
        instructions = results.instructions(boot.name)
        took = [ending.seconds for ending in results.endings
                if ending.boot == boot.name]
        text.append(f"  boot {boot.name}: {sum(took):.0f} s" + (
            f", {instructions} instructions" if instructions else ""))
    bugs = [test.name for test in plan.tests if test.expect == "bug"]
    if bugs:
        why = ("fails unpatched, unless its bug is mended in this tree"
               if plan.lenient else
               "fails unpatched, for that is the bug it is there to find")
        text += ["", f"  {why}:", f"    {' '.join(bugs)}"]
    notes = list(dict.fromkeys(note for record in results.of(test=True)
                               for note in record.notes))
    if notes:
        text += ["", "  what the tests could not reach:",
                 *(f"    {note}" for note in notes)]
    text += complaints(results)
    return "\n".join(text) + "\n"


def complaints(results):
    said = [f"    {record.variant} {record.name}: {text}"
            for record in results.of() for text in record.complaints]
    return ["", "  the host kernel complained:", *said] if said else []


def benchmark(results):
    """The costs, as CSV."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    keys = ("ranges", "rounds", "min", "n", "max", "at_median")
    table.writerow(["kernel", "vmx", "unit", "variant", "ranges", "rounds", "min",
                    "median", "max", "rounds_at_median"])
    plan = results.plan
    for record in results.of(test=True):
        for figure in record.figures.values():
            if record.boot != "again" and figure and "ranges" in figure:
                table.writerow([results.fact("host kernel"), plan.machine,
                                plan.cpu_time, record.variant,
                                *(figure[key] for key in keys)])
    return out.getvalue()


# ---- KVM's own suite

def why(record):
    """Why it is no pass: what the kernel said, or the time, or the test itself."""
    if record.verdict == "pass":
        return ""
    if record.complaints:
        return record.complaints[0].strip()
    if record.verdict not in ("fail", "skip") or re.match(
            r"still ran|killed by|SIGKILL", record.why):
        return record.why
    # An assertion that does not hold, or a requirement that is not met.
    words = [line for line in record.log if ASSERTION.match(line)]
    words = words or [line.split("# SKIP", 1)[1] for line in record.log
                      if "# SKIP" in line]
    words = words or [line for line in record.log if ", skipping" in line]
    last = record.log[-1:] if record.verdict == "skip" else [record.why]
    text = (words or last or [record.why])[0]
    return re.sub(r"\s+", " ", text).strip(" -")


def known(test, u, p):
    """Why a test is known not to pass, or to pass on one of the two alone."""
    if test.expect == "bug":
        return "a bug that the series mends"
    if test.expect in ("fail", "skip", "unbuilt") or \
            test.expect == "chance" and "fail" in (u.verdict, p.verdict):
        return test.reason
    return ""


class SuiteRows:
    """The tests of a suite's run, with what is to be said of each."""

    KINDS = (("its own suite", "its own", lambda test: "@" not in test.name),
             ("of a newer one", "borrowed of {borrows}",
              lambda test: "@" in test.name and test.machine != "svm"),
             ("on an AMD host", "on an AMD host", lambda test: test.machine == "svm"))

    def __init__(self, results, lines):
        self.rows = []
        for test, line in zip(results.plan.tests, lines):
            u, p = (results.record(test.name, variant)
                    for variant in results.plan.variants)
            self.rows.append((test, u, p, line.ok, known(test, u, p) or why(u) or why(p)))

    def counts(self, kind):
        """How many run, pass, skip and fail alike, fail only unpatched as they have
        to, and are not as expected."""
        n = {"run": 0, "pass": 0, "skip": 0, "fail": 0, "bug": 0, "wrong": 0}
        for test, u, p, ok, _ in self.rows:
            if not kind(test) or test.expect == "unbuilt" and ok:
                continue
            n["run"] += 1
            if not ok:
                n["wrong"] += 1
            elif test.expect == "chance" and u.verdict != p.verdict:
                n["fail"] += 1
            else:
                n[u.verdict if u.verdict == p.verdict else "bug"] += 1
        return n

    def seconds(self, u, p):
        took = p.seconds if p.seconds is not None else u.seconds
        return "-" if took is None else f"{took:.2f}"

    def of_readme(self, kernel, borrows):
        for _, what, kind in self.KINDS:
            n = self.counts(kind)
            if n["run"]:
                yield (kernel, what.format(borrows=borrows), *map(str, n.values()))


def suite_counts(rows):
    for what, _, kind in SuiteRows.KINDS:
        n = rows.counts(kind)
        if not n["run"]:
            continue
        text = (f"  {what}: {n['run']} tests, {n['pass']} pass on both, {n['skip']} "
                f"skip, {n['fail']} fail alike")
        if n["bug"]:
            text += f", {n['bug']} fail only unpatched, as they have to"
        yield text + (f"; {n['wrong']} unexpected" if n["wrong"]
                      else "; all as expected")


def of_suite(results, lines):
    """The table of "make kselftest"."""
    plan = results.plan
    rows = SuiteRows(results, lines)
    text = [f"KVM's own selftests, unpatched against {plan.patched}", "",
            *head(results)]
    if any(boot.machine == "svm" for boot in plan.boots):
        text.append(f"  AMD     {results.fact('host cpu', 'svm')}, SVM emulated by it")
    text += ["", *suite_counts(rows), "",
             f"  {'unpatched':<10} {'patched':<9} {'seconds':>9}  test, and why it is "
             f"no pass; seconds of guest time"]
    for test, u, p, ok, reason in rows.rows:
        text.append(f"  {u.verdict:<10} {p.verdict:<9} {rows.seconds(u, p):>9}  "
                    f"{test.name}{f': {reason}' if reason else ''}"
                    f"{'' if ok else '  <-- UNEXPECTED'}")
    return "\n".join([*text, *complaints(results)]) + "\n"


def logs(results, lines, length=30):
    """Both logs of each test that is not as expected, of the suite."""
    text = []
    for test, line in zip(results.plan.tests, lines):
        if line.ok:
            continue
        for variant in results.plan.variants:
            record = results.record(test.name, variant)
            text += ["", f"{test.name}, {variant}: {record.verdict} {record.why}",
                     *(f"    {one}" for one in record.log[-length:])]
    return "\n".join(text)


# ---- kernels that are built to complain, or otherwise

def of_flavour(results, lines):
    """The table of one kernel of "make debug-kernel"."""
    plan = results.plan
    text = [f"{plan.flavour}: the tests on a host kernel with "
            f"{' '.join(tables.flavours()[plan.flavour]['needs'])}", "",
            *head(results), ""]
    real = [name for name in plan.variants if name in ("unpatched", "patched")]
    if plan.tests:
        text.append(f"  {'test':<54} " + " ".join(f"{name:>9}" for name in real))
    for test in plan.tests:
        text.append(f"  {test.name:<54} " + " ".join(
            f"{results.record(test.name, name).verdict:>9}" for name in real))
    for boot in plan.boots:
        took = [ending.seconds for ending in results.endings
                if ending.boot == boot.name]
        text.append(f"  boot {boot.name}: {sum(took):.0f} s")
    wrong = sum(not line.ok for line in lines)
    text.append(f"  {wrong or 'none'} of {len(lines)} judgements unexpected")
    return "\n".join(text + complaints(results)) + "\n"


def of_vmm(results):
    """What guest/vmm.c has seen on the patched KVM."""
    return "".join(f"  {line}\n" for line in
                   results.record("vmm", results.plan.patched).log)


# ---- faults

def matrix(results, faults):
    """Faults against tests."""
    tests = results.plan.tests
    names = [test.name for test in tests]
    marks = {**MARKS, None: " "}
    text = ["faults against tests: x caught, ! the host did not live, . not caught,",
            "- skipped, ? missing; blank: of another host", ""]
    text += [f"  {LETTERS[i]} {name}" for i, name in enumerate(names)]
    text += ["", f"  {'':<28} {' '.join(LETTERS[:len(names)])}"]
    for name, what in [("patched", "the series, as it is"),
                       *((fault.name, fault.what) for fault in faults)]:
        row = [marks[results.worst(test, name)] for test in tests]
        text.append(f"  {name:<28} {' '.join(row)}  {what}")
        if name == "patched":
            text.append("")
    return "\n".join(text) + "\n"
