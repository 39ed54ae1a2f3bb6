# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and branches of KVM the tests run, as gcov counts them.

Looked at are the functions of the table coverage and what they call, whole, and of
other functions the lines that the series adds.  What is not run has to be in the
table unreached, which says why.
"""

import json
import os
import re
import shutil
import subprocess
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import tables
from .errors import Wrong
from .faults import KVM
from .pack import COUNTED
from .plan import Tree

FOLDER = "arch/x86/kvm"
# How the reason of what could be reached, and is not, begins.
NO_TEST = "no test: "
SVM = f"{FOLDER}/svm/"
HEADER = re.compile(rb"gcov-dump ([0-9]+)")
FILE = re.compile(rb"([0-9]+) ([0-9a-f]{8}) (\S+)")


# ---- what guest/gcov-dump.c has sent

def read_dump(data, wanted):
    """({name: its bytes}, what is wrong with it) of what came."""
    files, problems, at = {}, [], 0

    def line():
        nonlocal at
        end = data.find(b"\n", at)
        if end < 0:
            return b""
        found, at = data[at:end], end + 1
        return found

    if not data:
        return files, ["nothing was counted"]
    header = HEADER.fullmatch(line())
    if not header or int(header[1]) != len(wanted):
        problems.append(f"it does not begin with \"gcov-dump {len(wanted)}\"")
    while True:
        said = line()
        match = FILE.fullmatch(said)
        if not match:
            break
        name, size = match[3].decode(errors="replace"), int(match[1])
        found, at = data[at:at + size], at + size
        if len(found) != size or data[at:at + 1] != b"\n":
            problems.append(f"{name}: it is not {size} bytes long")
        elif zlib.crc32(found) != int(match[2], 16):
            problems.append(f"{name}: its checksum is not {match[2].decode()}")
        elif name in files:
            problems.append(f"{name}: it came twice")
        else:
            files[name] = found
        at += 1
    if said != b"end" or at != len(data):
        problems.append("it does not end with \"end\"")
    problems += [f"{name}: it did not come" for name in wanted if name not in files]
    problems += [f"{name}: it was not to come" for name in files if name not in wanted]
    return files, problems


# ---- the source

class Source:
    """The kernel with the series on it."""

    def __init__(self, folder):
        self.tree = Tree(folder)
        self.src, self.git = self.tree.src.resolve(), self.tree.git
        self.texts = {}

    def lines(self, file):
        if file not in self.texts:
            self.texts[file] = self.git("show", f"patched:{file}").split("\n")
        return self.texts[file]

    def added(self):
        """{file: numbers of the lines that the series adds} of KVM, without KUnit's."""
        found, file = {}, None
        for line in self.git("diff", "-U0", "--no-color", "base", "series", "--",
                             *KVM).split("\n"):
            if line.startswith("+++ "):
                file = line[6:]
            match = re.match(r"@@ -\S+ \+([0-9]+)(?:,([0-9]+))? @@", line)
            if match and file.endswith((".c", ".h")) and "kunit" not in file:
                first, n = int(match[1]), int(match[2] or 1)
                found.setdefault(file, set()).update(range(first, first + n))
        return found

    def headers(self):
        return [file for file in self.git(
            "ls-tree", "-r", "--name-only", "patched", *KVM).split("\n")
            if file.endswith(".h") and "kunit" not in file]


def roots(tree):
    """The rows of the table coverage for a kernel."""
    return [row for row in tables.read("coverage")
            if tables.holds_for(row["kernels"], tree.kernel, tree.word("series"))]


def objects(source, files):
    """Of these files what is compiled, as gcov-dump and make name it."""
    return sorted({file[len(FOLDER) + 1:-2] for file in files
                   if file.endswith(".c") and file.startswith(f"{FOLDER}/")})


def counted_objects(folder):
    """The objects of KVM's to look at."""
    source = Source(folder)
    return objects(source, [file for file in source.added()
                            if not file.startswith(SVM)] +
                   [row["file"] for row in roots(source.tree)])


def svm_objects(source):
    return objects(source, [file for file in source.added() if file.startswith(SVM)])


NAME = re.compile(r"\b(\w+)\(")
ONE_LINE = re.compile(r"[a-z].*\)\s*\{.*\}$")


