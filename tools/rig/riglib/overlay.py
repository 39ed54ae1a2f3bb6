# SPDX-License-Identifier: GPL-2.0-only
"""The overlay: tests that prove a series and are part of none, copied into a kernel
tree that the rig builds.  The table overlay says which file is for which kernels.

KUnit tests need static functions of KVM, so vmx.c gets a line that includes
msr_kunit_hooks.c at its end.  Selftests need a line in their Makefile.
"""

import re
import shutil
from pathlib import Path
from typing import Iterator, List, Optional

from . import tables
from .errors import Wrong

KVM = "arch/x86/kvm"
SELFTESTS = "tools/testing/selftests/kvm"
COMPAT = "tools/rig/compat"
KUNIT_MODULE = "kvm-intel-kunit"


def files(folder: str) -> List[str]:
    """The files of the table overlay for the kernels of a range."""
    return [row["file"] for row in tables.read("overlay")
            if tables.holds_for(row["kernels"], folder, folder)]


def selftests_arch(tree: Path, folder: str) -> Optional[str]:
    """What the tree calls the folders of KVM's selftests for x86, or None if its
    library is not one that ours are for."""
    for name, arch, wanted in (("Makefile.kvm", "x86", ("next",)),
                               ("Makefile", "x86_64", ("v6.0-v6.16",))):
        makefile = tree / SELFTESTS / name
        if folder in wanted and makefile.exists() and \
                f"TEST_GEN_PROGS_{arch} +=" in makefile.read_text():
            return arch
    return None


def replace(path: Path, text: str) -> None:
    """Write a file of the tree, which may have hard links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    if path.exists():
        shutil.copymode(path, new)
    new.replace(path)


def append(path: Path, *lines: str) -> None:
    """Append lines to a file of the tree."""
    if not path.exists():
        raise Wrong(f"{path} is not there, so the KUnit tests cannot be added: "
                    f"is this a Linux tree with KVM?")
    replace(path, path.read_text().rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")


def insert_after_last(path: Path, prefix: str, line: str) -> None:
    """Insert a line after the last one that begins with a prefix."""
    lines = path.read_text().split("\n")
    at = [number for number, one in enumerate(lines) if one.startswith(prefix)]
    if not at:
        raise Wrong(f"{path} has no line that begins with \"{prefix}\"")
    if line not in lines:
        lines.insert(at[-1] + 1, line)
    replace(path, "\n".join(lines))


def with_compat(text: str) -> str:
    """C source that includes msr_filter_compat.h after its own headers."""
    last = [found.end() for found in re.finditer(r'^#include ["<].*$', text, re.M)][-1]
    return f'{text[:last]}\n#include "msr_filter_compat.h"{text[last:]}'


def private_structs(tree: Path) -> str:
    """The types of an MSR filter that KVM has in msrs.c only, i.e. since 7.3: the KUnit
    tests make filters, and get a copy of whatever the types are there."""
    source = tree / KVM / "msrs.c"
    text = source.read_text() if source.exists() else ""
    return "\n".join(found[0] for name in ("msr_bitmap_range", "kvm_x86_msr_filter")
                     for found in re.finditer(rf"(?ms)^struct {name} {{\n.*?^}};\n", text))


def add_kunit(tree: Path, folder: str) -> Iterator[str]:
    sources = [file for file in files(folder) if file.startswith(KVM)]
    for file in sources:
        replace(tree / file, Path(file).read_text())
        yield file
    structs = private_structs(tree)
    if structs:
        file = f"{KVM}/vmx/msr_kunit_filter.h"
        replace(tree / file, f"/* SPDX-License-Identifier: GPL-2.0-only */\n{structs}")
        yield file
    [suite] = [Path(file).stem for file in sources if file.endswith("_kunit.c")]
    append(tree / KVM / "vmx/vmx.c", '#include "msr_kunit_hooks.c"')
    # A module even if KVM is not, so that the rig decides when the tests run.
    wanted = "$(and $(CONFIG_KUNIT),$(CONFIG_X86_64),$(CONFIG_KVM_INTEL))"
    append(tree / KVM / "Makefile",
           f"obj-$(if {wanted},m) += {KUNIT_MODULE}.o",
           f"{KUNIT_MODULE}-y := vmx/{suite}.o")
    yield from (f"{KVM}/vmx/vmx.c", f"{KVM}/Makefile")
    # Functions of kvm.ko, if the patches on the tree have added them; since 7.3 in msrs.c.
    for name in ("msrs.c", "x86.c"):
        source = tree / KVM / name
        if source.exists() and " msr_filter_build(" in source.read_text():
            append(source, '#include "vmx/msr_filter_hooks.c"')
            yield f"{KVM}/{name}"


def add_selftests(tree: Path, folder: str, arch: str) -> Iterator[str]:
    makefile = tree / SELFTESTS / ("Makefile.kvm" if arch == "x86" else "Makefile")
    for file in files(folder):
        if file.startswith(COMPAT):
            place = f"{SELFTESTS}/include/{Path(file).name}"
        elif file.startswith(SELFTESTS):
            place = SELFTESTS + re.sub(r"/x86/", f"/{arch}/", file[len(SELFTESTS):])
        else:
            continue
        if (tree / place).exists():
            continue
        text = Path(file).read_text()
        if arch != "x86" and file.startswith(SELFTESTS):
            text = with_compat(text)
        replace(tree / place, text)
        yield place
        # In the Makefile, paths begin at the selftests' own folder.
        built = place[len(SELFTESTS) + 1:]
        if built.endswith("_test.c"):
            insert_after_last(makefile, f"TEST_GEN_PROGS_{arch} +=",
                              f"TEST_GEN_PROGS_{arch} += {built[:-2]}")
        elif built.startswith("lib/"):
            insert_after_last(makefile, f"LIBKVM_{arch} +=", f"LIBKVM_{arch} += {built}")
    yield str(makefile.relative_to(tree))


def add(tree: str, folder: str) -> Iterator[str]:
    """Copy the overlay of a range of kernels into a tree; the files that changed."""
    top = Path(tree)
    yield from add_kunit(top, folder)
    arch = selftests_arch(top, folder)
    if arch:
        yield from add_selftests(top, folder, arch)
