# SPDX-License-Identifier: GPL-2.0-only
"""TAP: of a judgement, and of a variant as kselftest has it."""


def judgement(lines):
    """The plan comes first: a file that is cut short cannot look whole."""
    text = ["TAP version 13", f"1..{len(lines)}"]
    for number, line in enumerate(lines, 1):
        text.append(one(number, line))
        text += [f"    # {detail}" for detail in line.details]
    return "\n".join(text) + "\n"


def one(number, line):
    skip = f" # SKIP {line.skip}" if line.skip is not None else ""
    return f"{'ok' if line.ok else 'not ok'} {number} - {line.name}{skip}"


def kselftest(results, variant):
    """A variant's results in the format of run_kselftest.sh."""
    text, number = [], 0
    tests = [results.record(test.name, variant) for test in results.plan.tests]
    for record in tests:
        number += 1
        text.append(f"# selftests: kvm: {record.name}")
        text += [f"# {line}" for line in record.log]
        verdict = "ok" if record.verdict in ("pass", "skip") else "not ok"
        text.append(f"{verdict} {number} selftests: kvm: {record.name}"
                    f"{remark(record)}")
    return "\n".join(["TAP version 13", f"1..{number}", *text]) + "\n"


def remark(record):
    if record.verdict == "skip":
        return " # SKIP"
    if record.verdict in ("missing", "crash"):
        return f" # {record.verdict}: {record.why}"
    if record.why.startswith("still ran after"):
        return f" # TIMEOUT {record.why.split()[3]} seconds"
    if record.verdict == "fail":
        status = record.why.split()[-1] if "exit status" in record.why else "1"
        return f" # exit={status}"
    return ""
