# SPDX-License-Identifier: GPL-2.0-only
"""What has to run, and what is expected of it: written before anything boots.

A plan is for one base kernel.  Its tests run on each of its variants of KVM, and
each of its boots is a list of steps for guest/init.c.  Every step has to come back
with a verdict; what does not is missing, whatever else came.
"""

import filecmp
import json
import os
import re
import subprocess
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import tables
from .errors import Wrong
from .machines import MACHINES

SELFTESTS = "tools/testing/selftests/kvm"
KUNIT = "arch/x86/kvm/vmx"

# A fault is to be caught soon: seconds of guest time for a test.
FAULT_SECONDS = 15

# Of guest time, for all curves of a variant.
BENCH_SECONDS = 300

# How much slower a kernel may be that is built to complain.
SLOWER = 10

# Random programs
FUZZ = "msr_filter_fuzz_test"
FEW_PROGRAMS = "-q -n 4"	# where each takes long


@dataclass
class Test:
    name: str			# as it is called in the results
    program: str
    source: str			# "own", "series", "6.1", "rig", "kunit"
    cpus: int
    parameters: str
    seconds: int
    file: str			# what runs; it may be missing
    machine: str
    arguments: str = ""
    expect: str = "pass"	# see the table suite; "bug", too
    reason: str = ""
    figures: list = field(default_factory=list)

    @property
    def ours(self):
        """Whether it is one of ours, in a series or in the overlay."""
        return "msr_filter" in self.program or self.source == "kunit"


@dataclass
class Step:
    name: str			# as init calls its verdict
    line: str			# of init's plan
    test: bool = False


@dataclass
class Boot:
    name: str
    image: str
    machine: str
    cpus: int
    variants: list
    steps: dict			# variant: steps


@dataclass
class Plan:
    what: str			# "tests", "suite", "faults", "bench", "debug", "coverage", "vmm",
				# "nested", "host"
    kernel: str			# BASE, or "ksrc"
    folder: str			# build/BASE, or that of a flavour or of a kernel of Debian's own
    series: str
    version: str
    pinned: bool		# the very kernel that RESULTS is about
    commit: str
    machine: str
    vmx: str			# in words
    cpu_time: str		# what a cost is counted in
    patched: str = "patched"	# what is compared with the unpatched
    variants: list = field(default_factory=list)
    tests: list = field(default_factory=list)
    boots: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    states: list = field(default_factory=list)	# of bench.py, as dictionaries
    flavour: str = ""		# a row of the table flavours
    lacks: list = field(default_factory=list)	# of what that needs
    kept: list = field(default_factory=list)	# modules of the patched KVM
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def lenient(self):
        """A tree of the user's may have the bugs mended, and skip other tests."""
        return self.kernel == "ksrc"

    @property
    def built_in(self):
        """Whether the host kernel has KVM in it, and no modules of it."""
        return bool(self.flavour) and "KVM_INTEL=y" in \
            tables.flavours()[self.flavour]["needs"]

    @property
    def exact(self):
        return MACHINES[self.machine].exact

    def test(self, name):
        return next((test for test in self.tests if test.name == name), None)

    def is_for(self, test, variant):
        """Whether the variant is to run the test: a fault may be one of another
        machine.  What is in no boot at all is missing everywhere."""
        hosts = {(boot.machine, boot.cpus) for boot in self.boots
                 if variant in boot.variants}
        return not hosts or (test.machine, test.cpus) in hosts

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1))
        new.rename(path)


def load(data):
    """A plan of what its JSON holds."""
    data = dict(data)
    data["tests"] = [Test(**test) for test in data["tests"]]
    data["boots"] = [
        Boot(**{**boot, "steps": {variant: [Step(**step) for step in steps]
                                  for variant, steps in boot["steps"].items()}})
        for boot in data["boots"]]
    return Plan(**data)


