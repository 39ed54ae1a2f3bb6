# SPDX-License-Identifier: GPL-2.0-only
"""The table patches/releases: on which trees of which kernels the series was tried.

A row is made of what "make tree", "make check" and "make run" have left in build/.
It holds for as long as the lines that the patches change or have around their hunks
are the lines that were there then: these are summed up in the row, so that a patch
that wants others now is found out without the tree.
"""

import hashlib
import itertools
import operator
import os
import re
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from . import holes, ktap, results, series, tables
from .errors import Wrong
from .series import hunks, topics

PATH = tables.PATCHES / "releases"
# The last release before the next major number.
LAST = {5: 19, 6: 19}


@dataclass
class Row:
    release: str
    tree: str
    day: str
    folder: str
    am: str			# what git am took, "1-4,6"
    lines: str			# of the kernel's that these patches have to find
    check: str			# "33/33", "-"
    run: str			# "22/22", "-"
    holes: str			# those of tables/holes that were seen, "ac!e", "none", "-"
    by: str			# BASE= or KSRC=, and KEXTRA=


def read():
    rows = []
    for number, line in enumerate(PATH.read_text().split("\n"), 1):
        if line.startswith("#") or not line:
            continue
        columns = line.split("\t")
        if len(columns) != len(fields(Row)):
            raise Wrong(f"{PATH}:{number}: {len(columns)} columns, and "
                        f"{len(fields(Row))} are meant")
        rows.append(Row(*columns))
    return rows


def write(rows):
    heading = [line for line in PATH.read_text().split("\n") if line.startswith("#")]
    rows = sorted(rows, key=lambda row: (version(row.release), row.tree))
    PATH.write_text("\n".join(
        heading + ["\t".join(asdict(row).values()) for row in rows]) + "\n")


def version(release):
    return tuple(map(int, re.findall(r"\d+", release)))


def numbers(text):
    """The numbers of "1-4,6"."""
    found = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def ranges(found):
    """The text of some numbers, which are in order."""
    parts = []
    for number in found:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def numbered(folder):
    """{number: paths}: of patches/next each patch by its place in the order of all, of
    patches/stable each topic, with its variants."""
    if folder == "next":
        return {n: [path] for n, path in enumerate(series.patches(folder), 1)}
    return {n: [variant.path for variant in topic.variants]
            for n, topic in enumerate(topics.Stable().topics, 1)}


def numbers_of(folder, sources):
    """The numbers of patches whose paths in patches/ are given."""
    return sorted(n for n, paths in numbered(folder).items()
                  if any(str(path.relative_to(series.PATCHES)) in sources
                         for path in paths))


def wanted_lines(folder, which):
    """A sum of what patches have to find in the files that the kernel has: the lines
    that they take away, and those around."""
    digest, patches = hashlib.sha256(), numbered(folder)
    for number in which:
        if number not in patches or not all(path.exists() for path in patches[number]):
            raise Wrong(f"{folder}: there is no patch {number}")
        for path in patches[number]:
            for file, parts in itertools.groupby(hunks.parse(path.read_text()).hunks,
                                                 operator.attrgetter("file")):
                for line in (f"--- a/{file}",
                             *(line for part in parts for line in part.old())):
                    digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:12]


def places(patch, tree):
    """The hunks that may go to another place than was meant, in a kernel where lines
    have come or gone above: git am takes the nearest."""
    for hunk in hunks.parse(Path(patch).read_text()).hunks:
        text = (Path(tree) / hunk.file).read_text(errors="replace").split("\n")
        there = len(hunks.matches(text, hunk.old()))
        if there > 1:
            yield (f"{hunk.file}:{hunk.first}: the lines around this hunk are at {there} places: "
                   f"have more of them")


def count(path, since):
    """How many of how many lines of TAP are well, if it is all there and not older
    than what it is about."""
    path = Path(path)
    if not path.exists() or path.stat().st_mtime < since:
        return "-"
    lines, problems = ktap.read_tap(path)
    if problems or not lines:
        return "-"
    return f"{sum(line.ok for line in lines)}/{len(lines)}"


def seen_in(folder, since):
    """What there is of holes; those of an AMD host are looked at by "make kselftest"."""
    reports = [folder / "report" / what for what in ("tests", "suite", "suite-part")]
    return holes.letters(*(
        None if count(report / "judgement.tap", since) == "-" else results.load(report)
        for report in reports))


def merged(old, seen, same):
    """What is known of holes: what was not looked at this time is kept, if the patches
    want the same lines."""
    if not seen:
        return old if same else earlier(old)
    kept = holes.split(old) if same and not old.startswith("(") else {}
    return holes.join({**kept, **seen})