def functions(lines):
    """(name, first, last) of each function in a file, its lines counted from 1."""
    for i, line in enumerate(lines):
        first = last = i
        if line == "{":
            first -= 1
            while first > 0 and lines[first][:1] in ("\t", " "):
                first -= 1
            if "}" not in lines[i:]:
                continue
            last = lines.index("}", i)
        elif not ONE_LINE.match(line):
            continue
        match = NAME.search(" ".join(lines[first:i + 1]))
        if match:
            yield match[1], first + 1, last + 1


COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.S)


def calls(text):
    return set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", COMMENT.sub(" ", text)))


class Functions:
    """All functions of some files, by file and name."""

    def __init__(self, source, files):
        self.source, self.at, self.by_name = source, {}, {}
        for file in files:
            for name, first, last in functions(source.lines(file)):
                self.at.setdefault(file, []).append((first, last, name))
                self.by_name.setdefault(name, []).append((file, first, last))

    def of_line(self, file, number):
        """(name, first, last) of the function that a line is in."""
        for first, last, name in self.at.get(file, ()):
            if first <= number <= last:
                return name, first, last
        return None

    def find(self, name, caller):
        """The function that a file calls by that name: its own, where it has one."""
        found = self.by_name.get(name, ())
        return [one for one in found if one[0] == caller] or [
            one for one in found if one[0].endswith(".h")] or list(found)

    def called_by(self, file, name):
        """That function, and all that it calls, and so on; what is called in headers
        is not looked into."""
        seen, left = [], [(name, file)]
        while left:
            name, caller = left.pop(0)
            for file, first, last in self.find(name, caller):
                if (file, name) in seen:
                    continue
                seen.append((file, name))
                text = "\n".join(self.source.lines(file)[first - 1:last])
                if file.endswith(".c"):
                    left += [(called, file)
                             for called in sorted(calls(text.partition("{")[2]))]
        return seen

    def is_copied(self, file, number):
        """Whether a line is in a function that is put into each that calls it: the
        compiler counts there, for each of them apart."""
        function = self.of_line(file, number)
        head = "".join(self.source.lines(file)[function[1] - 1:function[2]]) \
            .partition("{")[0] if function else ""
        return file.endswith(".h") or "__always_inline" in head


# ---- what was counted

@dataclass
class Line:
    number: int
    text: str
    count: int = 0
    branches: list = field(default_factory=list)
    reason: str = ""		# of what was not run, where the table has one

    @property
    def taken(self):
        return sum(n > 0 for n in self.branches)

    @property
    def misses(self):
        """As the table unreached has it: "line", or so many branches, or ""."""
        if not self.count:
            return "line"
        left = len(self.branches) - self.taken
        return str(left) if left else ""

    def said(self):
        what = "not run" if self.misses == "line" else \
            f"{self.misses} of {len(self.branches)} branches not taken"
        return f"line {self.number}: {self.text}: {what}"


@dataclass
class Function:
    file: str
    name: str
    whole: bool			# or only the lines that the series adds
    lines: list = field(default_factory=list)

    def ran(self):
        return sum(line.count > 0 for line in self.lines)

    def branches(self):
        return sum(len(line.branches) for line in self.lines)

    def taken(self):
        return sum(line.taken for line in self.lines)

    def label(self, line):
        """A line by its text and, where that is there again, which of these it is."""
        same = [one.number for one in self.lines if one.text == line.text]
        return line.text if len(same) == 1 else \
            f"{line.text} #{same.index(line.number) + 1}"

    def between(self, text):
        """The lines that a row of the table unreached means: one, those from one to
        another, or all."""
        labels = [self.label(line) for line in self.lines]
        first, _, last = text.partition(" ... ")
        if text == "*":
            return self.lines
        if first not in labels or (last or first) not in labels:
            return []
        return self.lines[labels.index(first):labels.index(last or first) + 1]


@dataclass
class Coverage:
    functions: list
    problems: dict		# boot: what is wrong with what came of it
    stale: list			# rows of the table unreached that say nothing
    lacking: list		# of the table coverage, what was not counted
    svm: dict			# file: the lines that no boot here can run

    def reached(self):
        """(lines run, of how many, branches taken, of how many)"""
        return tuple(sum(one) for one in zip(*(
            (function.ran(), len(function.lines), function.taken(),
             function.branches()) for function in self.functions))) or (0, 0, 0, 0)

    def unreachable(self):
        """(lines, branches) that nothing here can reach."""
        lines = [line for function in self.functions for line in function.lines
                 if line.reason and not line.reason.startswith(NO_TEST)]
        return (sum(line.misses == "line" for line in lines),
                sum(len(line.branches) - line.taken for line in lines))

    def in_reach(self):
        """As reached(), without what nothing here can reach."""
        ran, n, taken, m = self.reached()
        lines, branches = self.unreachable()
        return ran, n - lines, taken, m - branches

    def write(self, path):
        path.write_text(json.dumps(
            {**asdict(self), "reached": self.reached(), "unreachable": self.unreachable()},
            indent=1))


