# SPDX-License-Identifier: GPL-2.0-only
"""What the Makefiles call: python3 -m riglib COMMAND, from the repository's root.

	vmx WANTED PROBE	the machine that VMX= stands for, and why
	begin OUT...		no results there from now on but those that come
	tests DIR OUT MACHINE [again]
	suite DIR OUT MACHINE [FAULT]	(TESTS= picks tests)
	faults DIR OUT MACHINE [own]	(FAULTS= picks faults)
				plan, boot, judge and show; exit status 1 when
				something is not as expected
	build-bench DIR OUT MAKE...
				KVM with each patch on top of those before
	bench DIR OUT MACHINE	the benchmark's curves, of each of these
	fuzz DIR OUT MACHINE	random programs (SEED=, PROGRAMS=, UNPATCHED=, FAULTS=)
	flavour DIR OUT MACHINE	the tests, on a kernel of the table flavours
	coverage DIR OUT MACHINE
				the tests, and which lines of KVM they run; DIR is that of
				the flavour that counts
	vmm DIR OUT MACHINE [FAULT]
	nested DIR OUT MACHINE
	kut DIR OUT MACHINE
				QEMU, on the host kernel of that flavour, and its guests
	host DIR OUT		the tests, on the kernel that runs here, or, where DIR is
				build/BASE/stock, on that one of Debian's in an emulator
	debug OUT FLAVOUR...	what came of these, in OUT/FLAVOUR each
	judge OUT		once more, of the results that there are
	build-faults DIR OUT own|all|FLAVOUR MAKE...
				KVM with each fault; what does not build is said
	build-fault DIR NAME MAKE...
				with that one, for "suite"
	modules DIR VARIANT	keep what was built as that variant's
	stages test|test-all KERNEL...
				the long targets
	count TAP...		the sum of some TAP files
	readme			all results into README, and those of other trees
	releases NAME		build/NAME's into the table patches/releases (TREE= says
				whose tree it is)
	overlay TREE FOLDER	copy the tests that are in no patch into a tree, and say
				which files changed
	check NAME [series]	the patches for a kernel, each alone, and our own code;
				with "series", the patches only
	patches			write the files here into the patches that carry them
	check-patches		which of these are stale, what is wrong with the series
	check-examples [FOLDER]	what is wrong with tools/rig/examples, or a copy of it
	record OUT FOLDER	keep what the boots said, for tests/test_judge.py
	report			a page, and JUnit XML, of the last runs of all kernels
	pictures		of that page, for README
	compare A B		what changed from one run, or folder of them, to another
	lint			what is wrong with the tables

DIR is build/BASE, OUT a folder of results in DIR/report.
"""

import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from . import (bench, boot, browser, check, children, compare, coverage, examples,
               faults, fuzz, generated, host, judge, kut, machines, overlay, pack, plan,
               record, releases, report, results, series, stages, tables)
from .errors import Wrong
from .series import topics
from .views import coverage as covered, curves, junit, page, readme, tap, terminal, text


def vmx(wanted, probe):
    print(*machines.choose(wanted, probe))


def begin(*outs):
    # What is wrong with what the user asks for is not to wait for a kernel.
    for variable in ("TESTS", "FAULTS"):
        tables.regex(os.environ.get(variable), variable)
    fault = os.environ.get("FAULT")
    if fault and fault not in {one.name for one in tables.faults()}:
        raise Wrong(f"FAULT={fault} is unknown: tools/rig/tables/faults has those "
                    f"that there are")
    for name in filter(None, os.environ.get("FLAVOURS", "").split(",")):
        if name not in tables.flavours():
            raise Wrong(f"FLAVOURS={name} is unknown: tools/rig/tables/flavours has "
                        f"{', '.join(tables.flavours())}")
    if not outs:
        raise Wrong("no flavour of tools/rig/tables/flavours is for this kernel")
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
        Path(out).mkdir(parents=True)


