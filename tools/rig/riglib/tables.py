# SPDX-License-Identifier: GPL-2.0-only
"""The tables of tools/rig/tables.

A table's columns are what the last line of its heading comment says, separated by
tabs where that line has tabs, else by blanks.
"""

import configparser
import functools
import re
import string
from pathlib import Path

from .errors import Wrong

TABLES = Path("tools/rig/tables")
CONFIG = Path("tools/rig/config")
PATCHES = Path("patches")

MACHINES_OF_ROWS = ("bochs", "vmx", "svm")
EXPECTATIONS = ("pass", "fail", "bug", "chance", "unbuilt")
TARGETS = ("debug-kernel", "coverage", "vmm")
RULES = ("less", "at-most", "same")


@functools.lru_cache(maxsize=None)
def read(name):
    """The rows of a table, each a dictionary by the names of its columns."""
    path = TABLES / name
    heading, rows = "", []
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise Wrong(f"{path}: the table is not there") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            if not rows:
                heading = line
            continue
        if not line.strip():
            continue
        columns = [c.strip().lower() for c in split(heading[1:].strip(), heading)]
        fields = split(line, heading)
        if len(fields) != len(columns):
            raise Wrong(f"{path}:{number}: {len(fields)} columns, and "
                        f"{len(columns)} are meant: {', '.join(columns)}")
        rows.append(dict(zip(columns, fields)))
    if not rows:
        raise Wrong(f"{path}: the table is empty")
    return rows


def split(line, heading):
    return line.split("\t") if "\t" in heading else line.split()


def kernels():
    return {row["name"]: row for row in read("kernels")}


def flavours(target=None):
    """The table of that name, or what a target boots of it; its lists as lists."""
    found = {}
    for row in read("flavours"):
        if target not in (None, row["target"]):
            continue
        lists = {key: [] if row[key] == "-" else row[key].split(",")
                 for key in ("make", "core", "boots", "programs", "needs")}
        found[row["name"]] = {**row, **lists}
    return found


def holds_for(value, kernel, series=None):
    """Whether a list of kernels, or of generations of them, has this one."""
    return value == "*" or bool({kernel, series} & set(value.split(",")))


class Fault:
    def __init__(self, series, name, section):
        self.series, self.name = series, name
        self.file = section["file"]
        self.function = section["function"]
        self.old = section["from"]
        self.new = section["to"].replace("\\n", "\n").replace("\\t", "\t")
        self.caught_by = section["caught by"]
        self.what = section["what"]
        self.machine = section.get("machine", "")
        self.cpus = int(section.get("cpus", "1"))
        self.flavour = section.get("flavour", "")
        self.tests = section.get("tests", "")
        self.says = section.get("says", "")

    def text(self):
        """All that makes the fault what it is."""
        return "\n".join((self.file, self.function, self.old, self.new))


def faults(series=None, pattern=None):
    """The faults of a generation of kernels, or all, whose names match."""
    path = TABLES / "faults"
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",),
                                       comment_prefixes=("#",),
                                       empty_lines_in_values=False)
    try:
        parser.read_string(path.read_text(), str(path))
    except configparser.Error as error:
        raise Wrong(" ".join(str(error).split())) from None
    found = []
    for title in parser.sections():
        try:
            of, name = title.split(" ")
            fault = Fault(of, name, parser[title])
        except (KeyError, ValueError) as error:
            raise Wrong(f"{path}: [{title}]: {error} is missing, or the title is "
                        f"not [SERIES NAME]") from None
        if series in (None, of) and re.search(pattern or "", name):
            found.append(fault)
    return found


def points(curve):
    """Of a row of the table curves: what its points are called, by their X."""
    return {int(x): f"{curve['name']} {x}" for x in curve["points"].split(",")}


def regex(text, variable):
    """What the user has given in a variable, compiled."""
    try:
        return re.compile(text or "")
    except re.error as error:
        raise Wrong(f"{variable}={text} is no regular expression: {error}") from None


