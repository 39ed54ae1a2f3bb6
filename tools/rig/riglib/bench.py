# SPDX-License-Identifier: GPL-2.0-only
"""What "make bench" compares: KVM with one patch more each time."""

import filecmp
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from . import children, plan as plans
from .errors import Wrong
from .faults import STEPS, Keeper

# What VMX runs; patches of SVM change neither.
MODULES = ("kvm.ko", "kvm-intel.ko")
# Reads struct kvm, whose layout patches change: it is built with each of them.
COUNTER = "srcu-count"


@dataclass
class State:
    name: str			# of the variant: "unpatched", or "+" and the last patch
    commit: str
    lines: int			# of KVM, that it adds to the state before
    what: str			# the patch's subject
    same_as: str = ""		# an earlier state, whose modules are the very same


def states(folder):
    """From the unpatched KVM to the patched one, patch by patch."""
    tree = plans.Tree(folder)
    done = subprocess.run([STEPS / "source", "cumulate", tree.src, tree.word("series")],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong((done.stderr.strip() or "source cumulate fails").split("\n")[-1])
    found = parse(done.stdout)
    if len(found) < 2:
        raise Wrong(f"{tree.src}: no patch of the series changes KVM there")
    return found


def parse(text):
    found = []
    for line in text.splitlines():
        name, commit, lines, what = line.split(" ", 3)
        found.append(State(name, commit, int(lines), what))
    return found


class Builder(Keeper):
    def build(self, found):
        try:
            for number, state in enumerate(found):
                if state.name != "unpatched":
                    self.one(state, f"{number}/{len(found) - 1} {state.name}")
                self.counter(state)
        finally:
            self.restore()
        for number, state in enumerate(found):
            same = [before.name for before in found[:number]
                    if not before.same_as and self.are_same(before, state)]
            state.same_as = same[0] if same else ""

    def one(self, state, text):
        tree = self.kvm_of(state.commit)
        key = tree + self.config
        if self.kept(state.name, key):
            return
        self.git("checkout", "-q", "-f", state.commit)
        log = self.folder / "log/bench" / state.name
        if self.make_modules("KVM", text, log):
            raise Wrong(f"KVM with the patches up to {state.name} does not build, so "
                        f"there is nothing to compare: see {log}")
        self.keep(state.name, key)

    def counter(self, state):
        """Build guest/srcu-count.c with a state's headers."""
        variant = self.folder / "variants" / state.name
        kept, source = variant / f"{COUNTER}.ko", Path(f"tools/rig/guest/{COUNTER}.c")
        if kept.exists() and kept.stat().st_mtime > max(
                one.stat().st_mtime for one in (source, *variant.glob("kvm*.ko"))):
            return
        self.git("checkout", "-q", "-f", state.commit)
        work = self.folder / "rig" / COUNTER
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        shutil.copy(source, work)
        (work / "Kbuild").write_text(f"obj-m := {COUNTER}.o\n")
        make = [word for word in self.make if not word.endswith(".ko")]
        log = self.folder / "log/bench" / f"{state.name}-{COUNTER}"
        if children.run([STEPS / "run-step", "MODULE", kept, log, "0", *make,
                         f"M={work.resolve()}", "modules"]):
            raise Wrong(f"{source} does not build with {state.name}: see {log}")
        shutil.copy(work / f"{COUNTER}.ko", kept)

    def are_same(self, one, other):
        variants = self.folder / "variants"
        return all(filecmp.cmp(variants / one.name / name,
                               variants / other.name / name, False)
                   for name in MODULES)


def write(out, found):
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "states.json").write_text(json.dumps(
        [asdict(state) for state in found], indent=1))


def read(out):
    try:
        text = (Path(out) / "states.json").read_text()
    except FileNotFoundError:
        raise Wrong(f"{out}: nothing was built to be compared: make bench") from None
    return [State(**state) for state in json.loads(text)]
