# SPDX-License-Identifier: GPL-2.0-only
"""The report as one page of HTML: report.html.j2 of what is put together here.

Whether something is as expected is said by a word and a sign, and its colour only
says it again.
"""

import base64
import time
from dataclasses import dataclass, field
from pathlib import Path

from .. import fuzz, plan as plans, report, tables
from ..errors import Wrong
from . import coverage as covered, curves, readme, text

LOG = 30			# lines of a test's, its last, where it failed


@dataclass
class Cell:
    """What stands in a table, whether that is well (None: there is nothing to say
    of it), and what is there on demand: (title, text)."""
    text: str
    ok: bool = None
    more: list = field(default_factory=list)

    @property
    def sign(self):
        wrong = "✗" if self.text == "missing" else "✗ unexpected:"
        return {True: "✓", False: wrong, None: ""}[self.ok]


NOT_RUN = Cell("not run")


def judged(ok, said, more=()):
    return Cell(said, ok, list(more))


# ---- the first screen: kernels and targets

def overview(runs):
    """A row for each kernel, a cell for each target that has been run anywhere."""
    shown = [what for what in report.TARGETS if what not in report.SELDOM or any(
        run.what == what for mine in runs.values() for run in mine)]
    rows = []
    for kernel, mine in runs.items():
        cells = [together([run for run in mine if run.what == what]) for what in shown]
        rows.append((kernel, cells))
    return [report.TARGETS[what] for what in shown], rows


def together(runs):
    """What came of a target: of one run, or of all flavours."""
    if not runs:
        return NOT_RUN
    lines = sum(len(run.lines) for run in runs)
    bad = sum(len(run.bad) for run in runs)
    missing = [problem for run in runs for problem in run.problems]
    said = f"{bad} of {lines}" if bad else f"{lines} of {lines}"
    if missing:
        said = f"{said}, and {len(missing)} missing" if lines else "missing"
    return judged(not bad and not missing and lines > 0, said,
                  [("missing", one) for one in missing])


# ---- tests

def logs(*records):
    for record in records:
        if record.verdict in ("fail", "crash"):
            yield (f"{record.variant}: {record.verdict}, {record.why or text.why(record)}",
                   "\n".join(record.log[-LOG:]))


def of_test(run, test):
    """A cell: how a test ended, and why on demand."""
    u, p = (run.found.record(test.name, variant) for variant in run.found.plan.variants)
    line = run.line_of(test.name)
    said = u.verdict if u.verdict == p.verdict else f"{u.verdict}>{p.verdict}"
    if test.expect == "chance":
        said += " (flaky)"
    more = []
    reason = text.known(test, u, p) or text.why(u) or text.why(p)
    if reason:
        more.append((reason, ""))
    if line and line.details:
        more.append(("judged", "\n".join(line.details)))
    return judged(bool(line and line.ok), said, [*more, *logs(u, p)])


def tests(runs, what):
    """Kernels across, tests down; of a kernel that has been run, no cell: it has no
    such test."""
    columns = {}
    for kernel, mine in runs.items():
        run = next((run for run in mine if run.what == what and run.found), None)
        columns[kernel] = run and {test.name: of_test(run, test)
                                   for test in run.found.plan.tests}
    return across(columns)


def across(columns):
    """(kernels, rows) of columns; None is that of a kernel that was not run."""
    order = readme.merge([list(one.items()) for one in columns.values() if one])
    return list(columns), [(name, [
        NOT_RUN if one is None else one.get(name, Cell("-")) for one in columns.values()])
        for name in order]


def figures(runs):
    return across({kernel: next((dict(
        (name, Cell(value, None if "missing" not in value else False))
        for name, value in readme.figures(run.found))
        for run in mine if run.what == "tests" and run.found), None)
        for kernel, mine in runs.items()})


# ---- holes

HOLE = {"open>closed": True, "open": False, "not seen": False, "-": None}


def holes(runs):
    tests_, *suites = ({kernel: run.found for kernel, mine in runs.items()
                        for run in mine if run.what == what and run.found}
                       for what in ("tests", "suite", "suite-part"))
    rows = []
    for row in tables.read("holes"):
        said = [readme.hole_seen(row, kernel, tests_, *suites) for kernel in runs]
        rows.append((f"{row['hole']}: {row['what']}", row["test"], [
            judged(HOLE.get(one, False), one) if one else NOT_RUN for one in said]))
    return list(runs), rows


# ---- faults

@dataclass
class Matrix:
    title: str
    tests: list			# (letter, name)
    rows: list			# (name, what it is, a mark for each test, a cell)


def faults(runs):
    """A matrix for each kernel, and by each fault what was judged of it."""
    for run in each(runs, "faults"):
        plan = run.found.plan
        known = {fault.name: fault.what for fault in tables.faults(plan.series)}
        known["patched"] = "the series, as it is"
        # Those that do not build are in no boot.
        left = [name for name in known if name not in plan.variants and
                run.line_of(name)]
        rows = [(name, known.get(name, ""), [
            text.MARKS.get(run.found.worst(test, name), " ") for test in plan.tests],
            of_fault(run, name)) for name in [*plan.variants, *left]]
        yield Matrix(heading(run), list(zip(text.LETTERS, (
            test.name for test in plan.tests))), rows)