def carry_out(made, out):
    """Boot a plan; its results, complete or not."""
    out = Path(out)
    made.write(out / "plan.json")
    pack.images(made)
    print(f"  BOOT    {made.what}, {made.vmx}", flush=True)
    boot.run(made, out)
    found = results.collect(made, out)
    found.write(out / "results.json")
    return found


def run_tests(folder, out, machine, again=""):
    carry_out(plan.plan_tests(folder, machine, bool(again)), out)
    return judge_again(out)


def run_suite(folder, out, machine, fault=""):
    carry_out(plan.plan_suite(folder, machine, fault or "patched",
                              os.environ.get("TESTS", "")), out)
    return judge_again(out)


def run_faults(folder, out, machine, own=""):
    wanted = faults.chosen(folder, own == "own", faults.pattern())
    left_out = dict(faults.read_left_out(Path(out)))
    if not wanted:
        return finish(out, [judge.none_to_run("faults", folder)])
    carry_out(plan.plan_faults(folder, machine, [
        fault for fault in wanted if fault.name not in left_out]), out)
    return judge_again(out, own)


def run_bench(folder, out, machine):
    states = [asdict(state) for state in bench.read(out)]
    carry_out(plan.plan_bench(folder, machine, states), out)
    return judge_again(out)


def run_fuzz(folder, out, machine):
    wanted = fuzz.chosen(folder)
    if fuzz.mode() == "faults" and not wanted:
        return finish(out, [judge.none_to_run("faults", folder)])
    carry_out(fuzz.plan_fuzz(folder, machine, wanted), out)
    return judge_again(out)


def build_bench(folder, out, *make):
    found = bench.states(folder)
    bench.Builder(folder, make).build(found)
    bench.write(out, found)


def faults_of_flavour(folder):
    return faults.chosen(folder, pattern=faults.pattern(), flavour=Path(folder).name)


def run_flavour(folder, out, machine):
    left_out = dict(faults.read_left_out(Path(folder) / "faults"))
    wanted = [fault for fault in faults_of_flavour(folder)
              if fault.name not in left_out]
    made = plan.plan_flavour(folder, machine, wanted)
    if made.boots:
        carry_out(made, out)
    else:
        made.write(Path(out) / "plan.json")
        results.collect(made, Path(out)).write(Path(out) / "results.json")
    return judge_again(out)


def flavour_lines(found):
    folder = Path(found.plan.folder)
    return judge.judge_flavour(found, faults_of_flavour(folder),
                               faults.read_left_out(folder / "faults"))


def judge_flavour(found, out):
    lines = flavour_lines(found)
    table = text.of_flavour(found, lines)
    show(out, table)
    return finish(out, lines)


def debug(out, *names):
    """All flavours of a kernel: whatever came of one does not hide the others."""
    lines, table = [], []
    for name in names:
        try:
            found = results.load(Path(out) / name)
        except Wrong as error:
            lines.append(judge.Line(False, f"{name}: no verdict", None, [str(error)]))
            continue
        of_this = flavour_lines(found)
        table.append(text.of_flavour(found, of_this))
        lines += [judge.Line(line.ok, f"{name}: {line.name}", line.skip, line.details)
                  for line in of_this]
    if not names:
        lines.append(judge.Line(False, "there is no such flavour for this kernel"))
    write(out, "table.txt", "\n".join(table))
    return finish(out, lines)


def run_vmm(folder, out, machine, fault=""):
    carry_out(plan.plan_vmm(folder, machine, fault or "patched"), out)
    return judge_again(out)


def run_nested(folder, out, machine):
    carry_out(plan.plan_nested(folder, machine), out)
    return judge_again(out)


def run_kut(folder, out, machine):
    carry_out(kut.plan_kut(folder, machine, os.environ.get("TESTS", "")), out)
    return judge_again(out)


def judge_kut(found, out):
    lines = kut.judge_kut(found)
    show(out, text.of_flavour(found, lines))
    return finish(out, lines)


def run_host(folder, out):
    if Path(folder).name == "stock":
        carry_out(plan.plan_host(folder, "stock"), out)
    else:
        host.carry_out(plan.plan_host(folder, "host"), out)
    return judge_again(out)


