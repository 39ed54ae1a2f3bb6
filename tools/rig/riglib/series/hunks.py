# SPDX-License-Identifier: GPL-2.0-only
"""Patches, and the places of their hunks in a tree that differs around them.

A hunk is looked for with all of its context first, and then with less, down to one
line on each side; changes that are further apart are then looked for one by one, as
in a patch with less context.  A hunk is taken only if it has exactly one place, in the
function that its header names.
"""

import difflib
import re
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Tuple

CONTEXT = 3
FUNCTION = re.compile(r"[A-Za-z_]")
LABEL = re.compile(r"\w+:\s*(?:/\*.*)?$")
# Not in the way of the other files of a patch
NOWHERE = "/dev/null"


@dataclass(frozen=True)
class Hunk:
    file: str
    first: int				# the line at which the old text begins, from 1
    heading: str			# what follows the second "@@"
    lines: Tuple[str, ...]		# each with " ", "-" or "+" in front

    def old(self) -> List[str]:
        return [line[1:] for line in self.lines if line[0] != "+"]

    def new(self) -> List[str]:
        return [line[1:] for line in self.lines if line[0] != "-"]

    def before(self) -> List[str]:
        """The context in front of the first change."""
        found: List[str] = []
        for line in self.lines:
            if line[0] != " ":
                break
            found.append(line[1:])
        return found

    def function(self) -> str:
        """The name of what the first change lies in, or follows."""
        return name_of(next((line for line in reversed(self.before())
                             if is_heading(line)), self.heading))


@dataclass
class Patch:
    header: str				# the mail's headers and the changelog
    hunks: List[Hunk] = field(default_factory=list)
    added: Dict[str, str] = field(default_factory=dict)		# new files
    executable: List[str] = field(default_factory=list)

    def files(self) -> List[str]:
        return list(dict.fromkeys([*(hunk.file for hunk in self.hunks), *self.added]))


@dataclass(frozen=True)
class Place:
    piece: Hunk				# a hunk or, with less context, a part of one
    at: int				# index of its first line in the tree
    context: int			# how many lines of it were used, on the worse side


@dataclass(frozen=True)
class Edit:
    at: int				# index of the first line that goes, or of the insertion
    old: Tuple[str, ...]
    new: Tuple[str, ...]


@dataclass
class Failure(Exception):
    """A hunk that has no place, or several."""
    hunk: Hunk
    why: str
    line: int				# where in the tree it was looked for, from 1
    found: List[str]			# the code there

    def __str__(self) -> str:
        return self.why


def is_heading(line: str) -> bool:
    return bool(FUNCTION.match(line)) and not LABEL.match(line)


def name_of(heading: str) -> str:
    """What a line such as "static int f(int a," or "struct s {" declares."""
    found = re.search(r"(\w+)\s*\(", heading) or \
        re.search(r"(\w+)\s*(?:[\[={;]|$)", heading)
    return found[1] if found else ""


def enclosing(lines: List[str], at: int) -> Optional[str]:
    """The name of the function, struct or table that a line lies in; None: it is
    between these."""
    for number in range(at - 1, -1, -1):
        line = lines[number]
        if line.startswith("}"):
            return None
        if is_heading(line):
            declared = "\n".join(lines[number:at])
            ends = re.search(r"[{;]", declared)
            return name_of(line) if not ends or ends[0] == "{" else None
    return None


def parse(text: str) -> Patch:
    """A patch as git format-patch writes it, or a diff alone."""
    header, mailed, body = text.partition("\n---\n")
    if not mailed:
        header, body = "", text
    patch = Patch(header)
    file, new, lines = NOWHERE, False, iter(body.split("\n"))
    for line in lines:
        if line.startswith("diff --git "):
            new = False
        elif line.startswith("new file mode "):
            new = True
        elif line.startswith("+++ b/"):
            file = line[6:].split("\t")[0]
        found = re.match(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)", line)
        if not found:
            continue
        hunk = Hunk(file, int(found[1]), found[4],
                    tuple(body_of(lines, int(found[2] or 1), int(found[3] or 1))))
        if new:
            patch.added[file] = "".join(f"{one}\n" for one in hunk.new())
        else:
            patch.hunks.append(hunk)
    return patch


