# SPDX-License-Identifier: GPL-2.0-only
"""The holes in an MSR filter that the series closes, tables/holes, and what the
results of a kernel say of each.

A hole is seen where its test, or the part of the test that is about it, fails
unpatched, and is closed where that passes patched.
"""

import re

from . import ktap, tables

# How the selftests of the series say what came of a scenario,
SCENARIO = re.compile(r"(?:(?:reads|writes) of )?(\w+)[,:] .*: (ok|FAILED)")
# and who dealt with an access, where it is not who it has to be.
ASSERTION = re.compile(r"(?:.*: )?\w+ of MSR (0x[0-9a-f]+) are dealt with by .*")
# A hole that a test sees, by how it ends unpatched and patched.
SEEN = {("fail", "pass"): "open>closed", ("fail", "fail"): "open",
        ("pass", "pass"): "not seen"}


def verdict_of(record, case):
    """How a test ended or, of KUnit's, one case of it, or the scenarios of a name, or
    what it asserts of one MSR."""
    if not case:
        return record.verdict
    lines = list(map(str.strip, record.log))
    if case.startswith("0x"):
        # Such a test ends where it fails, and has not come to the other MSRs then.
        about = {match[1] for match in map(ASSERTION.fullmatch, lines) if match}
        return record.verdict if record.verdict == "pass" or case in about \
            else "missing"
    found = [verdict for verdict, _, name, _ in filter(
        None, map(ktap.verdict_of, lines)) if name == case]
    told = {match[2] for match in map(SCENARIO.fullmatch, lines)
            if match and match[1] == case}
    if told:
        found.append("fail" if "FAILED" in told else "pass")
    return found[0] if found else "missing"


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
    such hole.  Which holes the tree has is not known before."""
    seen = {}
    for row in tables.read("holes"):
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
