# SPDX-License-Identifier: GPL-2.0-only
"""make check: the patches for one kernel, each alone and in order, and what of our own
code only a kernel tree can check; the rest is in "make lint".  The demands are those
of Documentation/process/maintainer-kvm-x86.rst.

build/NAME has the source, with the series, and obj/.config.  Each series is applied
to the base with nothing but what it says that it needs.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Set

from . import children, releases, series
from .errors import Wrong
from .ktap import Line
from .series import Series
from .views import tap
from .views.terminal import Progress

STEPS = Path("tools/rig/steps")
RIG = Path("tools/rig")
TESTS = Path("tools/testing/selftests/kvm")
KUNIT = Path("arch/x86/kvm/vmx")
# The only file of the patches that is in neither of KVM's folders
KVM_HOST = "arch/x86/include/asm/kvm_host.h"
# The rig's own, in guest/, and built with the kernel.
MODULES = ("nmi-tick", "srcu-count")
MOST_DETAILS = 40

# Of checkpatch's complaints two cannot be had here.  UNKNOWN_COMMIT_ID: the tree has
# no history of the kernel's to look a commit up in.  FILE_PATH_CHANGES: it asks
# whether MAINTAINERS needs an entry for a new file, which get_maintainer.pl says.
IGNORED = ("FILE_PATH_CHANGES", "UNKNOWN_COMMIT_ID")
# Nor does code outside of the kernel have __printf() and its like.
IGNORED_OUTSIDE = (*IGNORED, "PREFER_PRINTF", "PREFER_DEFINED_ATTRIBUTE_MACRO")

# Debian's programs, for which setup has installed what they need, in English, and
# without what make or the user has set for other builds or for git.
UNSET = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDLIBS",
         "ARCH", "CROSS_COMPILE", "KBUILD_OUTPUT", "KCFLAGS", "O"}
DEBIAN = {**{name: value for name, value in os.environ.items() if name not in UNSET},
          "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C",
          "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass
class Check:
    name: str
    find: Callable[[], Iterable[str]]	# what is wrong, a line each
    stops: bool = False			# without it, nothing else can be checked


class Tree:
    """A copy of the source to try the patches on: hard links, as neither git nor the
    build writes into a file that is there."""

    def __init__(self, kernel: str) -> None:
        self.dir = Path("build", kernel).resolve()
        self.folder = (self.dir / "series").read_text().strip()
        self.work = self.dir / "check"
        self.src = self.work / "src"
        # Those that are for this kernel, as made for it, and where they are from.
        self.made = self.dir.relative_to(Path.cwd()) / "patches"
        lines = [line.split() for line in
                 (self.dir / "src/.rig-patches").read_text().splitlines()]
        self.wanted = {series.PATCHES / source if self.folder == "next" else
                       self.made / name: source for name, source in lines}

    def of(self, one: Series) -> List[Path]:
        return [path for path in one.patches() if path in self.wanted]

    def series(self) -> List[Series]:
        if self.folder != "next":
            return [Series("stable", "patches", made=self.made)]
        return [one for one in series.read(self.folder) if self.of(one)]

    def name(self, one: Series, patch: Path) -> str:
        """What a patch is called: "01-nested/0001", "nested-vmx/6.0"."""
        source = self.wanted[patch].removeprefix("stable/").removesuffix(".patch")
        return f"{one.name}/{patch.name[:4]}" if self.folder == "next" else source

    def run(self, *command: object, env: Dict[str, str] = DEBIAN,
            text: str = "") -> "subprocess.CompletedProcess[str]":
        return children.output(list(map(str, command)), text, cwd=self.src, env=env)

    def git(self, *args: object) -> "subprocess.CompletedProcess[str]":
        return self.run("git", "-c", "user.name=rig", "-c", "user.email=rig@localhost",
                        "-c", "safe.directory=*", *args)

    def must(self, *args: object) -> str:
        done = self.git(*args)
        if done.returncode:
            raise Wrong(f"git {args[0]}: {done.stdout.strip()}")
        return done.stdout

    def checkout(self, ref: str) -> None:
        self.git("am", "--abort")
        self.must("checkout", "-q", "-f", "--detach", ref)

    def am(self, *patches: Path) -> Iterator[str]:
        done = self.git("am", "-q", *(path.resolve() for path in patches))
        if done.returncode:
            self.git("am", "--abort")
            yield from done.stdout.split("\n")[:8]

    def prepare(self) -> Iterator[str]:
        """At the base, with the branches as the run has them: the copy may be older."""
        stamp = self.work / "copied"
        newest = max((self.dir / name).stat().st_mtime
                     for name in ("src/.rig-version", "obj/.config"))
        if not stamp.exists() or stamp.stat().st_mtime < newest:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            subprocess.run(["cp", "-al", self.dir / "src", self.src], check=True)
            shutil.rmtree(self.src / ".git/rebase-apply", ignore_errors=True)
            stamp.touch()
        self.checkout("base")
        done = self.git("fetch", "-q", self.dir / "src", "+series:series")
        if done.returncode:
            yield done.stdout.strip()

    # ---- building

    def make(self, obj: Path, *args: str, log: Path) -> Iterator[str]:
        done = self.run("make", "--no-print-directory", f"-j{jobs()}", f"O={obj}",
                        "LOCALVERSION=", "KBUILD_MODPOST_WARN=1", *args)
        log.write_text(done.stdout)
        if done.returncode:
            yield from explain(log)

    def kvm(self, name: str, how: str) -> Iterator[str]:
        """KVM in the tree as it is, as modules ("m") or built in ("y").  Warnings are
        no errors: some kernels have their own, and a patch must not add any."""
        obj, log = self.work / f"obj-{how}", self.work / f"build-{name}-{how}"
        obj.mkdir(exist_ok=True)
        config = os.environ.get("KCONFIG") or self.dir / "obj/.config"
        shutil.copy(config, obj / ".config")
        options = [word for option in ("KVM", "KVM_INTEL", "KVM_AMD")
                   for word in ("--set-val", option, how)]
        done = self.run("scripts/config", "--file", obj / ".config", *options,
                        "--disable", "KVM_WERROR")
        if done.returncode:
            yield done.stdout
            return
        wrong = list(self.make(obj, "olddefconfig", log=log))
        if not wrong and f"CONFIG_KVM_INTEL={how}\n" not in (obj / ".config").read_text():
            wrong = [f"KVM_INTEL={how} is not what becomes of {config}"]
        if wrong:
            yield from wrong
            return
        # Debian 12's sparse does not know what newer kernels have in the place of
        # __typeof__, and Kbuild does without a sparse that fails its test.
        sparse = ("C=1", "CHECK=sparse -D__typeof_unqual__=__typeof__") \
            if how == "m" else ()
        yield from self.make(obj, *sparse, "W=1", "arch/x86/kvm/", log=log)

    def warnings(self, name: str, how: str) -> Set[str]:
        """What gcc and sparse say, without line numbers: these move."""
        found = set()
        for line in (self.work / f"build-{name}-{how}").read_text().split("\n"):
            # Sparse takes what module_param() is made of for no constant.
            if re.search(r": (warning|error|note): ", line) and not line.endswith(
                    (" undefined!", " error: bad constant expression")):
                line = line.replace(f"{self.src}/", "")
                found.add(re.sub(r":\d+(:\d+)?:", ":", line))
        return found

    def builds(self, name: str, *hows: str) -> Iterator[str]:
        for how in hows:
            wrong = list(self.kvm(name, how))
            yield from wrong
            if not wrong and name != "base":
                yield from sorted(self.warnings(name, how) -
                                  self.warnings("base", how))

    def base_builds(self) -> Iterator[str]:
        stamp = self.work / "base-built"
        if not stamp.exists():
            wrong = list(self.builds("base", "m", "y"))
            yield from wrong
            if not wrong:
                stamp.touch()

    # ---- documentation

    def docs(self, name: str) -> Iterator[str]:
        """What Sphinx says of KVM's pages, and which files they refer to that are not
        there, without line numbers."""
        out, log = self.work / "docs", self.work / f"docs-{name}"
        # It says nothing of pages that it has read before.
        shutil.rmtree(out, ignore_errors=True)
        obj = self.work / "obj-m"
        yield from self.make(obj, "-s", "V=0", "htmldocs", "SPHINXDIRS=virt/kvm",
                             f"BUILDDIR={out}", log=log)
        # Without Sphinx make is content, and so is Sphinx without the pages.
        for page in sorted((self.src / "Documentation/virt/kvm").rglob("*.rst")):
            html = out / page.relative_to(self.src / "Documentation").with_suffix(".html")
            if not html.exists():
                yield f"{page.relative_to(self.src)}: there is no HTML of it"
        refs = self.run("tools/docs/documentation-file-ref-check").stdout
        found = {re.sub(r":\d*: ", ": ", line.replace(f"{self.src}/", ""))
                 for line in log.read_text().split("\n")
                 if re.search("(warning|error|critical|severe):", line, re.I)}
        text = "\n".join(sorted(found | set(refs.split("\n"))))
        (self.work / f"docs-warnings-{name}").write_text(text)

    def docs_build(self, name: str) -> Iterator[str]:
        if name == "base" and (self.work / "docs-warnings-base").exists():
            return
        wrong = list(self.docs(name))
        yield from wrong
        if not wrong and name != "base":
            before, after = (
                set((self.work / f"docs-warnings-{one}").read_text().split("\n"))
                for one in ("base", name))
            yield from sorted(after - before)

    # ---- selftests

    def tests_build(self, patch: Path) -> Iterator[str]:
        tests, log = self.work / "tests", self.work / "build-tests"
        # Not all of the suite's Makefiles know what an object is made of.
        if re.search(r"^\+\+\+ b/.*/kvm/(lib|include)/", patch.read_text(), re.M):
            shutil.rmtree(tests, ignore_errors=True)
        obj = self.work / "obj-m"
        wrong = list(self.make(obj, "headers", log=self.work / "headers-log"))
        if not wrong:
            top = Path.cwd()
            done = children.output(
                [STEPS / "build-tests", "build", "series", self.src.relative_to(top),
                 obj.relative_to(top), tests.relative_to(top)])
            log.write_text(done.stdout)
            if done.returncode:
                wrong = list(explain(log))
            wrong += [line for line in done.stdout.split("\n")
                      if re.search("msr_filter.*(warning|error):", line)]
        yield from wrong

    def tests_install(self) -> Iterator[str]:
        """What "make install" of the selftests leaves has those of the series, and its
        run_kselftest.sh knows them."""
        self.checkout("series")
        out, log, obj = self.work / "kselftest", self.work / "kselftest-log", \
            self.work / "obj-m"
        shutil.rmtree(out, ignore_errors=True)
        top = Path.cwd()
        yield from self.make(obj, "headers", log=self.work / "headers-log")
        done = children.output(
            [STEPS / "build-tests", "install", self.src.relative_to(top),
             obj.relative_to(top), out.relative_to(top)])
        log.write_text(done.stdout)
        if done.returncode:
            yield from explain(log)
        names = sorted({Path(file).stem for patch in self.wanted
                        for file in files_of(patch)
                        if file.startswith(str(TESTS)) and file.endswith("_test.c")})
        for name in names:
            if not os.access(out / "kvm" / name, os.X_OK):
                yield f"kvm/{name} is not installed"
        done = self.run(out / "run_kselftest.sh", "-d",
                        *(word for name in names for word in ("-t", f"kvm:{name}")))
        if done.returncode or not names:
            yield done.stdout or "the series add no test"
        self.checkout("base")

    # ---- style

    def checkpatch(self, *args: object, ignored: Sequence[str] = IGNORED
                   ) -> Iterator[str]:
        done = self.run("perl", "scripts/checkpatch.pl", "--strict", "--terse",
                        "--no-summary", "--show-types", "--ignore", ",".join(ignored),
                        *args)
        yield from filter(None, done.stdout.split("\n"))
        if done.returncode and not done.stdout:
            yield f"checkpatch.pl: status {done.returncode}"

    def our_c(self) -> Iterator[str]:
        found = [path.resolve() for where in (RIG, TESTS, KUNIT)
                 for path in sorted(where.rglob("*.[ch]")) if "tests/logs" not in str(path)]
        yield from self.checkpatch("--no-tree", "-f", *found, ignored=IGNORED_OUTSIDE)

    def maintainers_parse(self) -> Iterator[str]:
        ours, out = Path("MAINTAINERS").resolve(), self.work / "sorted"
        self.run("scripts/parse-maintainers.pl", "--order", f"--input={ours}",
                 f"--output={out}", "--section=/dev/null")
        done = self.run("diff", "-u", "-B", ours, out)
        yield from filter(None, done.stdout.split("\n"))

    def maintainers_cover(self) -> Iterator[str]:
        ours = Path("MAINTAINERS").resolve()
        self.checkout("series")
        changed = sorted({file for patch in self.wanted for file in files_of(patch)
                          if not re.search(r"Makefile|Kconfig|index\.rst|api\.rst", file)})
        for file in changed:
            for path in (ours, Path("MAINTAINERS")):
                done = self.run("scripts/get_maintainer.pl", "--no-git", "--no-tree",
                                f"--maintainer-path={path}", "--no-git-fallback", "-f",
                                file)
                if "kvm@vger.kernel.org" not in done.stdout:
                    yield f"{path}: {file} has no list"
        self.checkout("base")

    def module_builds(self) -> Iterator[str]:
        """The rig's own modules, with that tree."""
        out, log = self.work / "module", self.work / "build-module"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for name in MODULES:
            shutil.copy(RIG / f"guest/{name}.c", out)
        (out / "Kbuild").write_text("".join(f"obj-m += {name}.o\n" for name in MODULES))
        obj = self.work / "obj-m"
        yield from self.make(obj, "modules_prepare", log=log)
        yield from self.make(obj, "C=1", "CHECK=sparse -D__typeof_unqual__=__typeof__",
                             "W=1", f"M={out}", "modules", log=log)
        for line in log.read_text().split("\n"):
            if re.search(rf"({'|'.join(MODULES)}).*: (warning|error): ", line) and \
                    not line.endswith(" error: bad constant expression"):
                yield line

    # ---- the ways to apply the patches

    def applies(self, patch: Path) -> Iterator[str]:
        yield from releases.places(patch, self.src)
        yield from self.am(patch)

    def begin_series(self, one: Series) -> Iterator[str]:
        """The base, with what a series needs."""
        self.checkout("base")
        for need in series.closure(one):
            yield from self.am(*self.of(need))

    def all_in_order(self) -> Iterator[str]:
        self.checkout("base")
        yield from self.am(*(patch for one in self.series() for patch in self.of(one)))
        yield from self.differs("series")

    def differs(self, ref: str) -> Iterator[str]:
        yield from filter(None, self.git("diff", "--stat", ref).stdout.split("\n"))

    def reverses(self) -> Iterator[str]:
        for one in reversed(self.series()):
            for patch in reversed(self.of(one)):
                done = self.git("apply", "-R", "--index", patch.resolve())
                yield from filter(None, done.stdout.split("\n"))
        yield from filter(None, self.git("diff", "--cached", "--stat", "base")
                          .stdout.split("\n"))
        self.checkout("base")

    def quilt(self) -> Iterator[str]:
        """As Debian's debian/bin/test-patches does it, and dpkg-source."""
        listed = self.work / "quilt-series"
        top = series.PATCHES / "next" if self.folder == "next" else self.made
        listed.write_text("".join(f"{path.relative_to(top)}\n" for one in self.series()
                                  for path in self.of(one)))
        env = {**DEBIAN, "QUILT_PATCHES": str(top.resolve()),
               "QUILT_SERIES": str(listed), "QUILT_PC": ".pc"}
        self.checkout("base")
        for ref, *command in (("series", "push", "-a", "-q", "--fuzz=0"),
                              ("base", "pop", "-a", "-q")):
            done = self.run("quilt", "--quiltrc", "/dev/null", *command, env=env)
            if done.returncode:
                yield from done.stdout.strip().split("\n")[-8:]
            # Files that come and go are in no index.
            self.git("add", "-A", "-f", "arch/x86/kvm", KVM_HOST,
                     "Documentation/virt/kvm", str(TESTS))
            yield from filter(None, self.git("diff", "--cached", "--stat", ref)
                              .stdout.split("\n"))
        shutil.rmtree(self.src / ".pc", ignore_errors=True)
        self.checkout("base")

    def b4(self, one: Series) -> Iterator[str]:
        """b4 with the series' mbox, by shazam and by am."""
        mbox = self.work / "mbox"
        done = subprocess.run([STEPS / "mbox", one.path, mbox], text=True, check=False,
                              capture_output=True)
        if done.returncode:
            yield done.stderr.strip()
            return
        numbers = ",".join(str(int(path.name[:4])) for path in self.of(one))
        first = "0000" if one.cover.exists() else "0001"
        env = {**DEBIAN, **{f"XDG_{what}_HOME": str(self.work / "b4")
                            for what in ("CONFIG", "CACHE", "DATA")},
               "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name",
               "GIT_CONFIG_VALUE_0": "rig", "GIT_CONFIG_KEY_1": "user.email",
               "GIT_CONFIG_VALUE_1": "rig@localhost"}
        yield from self.begin_series(one)
        start = self.must("rev-parse", "HEAD").strip()
        # What git am makes of the patches themselves.
        yield from self.am(*self.of(one))
        wanted = self.must("rev-parse", "HEAD^{tree}").strip()
        for way, *more in (("shazam",), ("am", "-o", str(self.work / "b4-am"))):
            self.checkout(start)
            shutil.rmtree(self.work / "b4-am", ignore_errors=True)
            (self.work / "b4-am").mkdir()
            done = self.run("b4", "--offline-mode", way, *more, "-m", mbox,
                            *(("-P", numbers) if len(self.of(one)) > 1 else ()),
                            f"{first}.{one.name}@kvm-msr-filter.example", env=env)
            if way == "am":
                done = self.git("am", "-q", *sorted((self.work / "b4-am").glob("*.mbx")))
            if done.returncode or \
                    self.must("rev-parse", "HEAD^{tree}").strip() != wanted:
                yield f"b4 {way}: it is not what git am makes of the patches"
                yield from done.stdout.strip().split("\n")[-8:]
        self.checkout("base")