def label(program, source, parameters, cpus):
    name = program
    if re.match(r"[0-9]", source):
        name += f"@{source}"
    if parameters != "-":
        name += f":{parameters}"
    return name if cpus == 1 else f"{name}:cpus={cpus}"


class Tree:
    """A kernel's source with the series on it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.src = self.folder / "src"
        # A flavour's folder is build/BASE/debug/FLAVOUR.
        parent = self.folder.parent
        self.kernel = (parent.parent if parent.name == "debug" else
                       parent if self.folder.name in ("host", "stock") else
                       self.folder).name

    def git(self, *args):
        done = subprocess.run(["git", "-c", "safe.directory=*", "-C", self.src, *args],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise Wrong(f"git {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def has(self, path):
        return subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", self.src, "cat-file", "-e",
             f"patched:{path}"], capture_output=True, check=False).returncode == 0

    def has_selftest(self, program):
        """Whether it can be built there: some have the sources, and no Makefile."""
        return self.has(f"{SELFTESTS}/Makefile") and any(
            self.has(f"{SELFTESTS}/{arch}/{program}.c") for arch in ("x86", "x86_64"))

    def has_kunit(self):
        return self.has(f"{KUNIT}/msr_kunit.h")

    def word(self, name):
        return (self.folder / name).read_text().strip()


def commit():
    done = subprocess.run(["git", "-c", "safe.directory=*", "describe", "--always",
                           "--dirty", "--abbrev=12"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown commit"


def new_plan(what, folder, machine):
    tree = Tree(folder)
    kernel = tree.kernel
    version = tree.word("src/.rig-version")
    row = tables.kernels().get(kernel)
    emulated = MACHINES[machine]
    return tree, Plan(
        what=what, kernel=kernel, folder=str(folder), series=tree.word("series"),
        version=version, commit=commit(), machine=machine, vmx=emulated.emulator(),
        pinned=bool(row) and version == row["pin"].replace("_", " "),
        cpu_time="retired instructions" if emulated.exact else "TSC cycles, median")


def has_bug(row, plan):
    """Whether the unpatched kernel has what the test is there to find; a tree of
    the user's may have any of them."""
    if row["bug"] == "-":
        return False
    return plan.lenient or tables.holds_for(row["bug"], plan.kernel, plan.series)


def expected_here(row, tree, lenient):
    """Whether this kernel has the test, or is to borrow it.

    What the series adds has to be there, whatever the source says, its selftests
    built in this kernel or in another; of a tree of the user's it may leave the KUnit
    tests out.
    """
    source = row["from"]
    if source in ("rig", "series") or source == "kunit" and not lenient:
        return True
    if source == "kunit":
        return tree.has_kunit()
    return tree.has_selftest(row["name"]) == (source == "own")


def program_file(row, tree):
    name, source = row["name"], row["from"]
    if source == "rig":
        return tree.folder / "rig" / name
    if source == "kunit":
        return tree.folder / "variants" / "patched" / f"{name}.ko"
    if source == "own":
        return tree.folder / "tests" / name
    return tree.folder / f"tests-{source}" / name


def tests_of_table(tree, plan):
    figures = tables.read("figures")
    for row in tables.read("tests"):
        if not tables.holds_for(row["kernels"], plan.kernel, plan.series) or \
                not expected_here(row, tree, plan.lenient):
            continue
        cpus = int(row["cpus"])
        yield Test(
            name=label(row["name"], row["from"], row["parameters"], cpus),
            program=row["name"], source=row["from"], cpus=cpus,
            parameters=row["parameters"], seconds=int(row["seconds"]),
            file=str(program_file(row, tree)), machine=plan.machine,
            expect="bug" if has_bug(row, plan) else "pass",
            figures=[figure["name"] for figure in figures
                     if figure["test"] == row["name"] and cpus == 1 and
                     row["parameters"] == "-" and tables.holds_for(
                         figure["kernels"], plan.kernel, plan.series)])