def judge_vmm(found, out):
    lines = judge.judge_vmm(found)
    show(out, text.of_flavour(found, lines) + "\n" + text.of_vmm(found))
    status = finish(out, lines)
    say_caught(found, out)
    return status


def run_coverage(folder, out, machine):
    made = plan.plan_coverage(folder, machine, coverage.counted_objects(folder))
    carry_out(made, out)
    coverage.keep(made, Path(out))
    return judge_again(out)


def judge_coverage(found, out):
    measured = coverage.measure(found.plan, Path(out))
    lines = judge.judge_coverage(found, measured)
    measured.write(Path(out) / "coverage.json")
    table = covered.table(found, measured, lines)
    show(out, table)
    return finish(out, lines)


def write(out, name, content):
    (Path(out) / name).write_text(content)


def show(out, table):
    write(out, "table.txt", table)
    print(table)


def finish(out, lines):
    """The judgement of a run, and its exit status."""
    write(out, "judgement.tap", tap.judgement(lines))
    bad = [tap.judgement([line]).split("\n", 2)[2] for line in lines if not line.ok]
    if bad:
        print(terminal.painted("\nunexpected:", "red") + "\n" + "".join(bad))
    print(terminal.painted(f"{out}: {len(lines) - len(bad)} of {len(lines)} as expected",
                           "red" if bad else "green"))
    return 1 if bad else 0


def judge_again(out, own=""):
    found = results.load(out)
    plan_ = found.plan
    for variant in plan_.variants if plan_.what not in ("faults", "fuzz") else ():
        write(out, f"{variant}.tap", tap.kselftest(found, variant))
    print()
    return JUDGES[plan_.what](found, out, *filter(None, [own]))


def judge_faults(found, out, own=""):
    wanted = faults.chosen(found.plan.folder, own == "own", faults.pattern())
    lines = judge.judge_faults(found, wanted, faults.read_left_out(Path(out)))
    write(out, "matrix.txt", text.matrix(found, wanted))
    print(text.matrix(found, wanted))
    return finish(out, lines)


def judge_tests(found, out):
    again = any(one.name == "again" for one in found.plan.boots)
    told = None
    if again and readme.comparable(found.plan):
        told = readme.column_of(found.plan.kernel), readme.column(found)
    lines = judge.judge_tests(found, told)
    table = text.of_tests(found, lines)
    write(out, "table.txt", table)
    write(out, "benchmark.csv", text.benchmark(found))
    print(table)
    return finish(out, lines)


def judge_suite(found, out):
    lines = judge.judge_suite(found)
    whole = found.plan.patched == "patched" and not os.environ.get("TESTS")
    if whole and readme.comparable(found.plan):
        lines = judge.judge_suite(found, (readme.suite_of(found.plan.kernel),
                                          readme.of_suite(found, lines)))
    table = text.of_suite(found, lines)
    write(out, "table.txt", table)
    print("\n".join(line for line in table.split("\n")
                    if not line.startswith("  pass       pass ")))
    print(text.logs(found, lines))
    status = finish(out, lines)
    say_caught(found, out)
    return status


def say_caught(found, out):
    """Whether a fault in the place of the patched KVM was seen."""
    if found.plan.patched != "patched":
        caught = judge.judge_caught(found)
        write(out, "caught.tap", tap.judgement(caught))
        print(tap.judgement(caught))


def judge_fuzz(found, out):
    wanted = fuzz.chosen(found.plan.folder)
    lines = fuzz.judge_fuzz(found, wanted, faults.read_left_out(Path(out))
                            if wanted else ())
    for name, program in fuzz.programs(found).items():
        write(out, name, "\n".join(program) + "\n")
        print(f"  PROGRAM {out}/{name}")
    show(out, fuzz.say(lines))
    return finish(out, lines)


def judge_bench(found, out):
    lines = judge.judge_bench(found)
    write(out, "bench.csv", curves.as_csv(found))
    curves.draw(found, Path(out))
    table = curves.table(found) + curves.plain(found)
    show(out, table)
    return finish(out, lines)