class Counts:
    """How often lines ran and branches were taken: of all boots, and of all objects
    that a line is in."""

    def __init__(self, source):
        self.source, self.lines = source, {}

    def file(self, name, cwd, obj):
        """A file as the source names it, or None where it is none of the source's."""
        path = os.path.normpath(os.path.join(cwd, name))
        for top in (self.source.src, obj):
            if path.startswith(f"{top}/"):
                path = path[len(f"{top}/"):]
                return path if (self.source.src / path).exists() else None
        return None

    def add(self, data, object_, obj):
        """What gcov says of an object."""
        for one in data["files"]:
            file = self.file(one["file"], data["current_working_directory"], obj)
            if not file:
                continue
            here = {}
            for line in one["lines"]:
                count, branches = here.setdefault(line["line_number"], [0, []])
                here[line["line_number"]][0] = count + line["count"]
                branches += [branch["count"] for branch in line["branches"]
                             if not branch["throw"]]
            for number, (count, branches) in here.items():
                old = self.lines.setdefault((file, number), {})
                before, taken = old.get(object_, (0, [0] * len(branches)))
                old[object_] = (before + count,
                                [a + b for a, b in zip(taken, branches)])

    def line(self, file, number, copied=False):
        """A Line, or None where there is no code; copied, as is_copied() has it."""
        of = self.lines.get((file, number))
        if not of:
            return None
        text = " ".join(self.source.lines(file)[number - 1].split())
        branches = [n for _, (_, branches) in sorted(of.items()) for n in branches]
        return Line(number, text, sum(count for count, _ in of.values()),
                    best_copy(text, branches) if copied else branches)

    def numbers(self, file, first, last):
        return [number for of, number in sorted(self.lines)
                if of == file and first <= number <= last]


def best_copy(text, branches):
    """Of a line that is in several places, the branches of its conditions: each as it
    is in the place where most of its outcomes were seen.  Whether what one place has
    seen, and what another has, are the same outcome is not known.  Where the compiler
    knew some of the conditions, which these are is not known either."""
    size = 2 + 2 * text.count("&&") + 2 * text.count("||")
    if len(branches) % size:
        size = 2
    if not branches or len(branches) % size:
        return branches
    best = []
    for i in range(0, size, 2):
        pairs = [branches[at:at + 2] for at in range(i, len(branches), size)]
        best += max(pairs, key=lambda pair: sum(n > 0 for n in pair))
    return best