class Stepper:
    """The steps of a boot."""

    def __init__(self, plan, machine):
        self.plan, self.machine = plan, MACHINES[machine]
        self.variants = Path(plan.folder) / "variants"

    def module(self, variant, name):
        """Most faults are in one module: where the other is as it is in the patched
        KVM, that one is taken."""
        mine, theirs = (self.variants / v / name for v in (variant, "patched"))
        same = mine.exists() and theirs.exists() and filecmp.cmp(mine, theirs, False)
        return f"{'patched' if same else variant}/{name}"

    def path(self, there, here):
        """Of a file: in an image, or, of a machine that has none, as it is here."""
        return str(Path(here).resolve()) if self.machine.name == "host" else there

    def load(self, path, parameters=""):
        name = Path(path).name
        file = self.path(f"/{path}", Path(self.plan.folder) / path)
        return Step(" ".join(filter(None, ("load", name, parameters))),
                    " ".join(filter(None, ("load", file, parameters))))

    @staticmethod
    def parameters(module, text):
        """Those for one module: without a module's name they are kvm.ko's."""
        mine = []
        for one in text.split(",") if text != "-" else ():
            of, dot, rest = one.partition(".")
            if not dot or "=" in of:
                of, rest = "kvm", one
            if of == module:
                mine.append(rest)
        return " ".join(mine)

    def line(self, test, variant):
        if test.source == "kunit":
            file = self.module(variant, Path(test.file).name)
            return f"kunit {test.name} /variants/{file}"
        file = self.path(f"/tests/{test.source}/{Path(test.file).name}", test.file)
        if file.endswith(".sh"):
            file = f"/bin/sh {file}"
        return f"test {test.name} {test.seconds} {file} {test.arguments}".rstrip()

    def tests(self, variant, tests):
        for test in tests:
            yield Step(test.name, self.line(test, variant), test=True)

    def variant(self, variant, tests):
        vendor = self.machine.vendor
        if self.plan.built_in:
            yield from self.tests(variant, tests)
            return
        unloaded = vendor.replace("-", "_")
        bypass = (self.variants / "patched" / "irqbypass.ko").exists()
        if self.plan.what == "suite" and self.machine.name == "bochs":
            yield self.load("nmi-tick.ko")
        if self.plan.what == "bench":
            yield self.load(f"variants/{variant}/srcu-count.ko")
        if bypass:
            yield self.load("variants/patched/irqbypass.ko")
        for parameters in dict.fromkeys(test.parameters for test in tests):
            yield self.load(f"variants/{self.module(variant, 'kvm.ko')}",
                            self.parameters("kvm", parameters))
            yield self.load(f"variants/{variant}/{vendor}.ko",
                            self.parameters("kvm_intel", parameters))
            yield from self.tests(variant, [test for test in tests
                                            if test.parameters == parameters])
            yield Step(f"unload {unloaded}", f"unload {unloaded}")
            yield Step("unload kvm", "unload kvm")
        if bypass:
            yield Step("unload irqbypass", "unload irqbypass")
        if self.plan.what == "bench":
            yield Step("unload srcu_count", "unload srcu_count")


def add_boot(plan, name, image, machine, cpus, variants):
    """A boot of all tests that are for so many CPUs of that machine."""
    # What is not there cannot be put into an image: it is missing, and is said so.
    tests = [test for test in plan.tests if test.cpus == cpus and
             test.machine == machine and Path(test.file).exists()]
    stepper = Stepper(plan, machine)
    plan.boots.append(Boot(name, image, machine, cpus, variants, {
        variant: list(stepper.variant(variant, tests)) for variant in variants}))


def plan_tests(folder, machine, again=False):
    """Unpatched against patched; again: the first boot twice, to be compared."""
    tree, plan = new_plan("tests", folder, machine)
    plan.variants = ["unpatched", "patched"]
    plan.tests = list(tests_of_table(tree, plan))
    for cpus in sorted({test.cpus for test in plan.tests}):
        add_boot(plan, f"{machine}-{cpus}", "tests", machine, cpus, plan.variants)
    if again:
        add_boot(plan, "again", "tests", machine, 1, plan.variants)
    return plan


