# SPDX-License-Identifier: GPL-2.0-only
"""What "make fuzz" runs, and whether that is well.

The patched KVM runs random programs, msr_filter_fuzz_test makes them of seeds: on
hosts of one CPU side by side, each with its share of the seeds, and a part as many on
a host of two CPUs and on an AMD host.  No program may fail, and all have to have run.

FAULTS= has it run on seeded faults instead, until a program fails, and UNPATCHED=1 on
the unpatched KVM, going on after each failure: the table fuzz has what it has to find
there, and which faults it can't.
"""

import os
import re

from . import faults, judge, plan as plans, tables
from .errors import Wrong

HOSTS = (("", 1), ("", 2), ("svm", 1))
# What other hosts get of the programs, 1 in so many
PART = 20
# How many, where not told otherwise
PROGRAMS = {"patched": 10000, "unpatched": 400, "faults": 400}
# Of guest time, at most: for a program, and for what shrinks one that fails
SECONDS, SHRINK_SECONDS = 1, 300
# Failures after which the unpatched KVM is known well enough
FAILURES = 30
# Of the faults that selftests are to see, it has to see so many of a hundred.
CAUGHT = 90

RAN = re.compile(r"programs: (\d+)")
FAILED = re.compile(r"program (\d+) fails at step \d+ of \d+, \w+: (.*)")


def number(name, default):
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Wrong(f"{name}={text} is no number")
    return int(text)


def mode():
    if os.environ.get("FAULTS"):
        return "faults"
    return "unpatched" if os.environ.get("UNPATCHED") else "patched"


def host_name(machine, cpus):
    """As the table fuzz has it; xorriso has another use for "="."""
    return machine or f"vmx-{cpus}"


def add(plan, kind, cpus, name, variants, seed, programs, more):
    """One boot, of one test: what it is called says what to run to have it again."""
    machine = kind or plan.machine
    test = plans.Test(
        name=f"fuzz:{name}", program=plans.FUZZ, source="series", cpus=cpus,
        parameters="-", seconds=SHRINK_SECONDS + programs * SECONDS,
        file=f"{plan.folder}/tests-series/{plans.FUZZ}", machine=machine,
        arguments=f"-s {seed} -n {programs} {more}".rstrip())
    others, plan.tests = plan.tests, [test]
    plans.add_boot(plan, name, name, machine, cpus, variants)
    plan.tests = [*others, test]