def row_of(name, tree):
    """What build/NAME holds of a tree: its row, and what was seen of holes."""
    folder = Path("build") / name
    ksrc = os.environ.get("KSRC", "")
    try:
        since = (folder / "applied").stat().st_mtime
        said = (folder / "src/.rig-version").read_text().split()
        text = (folder / "src/Makefile").read_text()
        # What has come since, and the series is not on it.
        there = (folder / "src/.rig-version").stat().st_mtime <= since
    except OSError:
        there = False
    if not there or name == "ksrc" and Path(said[2]) != Path(ksrc).resolve():
        raise Wrong(f"{folder}: the series is not on it: make tree "
                    f"{f'KSRC={ksrc}' if name == 'ksrc' else f'BASE={name}'}")
    release = ".".join(re.search(rf"(?m)^{part} = *(\S*)", text)[1] for part in
                       ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    release += re.search(r"(?m)^EXTRAVERSION = *(\S*)", text)[1]
    if not tree:
        tree = f"Debian {said[1]}" if name != "ksrc" else Path(said[2]).name
    of = (folder / "series").read_text().strip()
    took = numbers_of(of, {line.split()[1] for line in
                           (folder / "src/.rig-patches").read_text().splitlines()})
    seen = seen_in(folder, since)
    return Row(release, tree, time.strftime("%Y-%m-%d"), of, ranges(took),
               wanted_lines(of, took), count(folder / "check/check.tap", since),
               count(folder / "report/tests/judgement.tap", since),
               holes.join(seen) if seen else "-",
               ("KSRC=" if name == "ksrc" else f"BASE={name}") +
               (" KEXTRA=" if os.environ.get("KEXTRA") else "")), seen


def earlier(result):
    return result if result == "-" or result.startswith("(") else f"({result})"


def record(name):
    new, seen = row_of(name, os.environ.get("TREE"))
    for old in read():
        if (old.release, old.tree) != (new.release, new.tree):
            continue
        # What was found by the same lines, and not tried again, still holds; else it
        # is what the series was like earlier.
        kept = earlier if old.lines != new.lines else str
        if new.check == "-":
            new.check = kept(old.check)
        if new.run == "-":
            new.run = kept(old.run)
        new.holes = merged(old.holes, seen, old.lines == new.lines)
    rows = [row for row in read()
            if (row.release, row.tree) != (new.release, new.tree) and
            # No more than one row of what BASE= takes, and none without a tree.
            (row.by != new.by or row.by.startswith("KSRC=")) and
            (row.by != "-" or version(row.release)[:2] != version(new.release)[:2])]
    write(rows + [new])
    print(f"  RELEASE {new.release}, {new.tree}: patches {new.am} of {new.folder}, "
          f"check {new.check}, run {new.run}, holes {new.holes}")


def releases_of(folder):
    """The releases that a folder is for, by its name: (5, 10), (5, 11), ..."""
    found = re.fullmatch(r"v(\d+)\.(\d+)-v(\d+)\.(\d+)", folder)
    if not found:
        return []
    at, last = tuple(map(int, found.groups()[:2])), tuple(map(int, found.groups()[2:]))
    releases = []
    while at <= last:
        releases.append(at)
        at = (at[0] + 1, 0) if LAST.get(at[0]) == at[1] else (at[0], at[1] + 1)
    return releases


def for_all(folder):
    """The patches that no kernel of a range goes without."""
    if folder == "next":
        return {n for n, (path,) in numbered(folder).items()
                if "-KVM-selftests-" not in path.name}
    return {n for n, topic in enumerate(topics.Stable().topics, 1)
            if not topic.has and not topic.not_for}


def check(folder):
    """What is wrong with the rows of a folder: a line each."""
    needed = for_all(folder)
    rows = [row for row in read() if row.folder == folder]
    known = {version(row.release)[:2] for row in rows}
    for release in releases_of(folder):
        if release not in known:
            yield f"{'.'.join(map(str, release))}: {PATH} has no row of it"
    for row in rows:
        if row.by != "-" and row.lines != wanted_lines(folder, numbers(row.am)):
            yield (f"{row.release}, {row.tree}: the patches want other lines than on "
                   f"{row.day}: make tree and make releases, with {row.by}")
        lacks = needed - set(numbers(row.am)) if row.by != "-" else ()
        if lacks:
            yield (f"{row.release}, {row.tree}: not tried with patch "
                   f"{ranges(sorted(lacks))}, which is for all: make tree and make "
                   f"releases, with {row.by}")