def plan_faults(folder, machine, wanted):
    """The patched KVM with each fault, in two boots side by side, two more of an AMD
    host for faults of SVM, and of a host of two CPUs for those that it takes to see;
    each has the one without a fault, too."""
    tree, plan = new_plan("faults", folder, machine)
    plan.variants = ["patched", *(fault.name for fault in wanted)]
    hosts = {("", 1): [], ("svm", 1): [], ("", 2): []}
    for fault in wanted:
        hosts[fault.machine, fault.cpus].append(fault.name)
    hosts = {host: names for host, names in hosts.items() if names} or {("", 1): []}
    for kind, cpus in hosts:
        tests = tests_of_table(tree, plan) if not kind else \
            tests_of_suite(plan, kind, series_programs(tree.folder))
        plan.tests += [test for test in tests
                       if test.cpus == cpus and test.parameters == "-" and
                       test.source != "rig" and test.expect in ("pass", "bug")]
    for test in plan.tests:
        test.expect, test.figures = "pass", []
        # That a program fails is enough.
        if test.program == FUZZ:
            test.arguments = "-q"
        # The time of an AMD host is that of this machine, which may be slow.
        if test.source != "kunit" and test.machine != "svm":
            test.seconds = min(test.seconds, FAULT_SECONDS)
    for (kind, cpus), names in hosts.items():
        for half in (0, 1):
            built = [name for name in names[half::2]
                     if (tree.folder / "variants" / name / "kvm-intel.ko").exists()]
            name = f"{'smp' if cpus > 1 else kind}-half-{half + 1}".strip("-")
            add_boot(plan, name, name, kind or machine, cpus, ["patched", *built])
    return plan


def series_programs(folder):
    """The selftests that the series adds, be they built in another kernel: (name,
    source, file)."""
    for path in sorted((folder / "tests-series").glob("*msr_filter*_test")):
        yield path.name, "series", path


def suite_programs(folder):
    """KVM's own selftests by the suite's own list, what the series adds; and of a
    newer suite, where one is borrowed, those that the kernel's own has not."""
    def names(suite):
        return (suite / "emitted").read_text().split()

    own = names(folder / "suite")
    if not own:
        raise Wrong(f"{folder}/suite/emitted: KVM's suite lists no test at all")
    for name in own:
        yield name, "own", folder / "suite" / name
    for program in series_programs(folder):
        if program[0] not in own:
            yield program
    for suite in sorted(folder.glob("suite-*")):
        source = suite.name[len("suite-"):]
        for name in names(suite):
            if name not in own:
                yield f"{name}@{source}", source, suite / name


class SuiteTable:
    def __init__(self, plan, machine):
        self.rows, self.skips = (
            [row for row in tables.read(name)
             if row["machine"] in MACHINES[machine].rows() and
             tables.holds_for(row["kernels"], plan.kernel, plan.series)]
            for name in ("suite", "skips"))

    def row(self, name):
        """The first row that holds; an AMD host runs only what has one."""
        for wanted in (name, name.split("@")[0], "*"):
            for row in self.rows:
                if row["name"] == wanted:
                    return row
        return None

    def expected(self, name, row):
        """(expect, reason) of a test whose row it is."""
        for wanted in (name, name.split("@")[0]):
            for skip in self.skips:
                if skip["name"] == wanted and row["expect"] == "pass":
                    return "skip", skip["reason"]
        return row["expect"], "" if row["reason"] == "-" else row["reason"]

    def strangers(self, names):
        """Rows of tests that there are not, in this kernel."""
        known = {name for full in names for name in (full, full.split("@")[0])}
        return [row["name"] for row in self.rows + self.skips
                if row["name"] not in known | {"*"} and row["kernels"] != "*"]


