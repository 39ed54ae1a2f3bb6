# SPDX-License-Identifier: GPL-2.0-only
"""kvm-unit-tests under Debian's QEMU, by their own unittests.cfg: "make vmm KUT=".

Each test is a script for guest/kut.sh.  What its words mean is the shell's business,
as it is in kvm-unit-tests: they are put there as they are.  On both variants a test
has to end the same way, and to say the same of each of its checks.
"""

import configparser
import re
import shutil
from pathlib import Path

from . import judge, plan as plans, tables
from .errors import Wrong

CONFIG = "x86/unittests.cfg"
RUNNER = "tools/rig/guest/kut.sh"
# Where the table kut does not have another
SECONDS = 40
# The CPUs that an emulated host can have
CPUS = 2
SCRIPT = "#!/bin/sh\nexec /bin/sh /kut/kut.sh '{check}' /kut/{file} -smp {smp} {qemu}\n"
# Of the emulated host's kernel: guests may be larger than the host, as they use little
# of their memory, all but asyncpf's.
COMMAND_LINE = "sysctl.vm.overcommit_memory=1"
# What RUNNER says if QEMU did not get as far as the test
NOT_RUN = "not run: "
UNQUOTED = set("\"'`$\\;&|<>()")


def read(tree):
    """The tests of a tree of kvm-unit-tests, in their order, by their names."""
    path = Path(tree) / CONFIG
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",),
                                       comment_prefixes=("#",), strict=False)
    try:
        parser.read_string(path.read_text(), str(path))
    except OSError:
        raise Wrong(f"KUT={tree} has no {CONFIG}: it is to be a tree of "
                    f"kvm-unit-tests") from None
    except configparser.Error as error:
        raise Wrong(" ".join(str(error).split())) from None
    if not parser.sections():
        raise Wrong(f"{path}: there are no tests in it")
    return {name: dict(parser[name]) for name in parser.sections()}


def left_out(name, test, rows):
    """Why a test is not run, or ""."""
    if test.get("arch", "x86_64") != "x86_64":
        return f"for {test['arch']} only"
    if "nodefault" in test.get("groups", "").split():
        return "not run unless asked for by its name, says unittests.cfg"
    if int(test.get("smp", "1")) > CPUS:
        return f"it asks for {test['smp']} CPUs, and the host has {CPUS}"
    row = rows.get(name)
    return row["reason"] if row and row["what"] == "left-out" else ""


def seconds(row):
    """Of the emulated host's time, that a test has."""
    return int(row["what"]) if row["what"].isdecimal() else SECONDS


def rows_for(plan):
    return {row["name"]: row for row in tables.read("kut")
            if tables.holds_for(row["kernels"], plan.kernel, plan.series)}


def script(name, test):
    """What runs a test; older trees have extra_params, with all in it."""
    if "file" not in test:
        raise Wrong(f"{CONFIG}: [{name}] names no file")
    qemu = test.get("qemu_params", test.get("extra_params", ""))
    arguments = test.get("test_args", "")
    if arguments:
        # A word by itself may have what is special to the shell.
        if not UNQUOTED & set(arguments):
            arguments = f"'{arguments}'"
        qemu += f" -append {arguments}"
    return SCRIPT.format(check=test.get("check", "").replace("'", ""),
                         file=test["file"], smp=test.get("smp", "1"), qemu=qemu.strip())


def plan_kut(folder, machine, pattern=""):
    """All tests, or those whose names match, on both variants, in a boot each for those
    of so many CPUs."""
    tree, plan, _ = plans.new_plan_of_flavour("kut", folder, machine)
    plan.variants = ["unpatched", "patched"]
    built = tree.folder / "kut"
    rows = rows_for(plan)
    scripts = built / "scripts"
    shutil.rmtree(scripts, ignore_errors=True)
    scripts.mkdir()
    found = {name: test for name, test in read(built / "tree").items()
             if re.search(pattern, name)}
    if not found:
        raise Wrong(f"TESTS={pattern}: {CONFIG} has none of that name")
    for name, test in found.items():
        why = left_out(name, test, rows)
        if why:
            plan.notes.append(f"{name}: {why}")
            continue
        file = scripts / f"{name}.sh"
        file.write_text(script(name, test))
        row = rows.get(name, {"what": "pass", "reason": ""})
        plan.tests.append(plans.Test(
            name=name, program=name, source="kut", cpus=int(test.get("smp", "1")),
            parameters="-",
            seconds=seconds(row), file=str(file), machine=machine,
            expect="chance" if row["what"] == "chance" else "pass",
            reason=row["reason"]))
    for cpus in sorted({test.cpus for test in plan.tests}):
        for variant in plan.variants:
            name = f"{variant}-{cpus}"
            plans.add_boot(plan, name, name, machine, cpus, [variant])
    return plan


def files(plan):
    """What the tests run, by its place in the image."""
    built = Path(plan.folder) / "kut/tree/x86"
    yield "/kut/kut.sh", Path(RUNNER)
    for path in sorted(built.glob("*.flat")):
        yield f"/kut/{path.name}", path


class KutJudge(judge.Judge):
    """Nothing has to pass, but on both variants it has to be the same."""

    def may_fail(self, record):
        return record.test

    def same(self, test):
        u, p = self.pair(test)
        arrived = all(record.verdict in judge.ARRIVED for record in (u, p))
        lacking = [f"{record.variant}: {record.why}" for record in (u, p)
                   if record.why.startswith("still ran")]
        lacking += [f"{record.variant}: {line}" for record in (u, p)
                    for line in record.log if line.startswith(NOT_RUN)]
        said = u.verdict == p.verdict and u.log == p.log
        details = [f"only {variant}: {line}" for variant, mine, others in (
            ("unpatched", u.log, p.log), ("patched", p.log, u.log))
            for line in mine if line not in others]
        skip = None
        if arrived and u.verdict == p.verdict == "skip":
            skip = u.log[-1] if u.log else u.why
        checks = next((line for line in p.log if line.startswith("checks: ")), "")
        self.say(arrived and not lacking and (said or test.expect == "chance"),
                 f"{test.name}: {u.verdict} unpatched, {p.verdict} patched"
                 + (f", {checks[len('checks: '):]}" if checks else ""),
                 [*lacking, *details, *judge.reasons(u, p)], skip)


def judge_kut(found):
    """A line for each test, those too that are not run."""
    of_it = KutJudge(found)
    for test in found.plan.tests:
        of_it.same(test)
    for note in found.plan.notes:
        name, _, why = note.partition(": ")
        of_it.say(True, f"{name}: left out", skip=why)
    of_it.boots()
    of_it.variants_differ()
    return of_it.lines