# What generations of kernels are called: those that patches/stable is for, and next.
RANGES = ("v5.10-v5.19", "v6.0-v6.16", "v6.17-v7.2")


def folders():
    return {*RANGES, "next"}


def hidden(rows):
    """Rows that never hold, as an earlier one of the same name, and for the same
    machine, holds wherever they would."""
    for i, row in enumerate(rows):
        for before in rows[:i]:
            if all(before[key] == row[key] for key in ("name", "machine")) and (
                    before["kernels"] == "*" or
                    set(row["kernels"].split(",")) <= set(before["kernels"].split(","))):
                yield row
                break


def lint_fuzz(known, letters):
    """Of the table fuzz: what it says of holes and faults that there are."""
    names = {(fault.series, fault.name) for fault in faults()}
    for row in read("fuzz"):
        title = f"fuzz: {row['kind']} {row['name']}"
        if not set(row["kernels"].split(",")) <= known:
            yield f"{title}: unknown kernel in {row['kernels']}"
        if row["kind"] == "hole":
            if row["name"] not in letters:
                yield f"{title}: there is no such hole"
            if row["host"] not in ("vmx-1", "vmx-2", "svm"):
                yield f"{title}: there is no host {row['host']}"
            try:
                re.compile(row["what"])
            except re.error as error:
                yield f"{title}: {error}"
        elif row["kind"] != "miss" or any(
                (series, row["name"]) not in names
                for series in row["kernels"].split(",")):
            yield f"{title}: there is no such fault"