def tests_of_suite(plan, kind, programs, pattern=""):
    """The programs that the table suite has a row for on that kind of machine."""
    table = SuiteTable(plan, kind)
    for name, source, file in programs:
        row = table.row(name)
        if not row or not re.search(pattern, name):
            continue
        expect, reason = table.expected(name, row)
        yield Test(
            name=f"{name}@svm" if kind == "svm" else name,
            program=name.split("@")[0], source=source, cpus=int(row["cpus"]),
            parameters=row["parameters"], seconds=int(row["seconds"]),
            file=str(file), machine=kind,
            arguments="" if row["arguments"] == "-" else row["arguments"],
            expect=expect, reason=reason)


def plan_suite(folder, machine, patched="patched", pattern=""):
    """KVM's own selftests, all of them or those whose names match."""
    tree, plan = new_plan("suite", folder, machine)
    plan.patched = patched
    plan.variants = ["unpatched", patched]
    tables.regex(pattern, "TESTS")
    programs = list(suite_programs(tree.folder))
    bugs = {row["name"] for row in tables.read("tests") if has_bug(row, plan)}
    for kind in (machine, "svm"):
        strange = SuiteTable(plan, kind).strangers([name for name, _, _ in programs])
        if strange and not plan.lenient:
            raise Wrong(f"tools/rig/tables/suite has {', '.join(strange)}, and the "
                        f"suite of {plan.kernel} has not")
        tests = list(tests_of_suite(plan, kind, programs, pattern))
        for test in tests:
            # What the series is there to mend: the table tests says it.
            if kind != "svm" and test.name in bugs:
                test.expect = "bug"
        tests.sort(key=lambda test: (test.cpus, test.parameters))
        plan.tests += tests
        for cpus in sorted({test.cpus for test in tests}):
            for variant in plan.variants:
                name = f"{variant}-{kind}"
                add_boot(plan, f"{name}-{cpus}", name, kind, cpus, [variant])
    if not plan.tests:
        raise Wrong(f"no test has a name that matches TESTS={pattern}")
    return plan


def plan_bench(folder, machine, states):
    """The benchmark's curves, of every state of KVM in one boot."""
    tree, plan = new_plan("bench", folder, machine)
    plan.states = states
    plan.variants = [state["name"] for state in states if not state["same_as"]]
    plan.patched = plan.variants[-1]
    plan.tests = [Test(
        name="bench", program="bench", source="rig", cpus=1, parameters="-",
        seconds=BENCH_SECONDS, file=str(tree.folder / "rig/bench"), machine=machine,
        arguments="curves", figures=[
            name for curve in tables.read("curves")
            for name in tables.points(curve).values()])]
    add_boot(plan, "bench", "bench", machine, 1, plan.variants)
    return plan


# ---- kernels that are built to complain, or otherwise

# Of random programs the kernel's own complaints count here: what fails is not shrunk.
# Several CPUs take turns in one emulator, and the programs wait for each.
def fuzz_arguments(cpus):
    return "-q" if cpus == 1 else FEW_PROGRAMS


def tests_of_flavour(tree, plan, cpus, programs):
    """What "make run" has for one CPU or, on several, for two; and after these the
    programs of guest/ by their names."""
    for test in tests_of_table(tree, plan):
        if test.source == "rig" or test.parameters != "-" or \
                (test.cpus == 1) != (cpus == 1):
            continue
        yield replace(test, name=label(test.program, test.source, "-", cpus),
                      cpus=cpus, seconds=test.seconds * SLOWER, figures=[],
                      arguments=fuzz_arguments(cpus) if test.program == FUZZ else "")
    for name in programs:
        yield Test(
            name=label(name, "rig", "-", cpus), program=name, source="rig", cpus=cpus,
            parameters="-", seconds=60 * SLOWER, file=str(tree.folder / "rig" / name),
            machine=plan.machine)