def gcov(folder, name):
    """What gcov makes of NAME.gcno and, where it is there, NAME.gcda."""
    file = f"{name}.gcda" if (folder / f"{name}.gcda").exists() else f"{name}.gcno"
    if not shutil.which("gcov"):
        raise Wrong("gcov is not here: it comes with gcc")
    done = subprocess.run(["gcov", "-b", "-c", "-j", "-t", file], cwd=folder,
                          capture_output=True, text=True, check=False)
    if done.returncode or "mismatch" in done.stderr or not done.stdout:
        raise Wrong(f"gcov {file}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout.split("\n")[0])


def keep(plan, out):
    """What came of the boots of a plan, and what gcov needs with it: OUT/counted."""
    source = Source(plan.folder)
    wanted = counted_objects(plan.folder)
    kept = out / "counted"
    shutil.rmtree(kept, ignore_errors=True)
    problems = {}
    obj = Path(plan.folder) / "obj" / FOLDER

    def put(name, folder, data):
        path = kept / folder / f"{name}.gcda"
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        shutil.copy(obj / f"{name}.gcno", path.with_suffix(".gcno"))

    for boot in plan.boots:
        try:
            data = (out / "boots" / boot.name / COUNTED).read_bytes()
        except OSError:
            data = b""
        files, problems[boot.name] = read_dump(data, wanted)
        for name, content in files.items():
            put(name, boot.name, content)
    for name in svm_objects(source):
        put(name, "svm", None)
    (kept / "problems.json").write_text(json.dumps(problems))


def read_counts(source, plan, out, wanted=()):
    """(Counts, problems) of what is kept, which has to be these objects of each boot."""
    kept = out / "counted"
    try:
        problems = json.loads((kept / "problems.json").read_text())
    except (OSError, ValueError):
        problems = {}
    counts, obj = Counts(source), (Path(plan.folder) / "obj").resolve()
    for boot in plan.boots:
        mine = problems.setdefault(boot.name, ["nothing was kept of it"])
        mine += [f"{name}: its counts are not there" for name in wanted
                 if not (kept / boot.name / f"{name}.gcda").exists()]
        for path in sorted((kept / boot.name).rglob("*.gcda")):
            name = str(path.relative_to(kept / boot.name))[:-len(".gcda")]
            try:
                counts.add(gcov(kept / boot.name, name), name, obj)
            except Wrong as error:
                mine.append(str(error))
    return counts, problems


def svm_lines(source, plan, out):
    """{file: how many lines of code the series adds there} of SVM."""
    counts, obj = Counts(source), (Path(plan.folder) / "obj").resolve()
    added, found = source.added(), {}
    for name in svm_objects(source):
        counts.add(gcov(out / "counted/svm", name), name, obj)
        file = f"{FOLDER}/{name}.c"
        found[file] = sum((file, number) in counts.lines for number in added[file])
    return found


def select(source, counts, wanted):
    """The functions to look at, with their lines; wanted, rows of the table
    coverage.  And those of these that are not counted."""
    added = {file: numbers for file, numbers in source.added().items()
             if not file.startswith(SVM)}
    files = {file for file in added if file.endswith(".c")} | {
        row["file"] for row in wanted} | set(source.headers())
    known = Functions(source, sorted(files))
    found, lacking = {}, []
    for row in wanted:
        before = len(found)
        for file, name in known.called_by(row["file"], row["function"]):
            numbers = [number for first, last, one in known.at[file] if one == name
                       for number in counts.numbers(file, first, last)]
            if numbers:
                found.setdefault((file, name), (True, numbers))
        if len(found) == before or (row["file"], row["function"]) not in found:
            lacking.append(f"{row['function']}() of {row['file']}")
    some = {}
    for file, numbers in sorted(added.items()):
        for number in sorted(numbers):
            if (file, number) not in counts.lines:
                continue
            function = known.of_line(file, number)
            key = file, function[0] if function else "-"
            if key not in found:
                some.setdefault(key, (False, []))[1].append(number)
    found.update(some)
    return [Function(file, name, whole, [
        counts.line(file, number, known.is_copied(file, number)) for number in numbers])
            for (file, name), (whole, numbers) in found.items()], lacking


def explain(found, rows):
    """Put reasons to what was not run; the rows that say nothing of it."""
    stale = []
    for row in rows:
        lines = [line for function in found if row["file"] == function.file and
                 row["function"] == function.name
                 for line in function.between(row["line"])]
        wrong = [line for line in lines if line.misses != row["misses"]]
        if not lines:
            stale.append((row, "there is no such line with code"))
        elif wrong:
            what = wrong[0].said() if wrong[0].misses else \
                f"line {wrong[0].number}: all of it is reached"
            stale.append((row, f"it is said to miss {row['misses']}, and: {what}"))
        else:
            for line in lines:
                line.reason = row["reason"]
    return stale


def load(out):
    """What was measured in a folder of results."""
    path = Path(out) / "coverage.json"
    try:
        data = json.loads(path.read_text())
        functions = [Function(one["file"], one["name"], one["whole"],
                              [Line(**line) for line in one["lines"]])
                     for one in data["functions"]]
        return Coverage(functions, data["problems"], data["stale"], data["lacking"],
                        data["svm"])
    except (OSError, ValueError, KeyError, TypeError):
        raise Wrong(f"{path}: no counts are there: make coverage") from None


def rows_for(plan):
    return [row for row in tables.read("unreached")
            if tables.holds_for(row["kernels"], plan.kernel, plan.series)]


def measure(plan, out):
    """What came of a plan, all of it."""
    source = Source(plan.folder)
    counts, problems = read_counts(source, plan, out,
                                   counted_objects(plan.folder))
    found, lacking = select(source, counts, roots(source.tree))
    stale = [f"{row['function']}(): {row['line']}: {why}"
             for row, why in explain(found, rows_for(plan))]
    return Coverage(found, problems, stale, lacking, svm_lines(source, plan, out))