def jobs() -> int:
    return int(os.environ.get("JOBS") or os.cpu_count() or 1)


def files_of(patch: Path) -> List[str]:
    return re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(), re.M)


def ignored_of(patch: Path) -> Sequence[str]:
    """A backport begins by "commit SHA upstream.", which stable wants, and checkpatch
    does not know."""
    backport = re.search(r"^commit [0-9a-f]{40} upstream\.$", patch.read_text(), re.M)
    return (*IGNORED, "GIT_COMMIT_ID") if backport else IGNORED


def explain(log: Path) -> Iterator[str]:
    """The line of a log that says why, and where the rest is."""
    done = subprocess.run(["sh", "-c", f". {STEPS}/lib.sh; explain \"$1\"", STEPS / "sh",
                           log], text=True, capture_output=True, check=False)
    yield from (done.stdout.strip() or f"see {log}").split("\n")


def of_patch(tree: Tree, one: Series, patch: Path, last: bool) -> Iterator[Check]:
    name = tree.name(one, patch)
    files = files_of(patch)
    touches_kvm = any(file.startswith("arch/") for file in files)
    yield Check(f"{name}: git am", lambda: tree.applies(patch))
    yield Check(f"{name}: checkpatch --strict",
                lambda: tree.checkpatch(patch.resolve(), ignored=ignored_of(patch)))
    if touches_kvm:
        hows = ("m", "y") if last else ("m",)
        what = " ".join(f"KVM={how}" for how in hows)
        yield Check(f"{name}: {what}, W=1 C=1: no new warning",
                    lambda: tree.builds(name.replace("/", "."), *hows))
    if any(file.startswith(str(TESTS)) for file in files):
        yield Check(f"{name}: selftests build without a warning",
                    lambda: tree.tests_build(patch))
    if any(file.startswith("Documentation/") for file in files):
        yield Check(f"{name}: htmldocs of virt/kvm: no new warning",
                    lambda: tree.docs_build(name.replace("/", ".")))