def lacking(needs, config):
    """What of a flavour's needs is not in a .config."""
    lines = Path(config).read_text().split("\n")
    return [need for need in needs
            if f"CONFIG_{need}{'' if '=' in need else '=y'}" not in lines]


def new_plan_of_flavour(what, folder, machine):
    """A plan for the flavour whose folder it is, and its row of the table."""
    tree, plan = new_plan(what, folder, machine)
    row = tables.flavours()[tree.folder.name]
    plan.flavour = row["name"]
    plan.lacks = lacking(row["needs"], tree.folder / "obj/.config")
    return tree, plan, row


def plan_flavour(folder, machine, faults):
    """A boot for each variant and number of CPUs; and one for each fault, of the tests
    that it takes."""
    tree, plan, row = new_plan_of_flavour("debug", folder, machine)
    patched = tree.folder / "variants/patched"
    plan.kept = sorted(path.name for path in patched.glob("*.ko"))
    real = ["unpatched", "patched"] if row["variants"] == "both" else ["patched"]
    plan.variants = [*real, *(fault.name for fault in faults)]
    last = [name for name in row["programs"] if name == "checks"]
    first = [name for name in row["programs"] if name not in last]
    for i, cpus in enumerate(map(int, row["boots"])):
        plan.tests += tests_of_flavour(tree, plan, cpus,
                                       [*([] if i else first), *last])
    for cpus in map(int, row["boots"]):
        for variant in real:
            add_boot(plan, f"{variant}-{cpus}", variant, machine, cpus, [variant])
    for fault in faults:
        cpus = max(map(int, row["boots"])) if fault.cpus > 1 else 1
        tests = [test for test in plan.tests
                 if test.program == "checks" or re.search(fault.tests, test.name)]
        some = replace(plan, tests=tests)
        add_boot(some, fault.name, fault.name, machine, cpus, [fault.name])
    return plan


# ---- which lines and branches of KVM the tests run

# How much slower a KVM may be that counts, and what it takes to read the counts.
COUNTING = 3
DUMP_SECONDS = 300


def plan_coverage(folder, machine, objects):
    """The tests of "make run", on the patched KVM alone; after these, in each boot,
    what was counted in the objects of KVM's, by their names without ".o"."""
    tree, plan, row = new_plan_of_flavour("coverage", folder, machine)
    plan.variants = ["patched"]
    kvm = (tree.folder / "obj/arch/x86/kvm").resolve()
    for cpus in map(int, row["boots"]):
        tests = [replace(test, seconds=test.seconds * COUNTING, figures=[],
                         expect="pass")
                 for test in tests_of_table(tree, plan)
                 if test.source != "rig" and test.cpus == cpus]
        # KVM is loaded with one set of parameters after the other.
        last = list(dict.fromkeys(test.parameters for test in tests))[-1]
        plan.tests += [*tests, Test(
            name=label("gcov-dump", "rig", "-", cpus), program="gcov-dump",
            source="rig", cpus=cpus, parameters=last, seconds=DUMP_SECONDS,
            file=str(tree.folder / "rig/gcov-dump"), machine=machine,
            arguments=" ".join([str(kvm), *objects]))]
        add_boot(plan, f"cpus-{cpus}", "coverage", machine, cpus, plan.variants)
    return plan


# ---- a VMM that people use

# For its guests, which are emulated guests of an emulated host.
VMM_SECONDS = 1800


def plan_vmm(folder, machine, patched="patched"):
    """guest/vmm.c, on both variants, in a boot each."""
    tree, plan, _ = new_plan_of_flavour("vmm", folder, machine)
    plan.patched, plan.variants = patched, ["unpatched", patched]
    plan.tests = [Test(
        name="vmm", program="vmm", source="rig", cpus=1, parameters="-",
        seconds=VMM_SECONDS, file=str(tree.folder / "rig/vmm"), machine=machine,
        arguments="nested")]
    for variant in plan.variants:
        add_boot(plan, variant, variant, machine, 1, [variant])
    return plan


