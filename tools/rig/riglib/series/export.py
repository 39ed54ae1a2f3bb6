# SPDX-License-Identifier: GPL-2.0-only
"""What a tree gets, as patches made for that very tree, in the form of git
format-patch: git am, quilt and debian/patches take them as they are."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List

from .. import series
from ..errors import Wrong
from . import hunks
from .topics import (APPLY, FAILED, HAS, LEFT_OUT, NOT_FOR, Choice, Plan, Topic, without_needs)
from .tree import Tree, git_says

SIGNATURE = "kvm-msr-filter"
# Not *.patch: git am takes none without a change.
COVER = "0000-cover-letter.txt"
UNTIL_MERGED = "For distributions, until merged upstream; not for stable@vger.kernel.org."


@dataclass
class Made:
    """One patch for the tree."""
    choice: Choice
    source: Path			# the file of patches/
    header: str				# From:, Date:, Subject: and the changelog
    diff: str
    reduced: List[hunks.Place] = field(default_factory=list)
    name: str = ""			# of the file, once it is written

    @property
    def subject(self) -> str:
        return series.subject_of(self.header)


@dataclass
class Failed:
    choice: Choice
    source: Path
    failure: hunks.Failure
    dependents: List[str]


def blob(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()[:12]


def section(file: str, before: str, found: List[hunks.Edit]) -> str:
    after = hunks.changed(before, found)
    return "\n".join([f"diff --git a/{file} b/{file}",
                      f"index {blob(before)}..{blob(after)} 100644",
                      f"--- a/{file}", f"+++ b/{file}",
                      *hunks.unified(before, found)]) + "\n"


def new_section(file: str, text: str) -> str:
    lines = text.split("\n")[:-1]
    return "\n".join([f"diff --git a/{file} b/{file}", "new file mode 100644",
                      f"index 000000000000..{blob(text)}", "--- /dev/null", f"+++ b/{file}",
                      f"@@ -0,0 +1,{len(lines)} @@",
                      *(f"+{line}" for line in lines)]) + "\n"


def parsed(source: Path) -> hunks.Patch:
    return hunks.parse(source.read_text(encoding="utf-8", errors="surrogateescape"))


def has_place(text: str, hunk: hunks.Hunk, topic: Topic) -> bool:
    try:
        return bool(hunks.place(text.split("\n"), hunk, topic.renamed))
    except hunks.Failure:
        return False


class Maker:
    """The tree's files, as they are after the patches so far."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.files: Dict[str, str] = {}
        self.made: List[Made] = []
        self.failed: List[Failed] = []

    def text(self, file: str) -> str:
        if file not in self.files:
            text = self.tree.read(file)
            if text is None:
                raise hunks.Failure(hunks.Hunk(file, 1, "", ()), f"there is no {file}", 1,
                                    [])
            self.files[file] = text
        return self.files[file]

    def one(self, choice: Choice, source: Path) -> Made:
        patch = parsed(source)
        after, sections, reduced = {}, [], []
        for file in patch.files():
            if file in patch.added:
                if file in self.files or self.tree.read(file) is not None:
                    raise hunks.Failure(hunks.Hunk(file, 1, "", ()),
                                        f"{file} is there already", 1, [])
                after[file] = patch.added[file]
                sections.append(new_section(file, after[file]))
                continue
            before = self.text(file)
            found, places = hunks.apply(before, [hunk for hunk in patch.hunks
                                                 if hunk.file == file],
                                        choice.topic.renamed)
            after[file] = hunks.changed(before, found)
            sections.append(section(file, before, found))
            reduced += [place for place in places if place.context < hunks.CONTEXT]
        self.files.update(after)
        return Made(choice, source, patch.header, "".join(sections), reduced)

    def find_there(self, plan: Plan) -> None:
        """Find the topics whose very changes are there, from the last to the first: a
        later topic may change what an earlier one has added."""
        undone = Maker(self.tree)
        for choice in reversed(plan.of(APPLY, HAS)):
            variants = [(variant.path,) for variant in choice.topic.variants]
            for patches in variants or [choice.patches]:
                files = dict(undone.files)
                try:
                    for source in reversed(patches):
                        undone.undo(source, choice.topic)
                except hunks.Failure:
                    undone.files = files
                    continue
                if choice.state == APPLY:
                    choice.state, choice.why, choice.patches = HAS, "this very change", ()
                break

    def undo(self, source: Path, topic: Topic) -> None:
        """Take a patch off the files.  The lines that a hunk adds tell that it is there;
        if it adds none, those that it takes away have to be gone."""
        patch = parsed(source)
        for file in patch.files():
            before = self.text(file)
            if file in patch.added:
                continue
            mine = [hunk for hunk in patch.hunks if hunk.file == file]
            found, _ = hunks.apply(before, [hunks.reversed_hunk(hunk) for hunk in mine],
                                   topic.renamed)
            for hunk in mine:
                if all(line[0] != "+" for line in hunk.lines) and \
                        has_place(before, hunk, topic):
                    raise hunks.Failure(hunk, "it can be applied", hunk.first, [])
            self.files[file] = hunks.changed(before, found)

    def all(self, plan: Plan) -> None:
        """Make the patches of all topics that are to be applied.  One that fails takes
        the topics with it that need it, and no others."""
        self.find_there(plan)
        by_name = {one.topic.name: one for one in plan.choices}
        for choice in plan.choices:
            without_needs(choice, by_name)
            if choice.state != APPLY:
                continue
            files, made = dict(self.files), len(self.made)
            for source in choice.patches:
                try:
                    self.made.append(self.one(choice, source))
                except hunks.Failure as failure:
                    self.files, self.made = files, self.made[:made]
                    choice.state, choice.why = FAILED, str(failure)
                    self.failed.append(Failed(choice, source, failure, [
                        one.topic.name for one in plan.choices
                        if choice.topic.name in one.topic.needs and one.state == APPLY]))
                    break