def build_faults(folder, out, which, *make):
    flavour = "" if which in ("own", "all") else which
    wanted = faults.chosen(folder, which == "own", faults.pattern(), flavour)
    if not wanted and not flavour and faults.pattern():
        raise Wrong(f"tools/rig/tables/faults has none for "
                    f"{plan.Tree(folder).word('series')} with names that match "
                    f"FAULTS={faults.pattern() or ''}")
    left_out = faults.Builder(folder, make).build(wanted)
    faults.write_left_out(Path(out), left_out)


def build_fault(folder, name, *make):
    """The one that takes the place of the patched KVM."""
    wanted = [fault for fault in faults.chosen(folder) if fault.name == name]
    if not wanted:
        raise Wrong(f"tools/rig/tables/faults has no {name} for "
                    f"{plan.Tree(folder).word('series')}: see there")
    left_out = faults.Builder(folder, make).build(wanted)
    if left_out:
        raise Wrong(f"fault {name} does not build: {left_out[0][1]}")


def say(wrong):
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def lint():
    releases.read()
    return say(list(tables.lint()))


def update_readme():
    readme.update()


def make_report():
    """Whatever becomes of this report, it is none of an earlier run."""
    out = report.OUT
    shutil.rmtree(out, ignore_errors=True)
    runs = report.gather()
    made = {"report.html": page.page(runs), "junit.xml": junit.page(runs)}
    for name, content in made.items():
        report.replace(out / name, content)
        print(f"  REPORT  {out / name}")
    for kernel, mine in runs.items():
        print(f"  {kernel:<8}" + (", ".join(
            f"{run.name}: {page.together([run]).sign} {page.together([run]).text}"
            for run in mine) or "not run"))


def make_pictures():
    browser.pictures(report.OUT / "report.html")


def compare_runs(a="", b=""):
    if not a or not b:
        raise Wrong("which two runs? make compare A=... B=..., two results.json, or "
                    "folders with such files")
    print("\n".join(compare.compare(a, b)))


def add_overlay(tree, folder):
    say(list(overlay.add(tree, folder)))


def check_patches():
    return say([*generated.check(), *series.lint("next"), *topics.lint()])


def check_examples(*folder):
    return say(list(examples.check(*folder)))


JUDGES = {
    "tests": judge_tests, "suite": judge_suite, "faults": judge_faults,
    "bench": judge_bench, "fuzz": judge_fuzz, "debug": judge_flavour,
    "coverage": judge_coverage, "vmm": judge_vmm, "nested": judge_tests, "kut": judge_kut,
    "host": judge_tests,
}
COMMANDS = {
    "vmx": vmx, "begin": begin, "tests": run_tests, "suite": run_suite,
    "bench": run_bench, "build-bench": build_bench, "fuzz": run_fuzz,
    "coverage": run_coverage, "vmm": run_vmm, "nested": run_nested, "kut": run_kut,
    "host": run_host,
    "flavour": run_flavour, "debug": debug,
    "faults": run_faults, "judge": judge_again, "build-faults": build_faults,
    "build-fault": build_fault, "modules": faults.modules, "stages": stages.run,
    "count": stages.count_files, "readme": update_readme,
    "lint": lint, "record": record.record, "releases": releases.record,
    "overlay": add_overlay, "check": check.run, "patches": generated.refresh,
    "check-patches": check_patches,
    "check-examples": check_examples,
    "report": make_report, "pictures": make_pictures, "compare": compare_runs,
}


def main(args):
    if not args or args[0] not in COMMANDS:
        raise Wrong(f"usage:{__doc__.split(':', 1)[1]}")
    return COMMANDS[args[0]](*args[1:])


if __name__ == "__main__":
    children.heed_signals()
    # We go when make goes, however it does.
    children.dies_with_us(signal.SIGTERM)
    try:
        sys.exit(main(sys.argv[1:]))
    except Wrong as error:
        sys.exit(f"rig: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
