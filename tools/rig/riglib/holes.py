# SPDX-License-Identifier: GPL-2.0-only
"""The holes in an MSR filter that the series closes, tables/holes, and what the
results of a kernel say of each.

A hole is seen where its test, or the part of the test that is about it, fails
unpatched, and is closed where that passes patched.
"""

import fnmatch
import re

from . import ktap, tables

# How tests that have no harness say what came of a part of them.
SAID = re.compile(r"(\w+): .*: (ok|FAILED)")
# A hole that a test sees, by how it ends unpatched and patched.
SEEN = {("fail", "pass"): "open>closed", ("fail", "fail"): "open",
        ("pass", "pass"): "not seen"}


def verdict_of(record, case):
    """How a test ended or, if case is a pattern, those of its cases whose names
    match: fail if one did, skip if all did, missing if there is none."""
    if not case:
        return record.verdict
    lines = list(map(str.strip, record.log))
    cases = [(name, verdict) for verdict, _, name, _ in filter(
        None, map(ktap.verdict_of, lines))]
    cases += [(match[1], "fail" if match[2] == "FAILED" else "pass")
              for match in map(SAID.fullmatch, lines) if match]
    found = {verdict for name, verdict in cases if fnmatch.fnmatchcase(name, case)}
    for verdict in ("fail", "pass", "skip"):
        if verdict in found:
            return verdict
    return "missing"


def verdicts(row, tests, *suites):
    """How the test of a hole ended unpatched and patched, or None where it was not
    run.  On an AMD host that is in the first of the suites, or the parts of it, that
    the test is in."""
    test, _, case = row["test"].partition("/")
    results = tests
    if test.endswith("@svm"):
        results = next((one for one in suites if one and one.plan.test(test) and
                        "patched" in one.plan.variants), None)
    if not results:
        return None
    return tuple(verdict_of(results.record(test, variant), case)
                 for variant in results.plan.variants)


def letters(tests, *suites):
    """What was looked at in a tree: the letter of a hole, and that letter again if it
    was open unpatched and closed patched, "x!" if it is not closed, "" if there is no
    such hole.  Which holes a user's tree has is not known before; a kernel of the table
    kernels is asked for those that it has."""
    seen = {}
    plan = next((one.plan for one in (tests, *suites) if one), None)
    for row in tables.read("holes"):
        if plan and not plan.lenient and \
                not tables.holds_for(row["kernels"], plan.kernel, plan.series):
            continue
        found = verdicts(row, tests, *suites)
        if not found or "missing" in found and found[0] != "fail":
            continue
        u, p = found
        if p == "pass":
            seen[row["hole"]] = row["hole"] if u == "fail" else ""
        elif u == "fail" or p in ("fail", "crash"):
            seen[row["hole"]] = f"{row['hole']}!"
    return seen


def split(text):
    """Of "ac!e", {"a": "a", "c": "c!", "e": "e"}."""
    return {} if text in ("-", "none") else {
        found[0]: found for found in re.findall(r"[a-z]!?", text)}


def join(seen):
    return "".join(seen[letter] for letter in sorted(seen)) or "none"