def of_fault(run, name):
    line = run.line_of(name)
    if not line:
        return judged(False, "missing")
    judgement = line.name.partition(": ")[2]
    by = judgement.partition("caught by ")[2].split(" (")[0]
    said = judgement if not by else "nobody" if by.startswith("nobody") else \
        curves.count(by.count(",") + 1, "tests")
    return judged(line.ok, said, [(judgement, "\n".join(line.details))])


def heading(run):
    plan = run.found.plan
    return f"{run.kernel}: {plan.version}, VMX {plan.vmx}"


def each(runs, what):
    return [run for mine in runs.values() for run in mine
            if run.what == what and run.found]


# ---- what is measured

def picture(path):
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def benches(runs):
    """(title, unit, pictures, curves) of each kernel's."""
    for run in each(runs, "bench"):
        families = {}
        for curve in tables.read("curves"):
            families.setdefault(curve["family"], []).append(curve)
        shown = [(", ".join(curve["what"] for curve in members),
                  picture(run.out / f"{family}.svg"))
                 for family, members in families.items()
                 if (run.out / f"{family}.svg").exists()]
        exact = run.found.plan.exact
        points = [(curve, list(tables.points(curve)), [
            (curves.span(first, last), [curves.cell(point, exact) for point in
                                        curves.values(run.found, first, curve)])
            for first, last in curves.steps(run.found, curve)])
            for curve in tables.read("curves")]
        yield heading(run), curves.unit(run.found.plan), shown, points


def coverages(runs):
    for run in each(runs, "coverage"):
        if not run.measured:
            continue
        rows = [(what, f"{a} of {b} lines, {covered.percent(a, b)}",
                 f"{c} of {d} branches, {covered.percent(c, d)}")
                for what, (a, b, c, d) in (
                    ("all", run.measured.reached()),
                    ("what can be reached", run.measured.in_reach()))]
        yield heading(run), rows, run.measured.functions, \
            list(covered.left(run.measured.functions)), together([run])


def fuzzed(runs):
    """(kernel, variant, host, programs run, of how many, failures, cell)"""
    for run in each(runs, "fuzz"):
        for record in run.found.of(test=True):
            test = run.found.plan.test(record.name)
            line = run.line_of(record.name if record.variant in (
                "patched", "unpatched") else record.variant)
            found = fuzz.failures(record)
            yield (run.kernel, record.variant, record.name.partition(":")[2],
                   fuzz.ran(record), fuzz.wanted_programs(test), len(found),
                   judged(bool(line and line.ok), record.verdict,
                          [(f"SEED={seed}", what) for seed, what in found]))


def debug(runs):
    """Each flavour: a row as RESULTS has it, and a cell."""
    for mine in runs.values():
        for run in mine:
            if run.what == "debug":
                row = readme.of_flavour(run.found, run.lines) if run.found else (
                    run.kernel, run.flavour, *["missing"] * 5)
                yield row, together([run])


def vmms(runs):
    """(kernel, what guest/vmm.c has seen on the patched KVM, cell)"""
    for run in each(runs, "vmm"):
        yield run.kernel, run.found.record("vmm", "patched").log, together([run])


# ---- all of it

def ran(runs):
    for mine in runs.values():
        for run in mine:
            plan = run.found.plan if run.found else None
            yield (run, together([run]), plan, report.day(run.when),
                   run.found.fact("host cpu", plan.machine) if plan else "missing",
                   f"{run.seconds():.0f} s" if plan else "missing")


def unexpected(runs):
    """All of it, run by run, with the consoles of the boots that went wrong."""
    for mine in runs.values():
        for run in mine:
            if not run.good:
                yield run, run.problems, [
                    (line, logs_of(run, line)) for line in run.bad], list(run.consoles())


def logs_of(run, line):
    if not run.found:
        return []
    named = [record for record in run.found.of(test=True)
             if line.name.startswith((f"{record.name}: ", f"{record.variant}: "))]
    return list(logs(*named))


def page(runs):
    try:
        import jinja2
    except ImportError:
        raise Wrong("jinja2 is not here: tools/rig/setup report") from None
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True).get_template("report.html.j2")
    all_runs = [run for mine in runs.values() for run in mine]
    plans_ = [run.found.plan for run in all_runs if run.found]
    return template.render(
        commit=plans.commit(), series=readme.patches_tree(),
        when=report.day(time.time()), vmx=list(dict.fromkeys(
            plan.vmx for plan in plans_)),
        commits=list(dict.fromkeys(plan.commit for plan in plans_)),
        n=len(all_runs), good=sum(run.good for run in all_runs),
        not_run=[kernel for kernel, mine in runs.items() if not mine],
        overview=overview(runs), ran=list(ran(runs)), unexpected=list(unexpected(runs)),
        tests=tests(runs, "tests"), suite=tests(runs, "suite"), figures=figures(runs),
        holes=holes(runs), faults=list(faults(runs)), benches=list(benches(runs)),
        coverages=list(coverages(runs)), fuzzed=list(fuzzed(runs)),
        debug=list(debug(runs)), vmms=list(vmms(runs)), stages=report.stage_notes())