# ---- the files

def stat(diff: str) -> str:
    with tempfile.TemporaryDirectory() as top:
        done = subprocess.run(["git", "apply", "--stat", "--summary"], input=diff, cwd=top,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              encoding="utf-8", errors="surrogateescape")
    if done.returncode:
        raise Wrong(f"git apply --stat: {git_says(done.stdout)}")
    return done.stdout


def file_name(number: int, subject: str) -> str:
    """As git format-patch names it."""
    words = re.sub(r"[^A-Za-z0-9._]+", "-", subject).strip("-.")
    return f"{number:04}-{words[:52].rstrip('-.')}.patch"


def numbered(header: str, number: int, total: int, prefix: str) -> str:
    """The header, with the subject's prefix for one of so many, folded as git does it."""
    subject = f"Subject: [{prefix} {number}/{total}] {series.subject_of(header)}"
    folded, line = [], ""
    for word in subject.split(" "):
        if line and len(line) + 1 + len(word) > 76:
            folded.append(line)
            line = ""
        line = f"{line} {word}" if line or folded else word
    text = "\n".join([*folded, line])
    return re.sub(r"^Subject: .*(?:\n[ \t].*)*", lambda _: text, header, count=1,
                  flags=re.M)


def with_upstream(header: str, topic: Topic) -> str:
    """The changelog begins by the commit that it is a backport of."""
    if not topic.upstream:
        return header
    head, _, body = header.partition("\n\n")
    return f"{head}\n\ncommit {topic.upstream} upstream.\n\n{body}"


def mail(made: Made, number: int, total: int, stable: str, base: str) -> str:
    topic = made.choice.topic
    ours = stable and topic.upstream
    header = numbered(made.header, number, total, f"PATCH {stable}" if ours else "PATCH")
    header = with_upstream(header, topic)
    note = f"{UNTIL_MERGED}\n\n" if stable and not ours else ""
    return (f"{header}\n---\n{note}{stat(made.diff)}\n{made.diff}\n"
            f"{base}-- \n{SIGNATURE}\n")


def listed(title: str, choices: List[Choice]) -> Iterator[str]:
    if not choices:
        return
    yield title
    yield ""
    for one in choices:
        yield f"  {one.topic.name}: {one.why or one.topic.what}"
    yield ""


def cover(plan: Plan, made: List[Made], failed: List[Failed], stable: str, head: str,
          base: str) -> str:
    author = re.search(r"^From: (.*)", made[0].header, re.M)
    lines = [f"From {'0' * 40} Mon Sep 17 00:00:00 2001",
             f"From: {author[1] if author else ''}",
             re.search(r"^Date: .*", made[-1].header, re.M)[0],
             f"Subject: [PATCH 0/{len(made)}] KVM: x86: MSR filters, for Linux {plan.version}",
             "",
             f"This is the kvm-msr-filter series for Linux {plan.version}"
             f"{f', commit {head[:12]}' if head else ''}, whose KVM is like "
             f"{plan.like}'s ({plan.because}).", ""]
    for number, one in enumerate(made, 1):
        lines.append(f"  {number}. {one.subject}")
        if stable and not one.choice.topic.upstream:
            lines.append("     (for distributions, until merged)")
    lines.append("")
    lines += listed("Already in this tree:", plan.of(HAS))
    lines += listed("Not for this tree:", plan.of(NOT_FOR))
    lines += listed("Left out:", plan.of(LEFT_OUT))
    lines += listed("Left out, the code is different:", [one.choice for one in failed])
    return "\n".join(lines) + f"\n{base}-- \n{SIGNATURE}\n"


def base_line(tree: Tree) -> str:
    head = tree.head()
    return f"base-commit: {head}\n" if head else f"base-version: v{tree.version()}\n"


def write(out: Path, tree: Tree, plan: Plan, maker: Maker, stable: str = "") -> None:
    """Write the series into a folder, which is then all that is in it."""
    made, base = maker.made, base_line(tree)
    out.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(made, 1):
        one.name = file_name(number, one.subject)
        write_text(out / one.name, mail(one, number, len(made), stable, base))
    if made:
        write_text(out / COVER,
                   cover(plan, made, maker.failed, stable, tree.head(), base))
    write_text(out / "series", "".join(f"{one.name}\n" for one in made))


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def check_out(out: Path) -> None:
    """Refuse a folder with files in it that are not an earlier export's."""
    if out.exists() and not out.is_dir():
        raise Wrong(f"OUT={out} is not a folder")
    for path in sorted(out.glob("*")) if out.exists() else ():
        if path.name not in ("series", COVER) and \
                not re.fullmatch(r"\d{4}-.*\.patch", path.name):
            raise Wrong(f"OUT={out} has {path.name} in it: give a new or an empty folder")


def export(tree: Tree, plan: Plan, maker: Maker, out: Path, stable: str) -> None:
    check_out(out)
    shutil.rmtree(out, ignore_errors=True)
    write(out, tree, plan, maker, stable)
