# SPDX-License-Identifier: GPL-2.0-only
"""The tables in tools/rig/RESULTS and the short one in README: written from results,
and read back to be compared."""

import re
import subprocess
from pathlib import Path

from .. import fuzz, holes, judge, releases, report, results as res, tables
from ..errors import Wrong
from . import curves, text

README = Path("README")
RESULTS = Path("tools/rig/RESULTS")
SHORT = ("Results: unpatched>patched where the two differ",
         "  An update is ")
TESTS = ('What "make test-all" prints: unpatched>patched where the two differ',
         "  An instruction is ")
SUITE = ('What "make kselftest" counts, of what is run on both variants',
         '  "fail" is ')
HOLES = ("What a filter did not keep guests from, and does with the series",
         "  open>closed: ")
RELEASES = ("The trees that the series was tried on", "  git am  ")
BENCH = ('What "make bench" counts on 5.10, in retired instructions', "  +NNNN: ")
BENCHED = "5.10"
DEBUG = ('What "make debug-kernel" says, of kernels built to complain, or otherwise',
         "  kasan: ")
PATCHES_README = Path("patches/README")
NAME, CELL = 33, 10
SHORT_NAME = 33
IN_SHORT = ("tests", "suite", "faults", "vmm", "nested")
HOLE, SEEN_CELL = 40, 13
# Of a kernel that there are no new results of, whose column and counts are kept.
EARLIER = ", by an earlier run"


def verdicts(results):
    """The first part of a kernel's column: each test, and how it ended."""
    rows = []
    for test in results.plan.tests:
        u, p = (results.record(test.name, variant).verdict
                for variant in results.plan.variants)
        name = test.name.replace(":force_emulation_prefix=1", ":fep")
        rows.append((name, u if u == p else f"{u}>{p}"))
    return rows


def figures(results):
    """The second part: what was measured."""
    rows = []
    for what, unit, u, p in text.figures(results):
        # "retired instructions" is what RESULTS counts a cost in.
        named = what if what.startswith(unit) else f"{what}, {unit.split()[-1]}"
        rows.append((named, f"{text.number(u)}>{text.number(p)}"))
        if unit != "merges" and u and p is not None:
            rows.append((f"{what}, change", f"{(p - u) * 100 / u:.1f} %"))
    return rows


def column(results):
    """A kernel's column: what, and its value."""
    return verdicts(results) + figures(results)


def section(marks, path=None):
    """The lines of RESULTS between two marks, the first one with them."""
    inside = []
    for line in (path or RESULTS).read_text().split("\n"):
        if line == marks[0]:
            inside.append(line)
        elif line.startswith(marks[1]):
            break
        elif inside:
            inside.append(line)
    return inside


def column_of(kernel):
    """What RESULTS says of a kernel, as column() has it."""
    rows, at = [], None
    for line in section(TESTS):
        if line.startswith("  test  "):
            words = line.split()
            at = words.index(kernel) - 1 if kernel in words else None
        elif at is not None and line.strip():
            start = 2 + NAME + at * (CELL + 1)
            name, value = line[2:2 + NAME].strip(), line[start:start + CELL + 1].strip()
            if value != "-":
                rows.append((name, value))
    return rows


def suite_of(kernel):
    """What RESULTS counts of a kernel's suite."""
    return [tuple(re.split(r"  +", line.strip()))
            for line in section(SUITE) if line.split()[:1] == [kernel]]


def of_suite(results, lines):
    kernel = results.plan.kernel
    row = tables.kernels().get(kernel, {"borrows": "-"})
    return list(text.SuiteRows(results, lines).of_readme(kernel, row["borrows"]))


def comparable(plan):
    """Whether RESULTS is about this kernel, and this machine."""
    return plan.pinned and plan.exact


def reported(what):
    """The results of all kernels that there are any of, by their names."""
    found = {}
    for kernel in tables.kernels():
        out = Path("build") / kernel / "report" / what
        if (out / "results.json").exists():
            found[kernel] = res.load(out)
    return found


def merge(columns):
    """One order for the rows of all columns: each behind the one that it is behind
    in its own."""
    order = []
    for rows in columns:
        at = 0
        for name, _ in rows:
            if name in order:
                at = order.index(name) + 1
            else:
                order.insert(at, name)
                at += 1
    return order


