# SPDX-License-Identifier: GPL-2.0-only
"""Seeded faults: make one in the source, and build KVM with each."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from . import children, plan as plans, tables
from .errors import Wrong

STEPS = Path("tools/rig/steps")
# What the series changes of KVM, of which there is history in build/BASE/src.
KVM = ("arch/x86/kvm", "arch/x86/include/asm/kvm_host.h")


def body(lines, name):
    """Where a function's or a macro's lines are, first to last.

    A function begins at the line with its name that is followed by a "{" and not by
    a ";", and ends at the first "}" that begins a line.  A macro ends at the first
    line that is not continued.
    """
    for i, line in enumerate(lines):
        if re.match(rf"#define {name}\b", line):
            j = i
            while lines[j].endswith("\\"):
                j += 1
            return i, j + 1
        if not (line[:1].isalpha() and re.search(rf"\b{name}\(", line)):
            continue
        j = i
        while j < len(lines) and lines[j] != "{" and not lines[j].endswith(";"):
            j += 1
        if j < len(lines) and lines[j] == "{":
            return i, lines.index("}", j)
    return None


def apply(fault, src):
    """The source with the fault in it."""
    path = Path(src) / fault.file
    if not path.exists():
        raise Wrong(f"fault {fault.name}: there is no {fault.file}")
    lines = path.read_text().split("\n")
    where = body(lines, fault.function)
    for i in range(*where) if where else ():
        if fault.old in lines[i]:
            lines[i] = lines[i].replace(fault.old, fault.new, 1)
            break
    else:
        raise Wrong(f"fault {fault.name}: no \"{fault.old}\" in {fault.function}() "
                    f"of {fault.file}")
    new = path.with_name(path.name + ".new")	# the source has hard links
    new.write_text("\n".join(lines))
    new.replace(path)


def added(folder):
    """The lines that the patches on a tree add to each file of the kernel."""
    lines, path = {}, None
    for patch in sorted((Path(folder) / "patches").glob("0*.patch")):
        for line in patch.read_text().split("\n"):
            if line.startswith("+++ b/"):
                path = line[6:]
            elif line.startswith("+"):
                lines.setdefault(path, set()).add(line[1:])
    return lines


def few(found):
    """Of faults, the first one of each function and kind: who has to catch it, and on
    which host."""
    kinds = {}
    for fault in found:
        kinds.setdefault((fault.file, fault.function, fault.caught_by, fault.machine,
                          fault.cpus), fault)
    return list(kinds.values())


def chosen(folder, own=False, pattern=None, flavour=""):
    """The faults for the kernel in a folder; own, one of each function and kind, and
    only those in lines that the series add.  Those for a flavour are for no other
    kernel."""
    series = plans.Tree(folder).word("series")
    tables.regex(pattern, "FAULTS")
    found = [fault for fault in tables.faults(series, pattern)
             if fault.flavour == flavour]
    if own:
        lines = added(folder)
        found = few([fault for fault in found if any(
            fault.old in line for line in lines.get(fault.file, ()))])
    return found


class Keeper:
    """Builds KVM again and again, as FOLDER/variants/NAME, and leaves the source as it
    was; what is there is kept, as long as its key is the same."""

    def __init__(self, folder, make):
        self.folder, self.make = Path(folder), make
        self.tree = plans.Tree(folder)
        self.src = self.tree.src
        config = (self.folder / "obj/.config").read_bytes()
        self.config = hashlib.sha256(config).hexdigest()

    def git(self, *args):
        return self.tree.git(*args)

    def kvm_of(self, commit):
        """What tells one state of KVM from another."""
        return self.git("rev-parse", *(f"{commit}:{path}" for path in KVM)).strip()

    def restore(self):
        self.git("checkout", "-q", "-f", "patched")

    def kept(self, name, key):
        """Whether that is there already; if not, what is there goes."""
        out = self.folder / "variants" / name
        try:
            if (out / ".key").read_text() == key:
                return True
        except OSError:
            pass
        shutil.rmtree(out, ignore_errors=True)
        return False

    def make_modules(self, label, text, log):
        """The exit status of a build of what the source is now."""
        return children.run([STEPS / "run-step", label, text, log, "0", *self.make])

    def keep(self, name, key):
        modules(self.folder, name)
        (self.folder / "variants" / name / ".key").write_text(key)


class Builder(Keeper):
    """Builds KVM with each fault."""

    def __init__(self, folder, make):
        super().__init__(folder, make)
        self.state = self.kvm_of("patched") + self.config

    def build(self, faults):
        """Those that do not build, and why."""
        left_out = []
        self.restore()
        try:
            for number, fault in enumerate(faults, 1):
                why = self.one(fault, f"{number}/{len(faults)} {fault.name}")
                if why:
                    left_out.append((fault.name, why))
        finally:
            self.restore()
        return left_out

    def one(self, fault, text):
        key = hashlib.sha256((self.state + fault.text()).encode()).hexdigest()
        if self.kept(fault.name, key):
            return None
        try:
            apply(fault, self.src)
        except Wrong as error:
            return str(error)
        log = self.folder / "log/faults" / fault.name
        status = self.make_modules("FAULT", text, log)
        self.restore()
        if status:
            return f"see {log}"
        self.keep(fault.name, key)
        return None


def modules(folder, variant):
    """Keep the modules that were built last as those of a variant."""
    out = Path(folder) / "variants" / variant
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    obj = Path(folder) / "obj"
    # A tree may have irqbypass built in.
    for path in [*obj.glob("arch/x86/kvm/*.ko"), *obj.glob("virt/lib/*.ko")]:
        shutil.copy(path, out)
    built_in = "CONFIG_KVM_INTEL=y" in (obj / ".config").read_text().split("\n")
    if not built_in and not (out / "kvm-intel.ko").exists():
        raise Wrong(f"{obj}/arch/x86/kvm: no kvm-intel.ko was built")


def write_left_out(out, left_out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "left-out.json").write_text(json.dumps(left_out))


def read_left_out(out):
    return json.loads((out / "left-out.json").read_text())


def pattern():
    return os.environ.get("FAULTS") or None