def plan_programs(plan, which, seed, programs):
    """Side by side, and then some on other hosts, all with seeds of their own."""
    share, more = plans.jobs(), ""
    if which == "unpatched":
        share, more = 1, f"-q -f {FAILURES}"
    part = max(programs // PART, 1) if which == "patched" else programs
    counts = [(kind, cpus, i, (programs + share - 1 - i) // share)
              if (kind, cpus) == HOSTS[0] else (kind, cpus, 0, part)
              for kind, cpus in HOSTS
              for i in range(share if (kind, cpus) == HOSTS[0] else 1)]
    for kind, cpus, i, count in counts:
        if count:
            name = host_name(kind, cpus) + (f"-part-{i + 1}" if share > 1 and
                                            (kind, cpus) == HOSTS[0] else "")
            add(plan, kind, cpus, name, [which], seed, count, more)
            seed += count


def plan_faults(plan, wanted, seed, programs):
    """Two boots for those of each host, as "make faults" has them."""
    tree = plans.Tree(plan.folder)
    plan.variants = ["patched", *(fault.name for fault in wanted)]
    for kind, cpus in HOSTS:
        names = [fault.name for fault in wanted
                 if (fault.machine, fault.cpus) == (kind, cpus) and
                 (tree.folder / "variants" / fault.name / "kvm-intel.ko").exists()]
        for half in (0, 1):
            if names[half::2]:
                add(plan, kind, cpus, f"{host_name(kind, cpus)}-half-{half + 1}",
                    ["patched", *names[half::2]], seed, programs, "-q")


def plan_fuzz(folder, machine, wanted=()):
    which = mode()
    _, plan = plans.new_plan("fuzz", folder, machine)
    plan.variants = [which]
    seed = number("SEED", 1)
    programs = number("PROGRAMS", PROGRAMS[which])
    if not programs:
        raise Wrong("PROGRAMS=0: nothing would be run")
    if which == "faults":
        plan_faults(plan, wanted, seed, programs)
    else:
        plan_programs(plan, which, seed, programs)
    return plan


# ---- whether it is well

def ran(record):
    """How many programs have been run."""
    found = [int(match[1]) for match in map(RAN.fullmatch, record.log) if match]
    return found[-1] if found else 0


def failures(record):
    """What has failed: (seed, what)."""
    return [(match[1], match[2]) for match in map(FAILED.fullmatch, record.log)
            if match]


def wanted_programs(test):
    return int(re.search(r"-n (\d+)", test.arguments)[1])


def judge_programs(found, judge_):
    for test in found.plan.tests:
        record = found.record(test.name, "patched")
        count, told = ran(record), wanted_programs(test)
        judge_.say(record.verdict == "pass" and count == told,
                   f"{test.name}: {count} of {told} programs, {record.verdict}",
                   [*(f"SEED={seed}: {what}" for seed, what in failures(record)),
                    *judge.reasons(record)])


def judge_unpatched(found, judge_):
    """Each hole of the table is seen on the host that it has."""
    plan = found.plan
    for test in plan.tests:
        record = found.record(test.name, "unpatched")
        said = [what for _, what in failures(record)]
        host = test.name.partition(":")[2]
        judge_.say(ran(record) and record.verdict in ("pass", "fail"),
                   f"{test.name}: {ran(record)} programs, {len(said)} failures of "
                   f"different kinds", judge.reasons(record))
        for row in tables.read("fuzz"):
            if (row["kind"] == "hole" and row["host"] == host and
                    tables.holds_for(row["kernels"], plan.kernel, plan.series)):
                judge_.say(any(re.fullmatch(row["what"], one) for one in said),
                           f"{test.name}: hole {row['name']}, \"{row['what']}\"",
                           [f"it has found: {one}" for one in said] or ["nothing"])


def misses(plan):
    return {row["name"]: row["what"] for row in tables.read("fuzz")
            if row["kind"] == "miss" and
            tables.holds_for(row["kernels"], plan.kernel, plan.series)}


def judge_faults(found, judge_, wanted, left_out):
    plan, missed = found.plan, misses(found.plan)
    left_out = dict(left_out)
    due = caught = 0
    # What these miss by chance others may find.
    usual = all(test.arguments.startswith(f"-s 1 -n {PROGRAMS['faults']} ")
                for test in plan.tests)
    for fault in wanted:
        # Those of boots that it is in, and the verdicts that have arrived.
        records = [record for record in found.of(variant=fault.name, test=True)
                   if record.boot]
        ran_to_end = records and all(record.verdict != "missing" for record in records)
        by = [record for record in records if record.verdict in ("fail", "crash")]
        here = "selftests" in fault.caught_by
        due += here
        caught += here and bool(by)
        what = [what for record in by for _, what in failures(record)]
        said = f"{fault.name}: " + (
            f"found, {what[0] if what else by[0].why}" if by else "not found")
        if fault.name in left_out:
            judge_.say(plan.lenient, f"{fault.name}: does not build",
                       [left_out[fault.name]], left_out[fault.name])
        elif not ran_to_end:
            judge_.say(False, f"{fault.name}: not run", judge.reasons(*records))
        elif not here:
            # What only KUnit sees it may see, but what nobody can see it may not.
            judge_.say(not (by and fault.caught_by == "nobody"),
                       f"{said}, and it need not be")
        elif fault.name in missed:
            judge_.say(not by or not usual, f"{said}: {missed[fault.name]}",
                       ["it is known to be missed: see tools/rig/tables/fuzz"])
        else:
            judge_.say(by, said, judge.reasons(*records))
    # Of some, that FAULTS= has picked, all may be among those that are missed.
    some = {fault.name for fault in tables.faults(plan.series)
            if not fault.flavour and "selftests" in fault.caught_by} - {
                fault.name for fault in wanted}
    judge_.say(some or caught * 100 >= due * CAUGHT,
               f"{caught} of {due} faults that selftests have to find are found" +
               ("" if some else f", at least {CAUGHT} % have to be"))
    for record in found.of(variant="patched", test=True):
        judge_.say(record.verdict == "pass" and ran(record),
                   f"{record.name}: patched: {ran(record)} programs, "
                   f"{record.verdict}", judge.reasons(record))


def judge_fuzz(found, wanted=(), left_out=()):
    judge_ = judge.Judge(found)
    if "unpatched" in found.plan.variants:
        judge_unpatched(found, judge_)
        judge_.boots(may_crash=["unpatched"])
    elif found.plan.variants == ["patched"]:
        judge_programs(found, judge_)
        judge_.boots()
    else:
        judge_faults(found, judge_, wanted, left_out)
        judge_.boots(may_crash=[fault.name for fault in wanted])
    return judge_.lines


def programs(found):
    """The programs that failed, shrunk, as C: by the file that each is to be in."""
    files = {}
    for record in found.of(test=True):
        lines, now = record.log, None
        for line in lines:
            begin = re.fullmatch(r"/\* program (\d+) \*/", line.strip())
            if begin:
                now = files[f"{record.variant}-{begin[1]}.c"] = []
            if now is not None:
                now.append(line)
            if line.strip() == "/* end of program */":
                now = None
    return files


def say(lines):
    """What a person is to see of it: all of it."""
    return "\n".join(f"  {'ok  ' if line.ok else 'NOT '} {line.name}"
                     for line in lines) + "\n"


def chosen(folder):
    return faults.chosen(folder, False, faults.pattern()) \
        if mode() == "faults" else []