def patches_tree():
    done = subprocess.run(["git", "-c", "safe.directory=*", "rev-parse", "--short=12",
                           "HEAD:patches"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def heading_of(kernel):
    """What RESULTS says it was that ran, of a kernel whose column is kept."""
    said = next(line for line in section(TESTS) if line.split()[:1] == [kernel])
    return said.removesuffix(EARLIER) + EARLIER


def tests_table(reports):
    columns = {}
    for kernel in tables.kernels():
        rows = column(reports[kernel]) if kernel in reports else column_of(kernel)
        if rows:
            columns[kernel] = dict(rows)
    lines = [TESTS[0], ""]
    for kernel in columns:
        plan = reports[kernel].plan if kernel in reports else None
        lines.append(f"  {kernel:<8}{text.built_of(plan)}" if plan else heading_of(kernel))
    lines += list(dict.fromkeys(line for one in reports.values()
                                for line in text.head(one)[1:]))
    # The verdicts, and then what has a number.
    order = [name for measured in (False, True)
             for name in merge([[(name, value) for name, value in one.items()
                                 if bool(re.search(r"\d", value)) == measured]
                                for one in columns.values()])]
    lines += ["", f"  {'test':<{NAME}}" + "".join(
        f" {kernel:>{CELL}}" for kernel in columns)]
    for name in order:
        lines.append(f"  {name:<{NAME}}" + "".join(
            f" {one.get(name, '-'):>{CELL}}" for one in columns.values()))
    return lines + [""]


def hole_seen(row, kernel, tests, *suites):
    """A cell of the table of holes, or None where there are no new results."""
    of_table = tables.kernels().get(kernel)	# not of a tree of the user's
    if of_table and not tables.holds_for(row["kernels"], kernel, of_table["series"]):
        return "-"
    found = holes.verdicts(row, *(report.get(kernel) for report in (tests, *suites)))
    if not found:
        return None
    u, p = found
    return holes.SEEN.get(found, u if u == p else f"{u}>{p}")


def holes_table(tests, *suites):
    """Two lines for a hole: its letter and what it is, and what its test says of each
    kernel."""
    kernels = list(tables.kernels())
    lines = [HOLES[0], "", f"  {'':<{HOLE}}" + "".join(
        f"{kernel:>{SEEN_CELL}}" for kernel in kernels)]
    old = {line.split()[0]: line[2 + HOLE:] for line in section(HOLES)
           if line.startswith("    ")}
    for row in tables.read("holes"):
        kept = old.get(row["test"], "")
        cells = [hole_seen(row, kernel, tests, *suites) or
                 kept[at * SEEN_CELL:][:SEEN_CELL].strip() or "not run"
                 for at, kernel in enumerate(kernels)]
        lines += [f"  {row['hole']}  {row['what']}",
                  f"    {row['test']:<{HOLE - 2}}" + "".join(
                      f"{cell:>{SEEN_CELL}}" for cell in cells)]
    return lines + [""]


def suite_table(reports):
    lines = [SUITE[0], "", f"  {'kernel':<8} {'tests':<18} {'run':>6} {'pass':>6} "
             f"{'skip':>6} {'fail':>6} {'fail>pass':>9} {'unexpected':>10}"]
    for kernel in tables.kernels():
        one = reports.get(kernel)
        for row in of_suite(one, judge.judge_suite(one)) if one else suite_of(kernel):
            lines.append("  {:<8} {:<18} {:>6} {:>6} {:>6} {:>6} {:>9} {:>10}".format(
                *row))
    old = [kernel for kernel in tables.kernels()
           if kernel not in reports and suite_of(kernel)]
    if old:
        lines += ["", "  " + ", ".join(old) + EARLIER]
    return lines + [""]


def of_flavour(found, lines):
    """A row: the tests that pass patched, what the host kernel complained of, and the
    seeded faults that it did."""
    plan = found.plan
    real = [variant for variant in plan.variants if variant in ("unpatched", "patched")]
    faults = [line for line in lines if ": caught by " in line.name]
    passed = [test for test in plan.tests
              if found.record(test.name, "patched").verdict == "pass"]
    complaints = [str(len({judge.essence(text) for record in found.of(variant=variant)
                           for text in record.complaints})) for variant in real]
    return (plan.kernel, plan.flavour, ",".join(sorted({
        str(boot.cpus) for boot in plan.boots})) or "-",
        f"{len(passed)}/{len(plan.tests)}" if plan.tests else "built",
        ">".join(complaints) if plan.tests else "-",
        f"{sum(line.ok for line in faults)}/{len(faults)}" if faults else "-",
        str(sum(not line.ok for line in lines)))


def debug_rows(kernel):
    """Of a kernel; what there are no new results of is kept."""
    old = {line.split()[1]: tuple(line.split()) for line in section(DEBUG)
           if line.split()[:1] == [kernel]}
    for flavour in tables.flavours("debug-kernel"):
        out = Path("build") / kernel / "report/debug" / flavour
        if (out / "results.json").exists():
            run = report.read_run(kernel, "debug", out, flavour)
            if run.problems:
                raise Wrong(run.problems[0])
            yield of_flavour(run.found, run.lines)
        elif flavour in old:
            yield old[flavour]


def debug_table():
    form = "  {:<8}{:<10}{:>6}{:>9}{:>13}{:>9}{:>12}"
    return [DEBUG[0], "", form.format("kernel", "flavour", "CPUs", "tests",
                                      "complaints", "faults", "unexpected"),
            *(form.format(*row) for kernel in tables.kernels()
              for row in debug_rows(kernel)), ""]


def releases_table():
    """The table of all trees; of a release without one, what is said of it."""
    cells = [("kernel", "tree", "day", "patches of", "git am", "check", "run", "holes")]
    for row in releases.read():
        cells.append((row.release, row.tree) if row.by == "-" else (
            row.release, row.tree, row.day, row.folder, row.am, row.check, row.run,
            row.holes))
    widths = [max(map(len, column))
              for column in zip(*(row for row in cells if len(row) > 2))]
    return [RELEASES[0], ""] + ["  " + "  ".join(
        f"{cell:<{width}}" if i < 4 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in cells] + [""]


def short_cells(runs):
    """What README says of a kernel: a name and a value for each of its last runs."""
    for run in runs:
        if run.what in IN_SHORT:
            name = f"make {report.TARGETS[run.what]}, as expected"
            yield name, (f"{len(run.lines) - len(run.bad)}/{len(run.lines)}"
                         if run.lines and not run.problems else "missing")
    flavours = [run for run in runs if run.what == "debug"]
    if flavours:
        lines = [line for run in flavours for line in run.lines]
        yield "make debug-kernel, as expected", "missing" if any(
            run.problems for run in flavours) else \
            f"{sum(line.ok for line in lines)}/{len(lines)}"
    for run in runs:
        if run.what == "fuzz" and run.found and run.found.plan.variants == ["patched"]:
            records = run.found.of(test=True)
            yield "random programs, failed of all", "missing" if run.problems else \
                f"{sum(len(fuzz.failures(one)) for one in records)}/" \
                f"{sum(map(fuzz.ran, records))}"
        if run.what == "coverage":
            known = run.measured and not run.problems
            ran, n, taken, m = run.measured.in_reach() if known else (0, 0, 0, 0)
            yield "lines run, of those in reach", f"{ran}/{n}" if known else "missing"
            yield "branches taken, of those in reach", f"{taken}/{m}" if known else "missing"
        if run.what == "tests" and run.found:
            for name, value in figures(run.found):
                if name.startswith("filter of "):
                    yield (name.replace("filter of", "an update,")
                           .removesuffix(", instructions"), value)


def closed(kernel, tests, *suites):
    """How many of the holes that a kernel has are open unpatched and closed patched."""
    seen = [hole_seen(row, kernel, tests, *suites) for row in tables.read("holes")]
    due = [one for one in seen if one != "-"]
    if any(due):
        yield "holes, open>closed", f"{due.count('open>closed')}/{len(due)}"


def cells_of(line):
    line = line[2 + SHORT_NAME:]
    return [line[at:at + CELL + 1].strip() for at in range(0, len(line), CELL + 1)]


def short_table(runs, tests, *suites):
    """README's: of what there are no new results of, the cell is kept."""
    kernels, old = list(tables.kernels()), {}
    for line in section(SHORT, README):
        cells = cells_of(line)
        if len(cells) == len(kernels) and cells != kernels:
            old[line[2:2 + SHORT_NAME].strip()] = dict(zip(kernels, cells))
    new = {kernel: dict([*short_cells(runs.get(kernel, ())),
                         *closed(kernel, tests, *suites)]) for kernel in kernels}
    order = merge([*(list(one.items()) for one in new.values()), list(old.items())])
    lines = [SHORT[0], "", f"  {'':<{SHORT_NAME}}" + "".join(
        f" {kernel:>{CELL}}" for kernel in kernels)]
    for name in order:
        cells = [new[kernel].get(name) or old.get(name, {}).get(kernel, "-")
                 for kernel in kernels]
        lines.append(f"  {name:<{SHORT_NAME}}" + "".join(
            f" {cell:>{CELL}}" for cell in cells))
    return lines + [""]


def replace(marks, new, path=None):
    """Put lines into a page in the place of those between the two marks."""
    path = path or RESULTS
    old = path.read_text().split("\n")
    try:
        begin = old.index(marks[0])
        end = next(i for i, line in enumerate(old)
                   if i > begin and line.startswith(marks[1]))
    except (ValueError, StopIteration):
        raise Wrong(f"{path} has no lines from \"{marks[0]}\" to \"{marks[1]}\"") \
            from None
    path.write_text("\n".join([*old[:begin], *new, *old[end:]]))


def update():
    """All kernels' results into RESULTS and README, and into the folders of patches/
    on which of them each was run last.  What there are no new results of is kept."""
    for path in (RESULTS, PATCHES_README):
        replace(RELEASES, releases_table(), path)
    tests, suites = reported("tests"), reported("suite")
    if not tests:
        raise Wrong("there are no results: make test-all")
    replace(TESTS, tests_table(tests))
    parts = reported("suite-part")
    replace(HOLES, holes_table(tests, suites, parts))
    replace(SHORT, short_table(report.gather(), tests, suites, parts), README)
    replace(SUITE, suite_table(suites))
    bench = reported("bench").get(BENCHED)
    if bench and comparable(bench.plan):
        replace(BENCH, curves.of_readme(bench, BENCH[0]))
    replace(DEBUG, debug_table())
    told = [re.fullmatch(r"(.*), patches/(\S+)(?: at \S+)?", line[10:].removesuffix(EARLIER))
            for line in section(TESTS)]
    ran = [found[1] for found in told if found and found[2] == "next"]
    path = tables.PATCHES / "next/README"
    if ran:
        path.write_text(re.sub(r"(?m)^Last run on: .*", f"Last run on: {', '.join(ran)}",
                               path.read_text()))