def body_of(lines: Iterator[str], old: int, new: int) -> Iterator[str]:
    while old or new:
        line = next(lines) or " "
        if line[0] == "\\":
            continue
        old -= line[0] != "+"
        new -= line[0] != "-"
        yield line


def pieces(hunk: Hunk, context: int) -> List[Hunk]:
    """The parts of a hunk whose changes are further apart than "git diff -U" with so
    much context would have them in one hunk; each with all of its own context."""
    lines = hunk.lines
    groups: List[List[int]] = []
    for number in (n for n, line in enumerate(lines) if line[0] != " "):
        if groups and number - groups[-1][-1] - 1 <= 2 * context:
            groups[-1].append(number)
        else:
            groups.append([number])
    found = []
    for left, group, right in zip([[-1], *groups], groups, [*groups[1:], [len(lines)]]):
        first = max(left[-1] + 1, group[0] - CONTEXT)
        last = min(right[0], group[-1] + 1 + CONTEXT)
        above = [line[1:] for line in lines[:first] if line[0] != "+"]
        heading = next((line for line in reversed(above) if is_heading(line)),
                       hunk.heading)
        found.append(Hunk(hunk.file, hunk.first + len(above), heading,
                          lines[first:last]))
    return found


def trimmed(piece: Hunk, before: int, after: int) -> Hunk:
    """A piece with no more than so many lines of context."""
    changed = [n for n, line in enumerate(piece.lines) if line[0] != " "]
    first = max(0, changed[0] - before)
    heading = next((line[1:] for line in reversed(piece.lines[:first])
                    if is_heading(line[1:])), piece.heading)
    return Hunk(piece.file, piece.first + first, heading,
                piece.lines[first:changed[-1] + 1 + after])


def matches(lines: List[str], old: List[str]) -> List[int]:
    return [at for at in range(len(lines) - len(old) + 1)
            if lines[at] == old[0] and lines[at:at + len(old)] == old]


def in_function(lines: List[str], piece: Hunk, at: int, renamed: Dict[str, str]) -> bool:
    """Whether a place is in the function that a piece names.  Between functions, and in
    files that are not C, it is enough that it has one place."""
    if not piece.file.endswith((".c", ".h")):
        return True
    there = enclosing(lines, at + len(piece.before()))
    named = piece.function()
    return there is None or there in (named, renamed.get(named))


def place_of(lines: List[str], piece: Hunk, renamed: Dict[str, str]) -> Place:
    """The one place of a piece, with as much context as it takes."""
    elsewhere = None
    sides = range(CONTEXT, 0, -1)
    tried = set()
    for before, after in sorted(((a, b) for a in sides for b in sides),
                                key=lambda both: (-sum(both), abs(both[0] - both[1]))):
        one = trimmed(piece, before, after)
        if one.lines in tried:
            continue
        tried.add(one.lines)
        everywhere = matches(lines, one.old())
        right = [at for at in everywhere if in_function(lines, one, at, renamed)]
        if len(right) == 1:
            return Place(one, right[0], min(before, after))
        if right:
            raise failure(lines, piece, several=len(right))
        if everywhere and elsewhere is None:
            elsewhere = everywhere[0] + 1
    raise failure(lines, piece, elsewhere=elsewhere)


def place(lines: List[str], hunk: Hunk, renamed: Dict[str, str]) -> List[Place]:
    """The places of a hunk's pieces, or a Failure."""
    why = None
    for context in range(CONTEXT, 0, -1):
        try:
            found = [place_of(lines, piece, renamed) for piece in pieces(hunk, context)]
        except Failure as failed:
            why = failed
            continue
        if all(a.at < b.at for a, b in zip(found, found[1:])):
            return found
    assert why
    raise why


