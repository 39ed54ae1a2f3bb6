# SPDX-License-Identifier: GPL-2.0-only
"""Whether a kernel's own parser of KUnit's output, tools/testing/kunit/kunit.py, makes
of ours what the rig does: the same cases, each ended the same way."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from . import ktap, plan, results, tables

PARSER = "tools/testing/kunit/kunit.py"
LOGS = Path("tools/rig/tests/logs")
# As the parser's JSON has it.
STATUS = {"pass": "PASS", "fail": "FAIL", "skip": "SKIP"}
HEADERS = ("KTAP version 1", "TAP version 14")
COLOUR = re.compile("\033\\[[0-9;]*m")


def sources(folder):
    """The kernel's last "make run" and, else, one that is recorded: of it, of another
    kernel that the same folder of patches/ is for, or of the newest."""
    folder = Path(folder)
    report = folder / "report/tests"
    if (report / "results.json").exists():
        yield report, lambda: results.load(report)
    series = (folder / "series").read_text().strip()
    same = [name for name, row in tables.kernels().items() if row["series"] == series]
    for name in dict.fromkeys([folder.name, *same, "next"]):
        path = LOGS / name
        if (path / "plan.json").exists():
            yield path, lambda path=path: results.collect(
                plan.load(json.loads((path / "plan.json").read_text())), path)


def records(found):
    kunit = {test.name for test in found.plan.tests if test.source == "kunit"}
    return [record for record in found.records if record.name in kunit and
            record.test and record.verdict in STATUS]


def cases(log):
    """(name, verdict) of each of KUnit's cases: not of suites, nor of a case's
    parameters, which it is the sum of."""
    for line in log:
        if line.startswith(" " * 4) and line[4:5] != " ":
            verdict = ktap.verdict_of(line.strip())
            if verdict:
                yield verdict[2], verdict[0]


def as_of_one(log):
    """What a kernel prints that has but this suite, built in: of a module's suites some
    print no header, and number them from boot on."""
    lines = [re.sub("^((?:not )?ok) [0-9]+", r"\1 1", line) for line in log]
    if lines and lines[0] not in HEADERS:
        lines = [HEADERS[-1], "1..1", *lines]
    return "".join(f"{line}\n" for line in lines)


def in_groups(group):
    """(name, status) of all that the parser's JSON has."""
    for case in group.get("test_cases", ()):
        yield case["name"], case["status"]
    for sub in group.get("sub_groups", ()):
        yield from in_groups(sub)


def parse(src, log):
    """(cases, exit status, what it says) of the parser."""
    with tempfile.TemporaryDirectory() as folder:
        text, parsed = Path(folder) / "log", Path(folder) / "json"
        text.write_text(as_of_one(log))
        done = subprocess.run(
            [sys.executable, "-B", Path(src).resolve() / PARSER, "parse",
             f"--json={parsed}", text], capture_output=True, text=True, cwd=folder,
            check=False)
        said = COLOUR.sub("", done.stdout + done.stderr).strip().split("\n")
        groups = json.loads(parsed.read_text()) if parsed.exists() else {}
    return list(in_groups(groups)), done.returncode, said


def compare(src, record):
    ours = [(name, STATUS[verdict]) for name, verdict in cases(record.log)]
    theirs, status, said = parse(src, record.log)
    if not ours:
        yield "the rig reads no case at all"
    if theirs != ours:
        yield f"the rig reads {counts(ours)}, kunit.py {counts(theirs)}"
        for case in sorted(set(ours) ^ set(theirs)):
            yield f"only {'the rig' if case in ours else 'kunit.py'}: {' '.join(case)}"
    if (status == 0) != (record.verdict != "fail"):
        yield f"the rig says {record.verdict}, kunit.py exits with {status}"
    # Not all of these make it fail.
    yield from (line for line in said if "[ERROR]" in line or "Error:" in line)


def counts(of):
    found = [status for _, status in of]
    return ", ".join(f"{status} {found.count(status)}" for status in sorted(set(found))) \
        or "nothing"


def check(folder):
    """What is wrong, a line each."""
    src = Path(folder) / "src"
    if not (src / PARSER).exists():
        yield f"{src} has no {PARSER}"
        return
    for path, load in sources(folder):
        of_kunit = records(load())
        if not of_kunit:
            continue
        for record in of_kunit:
            for line in compare(src, record):
                yield f"{path}, {record.boot}, {record.variant}: {line}"
        return
    yield "no boot is recorded that ran KUnit's tests"
