# SPDX-License-Identifier: GPL-2.0-only
"""What "make coverage" prints."""

import itertools

from . import text


def percent(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "-"


def rows(functions):
    for function in functions:
        yield "  {:<44} {:>4} of {:>4}  {:>4} of {:>4}".format(
            function.name, function.ran(), len(function.lines), function.taken(),
            function.branches())


def left(functions):
    """What is not reached, and why: lines that follow each other, together."""
    for function in functions:
        for (misses, reason), lines in itertools.groupby(
                function.lines, lambda line: (line.misses, line.reason)):
            lines = list(lines)
            if not misses:
                continue
            if misses == "line" and len(lines) > 1:
                yield (f"  {function.name}, lines {lines[0].number} to "
                       f"{lines[-1].number}: {len(lines)} not run")
            else:
                yield from (f"  {function.name}, {line.said()}" for line in lines)
            yield f"      {reason or '<-- UNEXPECTED: nobody says why'}"


def table(results, coverage, lines):
    ran, n, taken, m = coverage.reached()
    _, lines_there, _, branches_there = coverage.in_reach()
    whole = [one for one in coverage.functions if one.whole]
    partly = [one for one in coverage.functions if not one.whole]
    said = ["Which lines and branches of KVM the tests run", "", *text.head(results), "",
            f"  {'':<44} {'lines':>12}  {'branches':>12}",
            "  What a change of the filter calls, whole functions:",
            *rows(whole), "  Of other functions, the lines of the series:",
            *rows(partly), "",
            f"  all: {ran} of {n} lines, {percent(ran, n)}; {taken} of {m} branches, "
            f"{percent(taken, m)}",
            f"  of those that can be reached: {percent(ran, lines_there)} of "
            f"{lines_there} lines, {percent(taken, branches_there)} of "
            f"{branches_there} branches"]
    said += [f"  not run here, SVM: {count} lines of {file}"
             for file, count in coverage.svm.items()]
    missing = list(left(coverage.functions))
    if missing:
        said += ["", "  Not reached, and why:", *missing]
    for boot, wrong in coverage.problems.items():
        said += [f"  {boot}: {one}" for one in wrong]
    wrong = sum(not line.ok for line in lines)
    said.append(f"  {wrong or 'none'} of {len(lines)} judgements unexpected")
    return "\n".join(said + text.complaints(results)) + "\n"