# ---- VMX=kvm, in an emulated host

# How much slower guests are whose host is a guest itself; and of guest time of that
# host, for all of it.
NESTED_SLOWER = 20
HOST_SECONDS = 7200


def plan_nested(folder, machine):
    """The tests of "make run", on a host that is the guest of an emulated one."""
    del machine		# it is emulated, even where there is VMX
    tree, plan = new_plan("nested", folder, "nested")
    plan.variants = ["unpatched", "patched"]
    plan.tests = [replace(test, seconds=test.seconds * NESTED_SLOWER,
                          arguments=FEW_PROGRAMS if test.program == FUZZ else "")
                  for test in tests_of_table(tree, plan)]
    for cpus in sorted({test.cpus for test in plan.tests}):
        for variant in plan.variants:
            name = f"{variant}-{cpus}"
            add_boot(plan, name, name, "nested", cpus, [variant])
    return plan


def host_boot(plan, boot):
    """What the emulated host of a boot does, on the patched KVM: see whether it is one
    that VMX=kvm would be chosen on, and run QEMU."""
    folder = Path(plan.folder)
    tests = [Test(name=name, program=name, source="rig", cpus=boot.cpus,
                  parameters="kvm_intel.nested=1", seconds=seconds, file=str(file),
                  machine="bochs")
             for name, seconds, file in (
                 ("vmx-probe", 60, folder / "rig/vmx-probe"),
                 ("qemu", HOST_SECONDS, "tools/rig/guest/nested.sh"))]
    steps = {"patched": list(Stepper(plan, "bochs").variant("patched", tests))}
    return Boot("host", boot.image, "bochs", boot.cpus, ["patched"], steps), tests


# ---- the kernel that runs here, or one of Debian's own in an emulated host

# Of guest time of that host: modules are large there, and all of it.
STOCK_SECONDS = 600
ALL_SECONDS = 3000


def plan_host(folder, machine):
    """The tests of "make run", on all CPUs that there are; one that is for more of them
    than one is not run as one for one, too.  Debian's kernels have no KUnit."""
    tree, plan = new_plan("host", folder, machine)
    plan.variants = ["unpatched", "patched"]
    cpus = os.cpu_count() if machine == "host" else 1
    tests = {}
    for test in tests_of_table(tree, plan):
        if test.source == "kunit" or test.cpus > cpus:
            continue
        name = label(test.program, test.source, test.parameters, 1)
        tests[name] = replace(test, name=name, cpus=cpus)
    plan.tests = list(tests.values())
    # Words of init's plan have blanks between them.
    if machine == "host" and len(str(tree.folder.resolve()).split()) > 1:
        raise Wrong(f"{tree.folder.resolve()}: no blanks in that, please")
    add_boot(plan, machine, machine, machine, cpus, plan.variants)
    return plan


def stock_boot(boot):
    """What an emulated host with a kernel of Debian's own does, the boot being a part
    of it."""
    steps = [Step(name, f"test {name} {seconds} /bin/sh /tests/rig/{command}")
             for name, seconds, command in (
                 ("load", STOCK_SECONDS, "stock.sh load"),
                 ("busy", STOCK_SECONDS, "stock.sh busy"),
                 ("SIGINT", STOCK_SECONDS, "stock.sh interrupted INT"),
                 ("SIGTERM", STOCK_SECONDS, "stock.sh interrupted TERM"),
                 ("all", ALL_SECONDS, "stock.sh all"),
                 ("nobody", STOCK_SECONDS, "stock.sh nobody"))]
    return Boot("stock", boot.image, "stock", boot.cpus, ["stock"], {"stock": steps})


def jobs():
    return int(os.environ.get("JOBS") or os.cpu_count() or 1)
