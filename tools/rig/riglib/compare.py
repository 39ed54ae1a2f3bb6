# SPDX-License-Identifier: GPL-2.0-only
"""Two runs, of two commits or of two machines: what changed in verdicts and figures,
and nothing else.

Each is a results.json, the folder that it is in, or a folder of such folders: a
kernel's report, or a whole build/.
"""

from pathlib import Path

from . import coverage, fuzz, judge, results, tables
from .errors import Wrong
from .views.text import change, number

# Where there are results, in a report and in build/
PLACES = ("*", "debug/*", "*/report/*", "*/report/debug/*")
ABSENT = "not there"


def read(path):
    """{where: (results, their folder)}; of one run the place is not told."""
    path = Path(path)
    if path.is_file():
        return {"": (results.read(path), path.parent)}
    if (path / "results.json").exists():
        return {"": (results.load(path), path)}
    found = {str(one.relative_to(path)): (results.load(one), one)
             for place in PLACES for one in sorted(path.glob(place))
             if (one / "results.json").exists()}
    if not found:
        raise Wrong(f"{path}: there are no results there")
    return found


def facts(found):
    plan = found.plan
    return {"kernel": plan.version, "series": plan.series, "commit": plan.commit,
            "VMX": plan.vmx, "CPU": found.fact("host cpu", plan.machine)}


def verdicts(found):
    return {f"{test.name}, {variant}": found.worst(test, variant)
            for test in found.plan.tests for variant in found.plan.variants
            if found.plan.is_for(test, variant)}


def figures(found, folder):
    """What was measured: (what, unit): a number, or None where it is missing."""
    plan, measured = found.plan, {}
    rows = {row["name"]: row for row in tables.read("figures")}
    for record in found.of(test=True):
        if record.boot == "again":
            continue
        for name, figure in record.figures.items():
            row = rows.get(name)
            what = row["what"].format(**{"of": "?", **(figure or {})}) if row else name
            unit = judge.unit_of(row, plan) if row else plan.cpu_time
            measured[f"{what}, {record.variant}", unit] = figure and figure["n"]
        if plan.what == "fuzz":
            title = f"{record.name}, {record.variant}"
            measured[title, "programs"] = fuzz.ran(record)
            measured[title, "failures"] = len(fuzz.failures(record))
    if plan.what == "coverage":
        for one in coverage.load(folder).functions:
            measured[one.name, "lines run"] = one.ran()
            measured[one.name, "branches taken"] = one.taken()
    return measured


def differing(a, b):
    """(what, in A, in B) of all that is not the same in both."""
    for key in dict.fromkeys([*a, *b]):
        one, other = a.get(key, ABSENT), b.get(key, ABSENT)
        if one != other:
            yield key, one, other


def changes(a, b):
    """Lines on two runs of the same target; the first ones only say what ran."""
    (found, folder), (other, other_folder) = a, b
    if found.plan.what != other.plan.what:
        raise Wrong(f"A is of \"{found.plan.what}\", B of \"{other.plan.what}\": two runs "
                    f"of the same target can be compared")
    head = [f"  {key:<8} {one} > {two}"
            for key, one, two in differing(facts(found), facts(other))]
    said = [f"  {key}: {one} > {two}"
            for key, one, two in differing(verdicts(found), verdicts(other))]
    for (what, unit), one, two in differing(figures(found, folder),
                                            figures(other, other_folder)):
        by = change(one, two) if ABSENT not in (one, two) else ""
        said.append(f"  {what}, {unit}: {number(one)} > {number(two)}  {by}".rstrip())
    return head, said


def compare(a, b):
    """Of all runs that are in both, and which are in one of them only."""
    ours, theirs = read(a), read(b)
    if ("" in ours) != ("" in theirs):
        raise Wrong(f"{a} and {b}: one of them is one run, and the other has many")
    lines, n = [f"A  {a}", f"B  {b}"], 0
    for place in dict.fromkeys([*ours, *theirs]):
        if place not in ours or place not in theirs:
            lines += ["", f"{place}: only in {'A' if place in ours else 'B'}"]
            n += 1
            continue
        head, said = changes(ours[place], theirs[place])
        n += len(said)
        if said or head:
            plan = theirs[place][0].plan
            lines += ["", place or f"{plan.kernel}, {plan.what}", *head,
                      *(said or ["  no verdict and no figure changed"])]
    return [*lines, "", f"{n or 'no'} changes in verdicts and figures"]