def lint():
    """What is wrong with the tables, a line each."""
    known = set(kernels()) | folders() | {"*", "-"}
    for name in ("tests", "figures", "suite", "skips", "packages", "holes",
                 "curves", "flavours", "fuzz", "coverage", "unreached", "kut"):
        try:
            read(name)
        except Wrong as error:
            yield str(error)
            return
    for row in kernels().values():
        if row["series"] not in folders():
            yield f"kernels: {row['name']}: there is no {row['series']}"
        if row["borrows"] not in known:
            yield f"kernels: {row['name']}: it borrows of an unknown {row['borrows']}"
    tests = read("tests")
    for row in tests:
        for key in ("bug", "kernels"):
            if not set(row[key].split(",")) <= known:
                yield f"tests: {row['name']}: unknown kernel in {row[key]}"
    for row in read("figures"):
        if row["rule"] not in RULES:
            yield f"figures: {row['name']}: unknown rule {row['rule']}"
        if row["test"] not in {test["name"] for test in tests}:
            yield f"figures: {row['name']}: no test is called {row['test']}"
        if not set(row["kernels"].split(",")) <= known:
            yield f"figures: {row['name']}: unknown kernel in {row['kernels']}"
        try:
            if "n" not in re.compile(row["pattern"]).groupindex:
                yield f"figures: {row['name']}: its pattern has no group n"
        except re.error as error:
            yield f"figures: {row['name']}: {error}"
    for row in read("curves"):
        if not re.fullmatch(r"[0-9]+(,[0-9]+)*", row["points"]):
            yield f"curves: {row['name']}: {row['points']} are no points"
    run = {test["name"] for test in tests} | {
        f"{row['name']}@svm" for row in read("suite") if row["machine"] == "svm"}
    letters = "".join(row["hole"] for row in read("holes"))
    if letters != string.ascii_lowercase[:len(letters)]:
        yield f"holes: they are called {letters}, not a, b, c and so on"
    for row in read("holes"):
        if row["test"].split("/")[0].split(":")[0] not in run:
            yield f"holes: no test is called {row['test']}"
        if not set(row["kernels"].split(",")) <= known:
            yield f"holes: {row['test']}: unknown kernel in {row['kernels']}"
    yield from lint_fuzz(known, letters)
    for row in read("skips"):
        if row["machine"] not in MACHINES_OF_ROWS:
            yield f"skips: {row['name']}: unknown machine {row['machine']}"
        if not set(row["kernels"].split(",")) <= known:
            yield f"skips: {row['name']}: unknown kernel in {row['kernels']}"
    for row in read("suite"):
        if row["machine"] not in MACHINES_OF_ROWS:
            yield f"suite: {row['name']}: unknown machine {row['machine']}"
        if row["expect"] not in EXPECTATIONS:
            yield f"suite: {row['name']}: cannot expect {row['expect']}"
        if row["expect"] not in ("pass", "bug") and row["reason"] == "-":
            yield f"suite: {row['name']}: {row['expect']}, and no reason why"
        if not set(row["kernels"].split(",")) <= known:
            yield f"suite: {row['name']}: unknown kernel in {row['kernels']}"
    for name in ("suite", "skips"):
        for row in hidden(read(name)):
            yield (f"{name}: {row['name']} on {row['machine']}, {row['kernels']}: an "
                   f"earlier row holds there")
    for row in flavours().values():
        if row["variants"] not in ("both", "patched"):
            yield f"flavours: {row['name']}: there are no variants {row['variants']}"
        config = row["name"].split("-")[0] + ".config"
        if not (CONFIG / config).exists():
            yield f"flavours: {row['name']}: config/{config} is not there"
        if not set(row["kernels"].split(",")) <= known | {"ksrc"}:
            yield f"flavours: {row['name']}: unknown kernel in {row['kernels']}"
        if not all(re.fullmatch("[1-9]", cpus) for cpus in row["boots"]):
            yield f"flavours: {row['name']}: a host cannot have {row['boots']} CPUs"
        try:
            re.compile(row["ours"] if row["ours"] != "*" else "")
        except re.error as error:
            yield f"flavours: {row['name']}: {row['ours']}: {error}"
        if row["target"] not in TARGETS:
            yield f"flavours: {row['name']}: no make {row['target']} boots it"
    for row in read("kut"):
        if not re.fullmatch("left-out|chance|[1-9][0-9]*", row["what"]):
            yield f"kut: {row['name']}: it cannot be {row['what']}"
        if not set(row["kernels"].split(",")) <= known:
            yield f"kut: {row['name']}: unknown kernel in {row['kernels']}"
    for name in ("coverage", "unreached"):
        for row in read(name):
            if not set(row["kernels"].split(",")) <= known:
                yield f"{name}: {row['function']}: unknown kernel in {row['kernels']}"
    for row in read("unreached"):
        if not re.fullmatch(r"line|[1-9][0-9]*", row["misses"]):
            yield f"unreached: {row['function']}: it cannot miss {row['misses']}"
        if not row["reason"].strip():
            yield f"unreached: {row['function']}: {row['line']}: no reason why"
    seen = set()
    for fault in faults():
        title = f"faults: [{fault.series} {fault.name}]"
        if bool(fault.flavour) != (fault.caught_by == "the kernel") or \
                fault.flavour not in {"", *flavours()}:
            yield (f"{title}: what the kernel itself is to catch has a flavour of the "
                   f"table flavours, and nothing else has")
        if fault.flavour and not fault.says:
            yield f"{title}: what is the kernel to say of it?"
        if fault.series not in folders():
            yield f"{title}: there is no {fault.series}"
        if fault.caught_by not in ("selftests", "KUnit", "selftests and KUnit",
                                   "nobody", "the kernel"):
            yield f"{title}: cannot be caught by {fault.caught_by}"
        if (fault.machine, fault.cpus) not in (("", 1), ("", 2), ("svm", 1)):
            yield f"{title}: there is no {fault.machine} host of {fault.cpus} CPUs"
        if fault.machine == "svm" and "KUnit" in fault.caught_by:
            yield f"{title}: there is no KUnit suite for SVM"
        if (fault.series, fault.text()) in seen:
            yield f"{title}: there is the same again"
        seen.add((fault.series, fault.text()))