def failure(lines: List[str], hunk: Hunk, several: int = 0,
            elsewhere: Optional[int] = None) -> Failure:
    """Why a hunk has no place, and the code that is most like what it is for."""
    function, old = hunk.function(), hunk.old()
    inside = [n for n, line in enumerate(lines) if is_heading(line) and
              name_of(line) == function and not line.rstrip().endswith(";")]
    start = inside[-1] if inside else 0
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("}")),
               len(lines) - 1) if inside else len(lines) - 1
    best, score = start, -1.0
    for at in range(start, max(start, end - len(old) + 1) + 1):
        ratio = sum(a.strip() == b.strip() for a, b in zip(lines[at:at + len(old)], old))
        if ratio > score:
            best, score = at, ratio
    if several:
        why = f"it has {several} places in {function}()"
    elif elsewhere:
        why = f"its only place, line {elsewhere}, is not in {function}()"
    elif not inside:
        why = f"there is no {function}() in {hunk.file}"
    elif matches(lines, hunk.new()):
        why = "the change seems to be there already"
    else:
        why = f"the code in {function}() is different"
    return Failure(hunk, why, best + 1, lines[best:best + len(old)])


def reversed_hunk(hunk: Hunk) -> Hunk:
    swap = {"+": "-", "-": "+", " ": " "}
    return Hunk(hunk.file, hunk.first, hunk.heading,
                tuple(swap[line[0]] + line[1:] for line in hunk.lines))


def edits(place: Place) -> Iterator[Edit]:
    """The changes of a piece, without the context."""
    at, old, new = place.at, [], []			# type: int, List[str], List[str]
    for line in (*place.piece.lines, " "):
        if line[0] == " ":
            if old or new:
                yield Edit(at - len(old), tuple(old), tuple(new))
            old, new, at = [], [], at + 1
        elif line[0] == "-":
            old.append(line[1:])
            at += 1
        else:
            new.append(line[1:])


def apply(text: str, hunks: List[Hunk], renamed: Optional[Dict[str, str]] = None
          ) -> Tuple[List[Edit], List[Place]]:
    """What the hunks of a file change in its text, and where they went."""
    lines = text.split("\n")
    places = [one for hunk in hunks for one in place(lines, hunk, renamed or {})]
    found = [(edit, one) for one in places for edit in edits(one)]
    for (a, _), (b, other) in zip(found, found[1:]):
        if a.at + len(a.old) > b.at or a.at == b.at:
            raise Failure(other.piece, "it is not below the hunk before it", b.at + 1, [])
    return [edit for edit, _ in found], places


def changed(text: str, found: List[Edit]) -> str:
    """The text with the changes."""
    lines = text.split("\n")
    for edit in reversed(found):
        lines[edit.at:edit.at + len(edit.old)] = edit.new
    return "\n".join(lines)


def unified(text: str, found: List[Edit]) -> Iterator[str]:
    """The lines of the changes as a unified diff, with three lines of context."""
    lines = text.split("\n")
    total = len(lines) - text.endswith("\n")
    groups: List[List[Edit]] = []
    for edit in found:
        last = groups[-1][-1] if groups else None
        if last and edit.at - last.at - len(last.old) <= 2 * CONTEXT:
            groups[-1].append(edit)
        else:
            groups.append([edit])
    grown = 0
    for group in groups:
        first = max(0, group[0].at - CONTEXT)
        last = min(total, group[-1].at + len(group[-1].old) + CONTEXT)
        body, at = [], first			# type: List[str], int
        for edit in group:
            body += [f" {line}" for line in lines[at:edit.at]]
            body += [f"-{line}" for line in edit.old] + [f"+{line}" for line in edit.new]
            at = edit.at + len(edit.old)
        body += [f" {line}" for line in lines[at:last]]
        new = sum(line[0] != "-" for line in body)
        heading = next((line for line in reversed(lines[:first]) if is_heading(line)), "")
        yield (f"@@ -{first + 1},{last - first} +{first + 1 + grown},{new} @@ "
               f"{heading[:80].rstrip()}".rstrip())
        yield from body
        grown += new - (last - first)


def beside(expected: List[str], found: List[str], width: int = 56) -> Iterator[str]:
    """Two texts side by side, the lines that differ marked."""
    def cell(line: str) -> str:
        return line.expandtabs(4)[:width].ljust(width)

    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(
            None, expected, found, autojunk=False).get_opcodes():
        for number in range(max(a1 - a0, b1 - b0)):
            left = expected[a0 + number] if a0 + number < a1 else ""
            right = found[b0 + number] if b0 + number < b1 else ""
            yield f"{cell(left)} {' ' if tag == 'equal' else '|'} " \
                  f"{cell(right)}".rstrip()