def checks(tree: Tree, own: bool) -> Iterator[Check]:
    folder = tree.folder
    yield Check(f"{folder}: a copy of the source to try them on", tree.prepare, True)
    if own:
        yield Check("C of the rig and the tests: checkpatch --strict", tree.our_c)
        yield Check("MAINTAINERS: parse-maintainers.pl finds it in order",
                    tree.maintainers_parse)
    yield Check("MAINTAINERS: get_maintainer.pl knows every file of the series",
                tree.maintainers_cover)
    yield Check(f"{folder}: the base builds, KVM=m and =y, W=1 C=1", tree.base_builds)
    yield Check("the rig's modules build with it, W=1 C=1", tree.module_builds)
    if any(file.startswith("Documentation/") for patch in tree.wanted
           for file in files_of(patch)):
        yield Check(f"{folder}: the base's documentation builds",
                    lambda: tree.docs_build("base"))
    found = tree.series()
    for one in found:
        if len(found) > 1:
            needs = f", with {', '.join(one.needs)}" if one.needs else ""
            yield Check(f"{one.name}: the base{needs}",
                        lambda one=one: tree.begin_series(one))
        changing = [patch for patch in tree.of(one)
                    if any(file.startswith("arch/") for file in files_of(patch))]
        for patch in tree.of(one):
            yield from of_patch(tree, one, patch, patch == (changing or [None])[-1])
    yield Check(f"{folder}: git am takes all patches in order", tree.all_in_order)
    yield Check(f"{folder}: git apply -R takes them off again", tree.reverses)
    yield Check(f"{folder}: quilt push -a --fuzz=0, pop -a", tree.quilt)
    for one in found:
        yield Check(f"{one.name}: b4 shazam and b4 am take the mbox",
                    lambda one=one: tree.b4(one))
    if any(file.startswith(str(TESTS)) for patch in tree.wanted
           for file in files_of(patch)):
        yield Check(f"{folder}: make install of the selftests has those of the series",
                    tree.tests_install)
    yield Check(f"{folder}: patches/releases has each release, and its lines still hold",
                lambda: releases.check(folder))


def carry_out(all_checks: List[Check], path: Path) -> List[Line]:
    """Run the checks.  The plan comes first, and a check that did not run is "not ok":
    a file that is cut short cannot be taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: List[Line] = []
    progress = Progress("CHECK", path.with_suffix(".took"))

    def write() -> None:
        rest = [Line(False, f"{one.name} # not run", None, [])
                for one in all_checks[len(lines):]]
        path.write_text(tap.judgement([*lines, *rest]))

    print(f"1..{len(all_checks)}", flush=True)
    try:
        for one in all_checks:
            progress.show(len(lines), len(all_checks), "checks", one.name)
            try:
                wrong = [line for line in one.find() if line.strip()]
            except (Wrong, OSError, subprocess.SubprocessError) as error:
                wrong = [str(error)]
            lines.append(Line(not wrong, one.name, None, wrong[:MOST_DETAILS]))
            progress.end()
            print(tap.one(len(lines), lines[-1]), *(f"    # {line}" for line in
                                                    lines[-1].details), sep="\n",
                  flush=True)
            if wrong and one.stops:
                break
        else:
            progress.done(len(lines))
    finally:
        progress.end()
        write()
    return lines


def run(kernel: str, what: str = "all") -> int:
    """The checks of build/KERNEL; with "series", not those of our own code, which are
    the same for all kernels."""
    if what not in ("all", "series"):
        raise Wrong(f"check KERNEL [series], not {what}")
    config = os.environ.get("KCONFIG")
    if config and (not Path(config).exists() or
                   "CONFIG_X86_64=y\n" not in Path(config).read_text()):
        raise Wrong(f"KCONFIG={config} is not the .config of an x86-64 kernel")
    path = Path("build", kernel, "check/check.tap")
    path.unlink(missing_ok=True)
    tree = Tree(kernel)
    all_checks = list(checks(tree, what == "all"))
    kept = path.parent.parent / "check.tap.new"
    lines = carry_out(all_checks, kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept.replace(path)
    return 0 if len(lines) == len(all_checks) and all(line.ok for line in lines) else 1

