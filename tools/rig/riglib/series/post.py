# SPDX-License-Identifier: GPL-2.0-only
"""A series of patches/next as a person would mail it: for git send-email and b4.

The commits are made in a folder of objects of our own, on top of the one that is
checked out: the user's tree, index and objects stay as they are.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from .. import series
from ..errors import Wrong
from ..series import Series
from .tree import Tree, environment, git_says

POST = Path("build/post")
# Domains that no one can write to (RFC 2606)
NOWHERE = re.compile(r"(?:[@.](?:example|invalid|test|localhost|localdomain)"
                     r"|@example\.(?:com|net|org))$")
GET_MAINTAINER = "scripts/get_maintainer.pl"
CHECKPATCH = "scripts/checkpatch.pl"


def sender(tree: Tree) -> Tuple[str, str]:
    """The user's own name and address."""
    done = tree.git("var", "GIT_AUTHOR_IDENT")
    found = re.match(r"(.*) <(.*)> \d+ \S+$", done.stdout.strip().split("\n")[-1])
    if done.returncode or not found:
        raise Wrong("git does not know who you are: set user.name and user.email with "
                    "git config --global")
    if NOWHERE.search(found[2].lower()) or "@" not in found[2]:
        raise Wrong(f"no one can answer {found[2]}: set user.email to an address of yours")
    return found[1], found[2]


def named(name: str) -> Series:
    found = series.read("next")
    for one in found:
        if one.name.lstrip("0") == name.lstrip("0") or \
                re.sub(r"^\d+-", "", one.name) == name:
            return one
    raise Wrong(f"SERIES={name}: there is no such series, there are "
                f"{', '.join(one.name for one in found)}")


class Commits:
    """Commits on top of the user's, with objects and an index of our own."""

    def __init__(self, tree: Tree, top: Path, who: Tuple[str, str]) -> None:
        self.tree, self.who = tree, who
        done = tree.git("rev-parse", "--git-path", "objects")
        theirs = (tree.dir / done.stdout.strip()).resolve()
        (top / "objects").mkdir()
        self.env = {**environment(), "GIT_INDEX_FILE": str(top / "index"),
                    "GIT_OBJECT_DIRECTORY": str(top / "objects"),
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(theirs),
                    "GIT_AUTHOR_NAME": who[0], "GIT_AUTHOR_EMAIL": who[1]}
        self.head = tree.head()
        self.must("read-tree", "HEAD")

    def git(self, *args: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        return self.tree.git(*args, text=text, env=self.env)

    def must(self, *args: str, text: str = "") -> str:
        done = self.git(*args, text=text)
        if done.returncode:
            raise Wrong(f"git {args[0]}: {git_says(done.stdout)}")
        return done.stdout.strip()

    def add(self, patch: Path) -> None:
        """A patch as a commit of the sender's."""
        done = self.git("apply", "--cached", str(patch.resolve()))
        if done.returncode:
            raise Wrong(f"{patch} does not apply to {self.tree.dir}: git says: "
                        f"{git_says(done.stdout)}")
        self.head = self.must("commit-tree", self.must("write-tree"), "-p", self.head,
                              text=message(patch.read_text(), self.who))


def message(text: str, who: Tuple[str, str]) -> str:
    """The changelog, signed off by the sender in place of the patch's author."""
    header = text.partition("\n---\n")[0]
    author = re.search(r"^From: (.*)", header, re.M)
    body = header.partition("\n\n")[2]
    if author:
        body = body.replace(f"Signed-off-by: {author[1]}",
                            f"Signed-off-by: {who[0]} <{who[1]}>")
    return f"{series.subject_of(header)}\n\n{body}\n"


def prefix_of(patch: Path) -> str:
    found = re.search(r"^Subject: \[(.*?)(?: \d+/\d+)?\]", patch.read_text(), re.M)
    return found[1] if found else "PATCH"


def addresses(tree: Tree, paths: List[Path]) -> Optional[Dict[str, List[str]]]:
    """To: the maintainers, and Cc: reviewers and lists, by the tree's own script."""
    if not (tree.dir / GET_MAINTAINER).exists() or not shutil.which("perl"):
        return None
    found: Dict[str, List[str]] = {"to": [], "cc": []}
    done = subprocess.run(["perl", GET_MAINTAINER, "--no-git", "--no-git-fallback",
                           *(str(path.resolve()) for path in paths)], cwd=tree.dir,
                          text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    for line in done.stdout.splitlines():
        address, _, role = line.partition(" (")
        key = "to" if role.startswith(("maintainer", "supporter")) else "cc"
        if "@" in address and address not in found["to"] + found["cc"]:
            found[key].append(address.strip())
    if done.returncode or not found["to"] + found["cc"]:
        said = (done.stderr.strip() or "it names no one").split("\n")[0]
        raise Wrong(f"{GET_MAINTAINER}: {said}")
    return found


def with_cover(out: Path, one: Series) -> None:
    """The series' own words into the cover letter that git wrote."""
    path = next(out.glob("*0000-cover-letter.patch"))
    ours = one.cover.read_text()
    # As far as git's list of the patches, which git has written again.
    body = re.split(r"\n[^\n]* \(\d+\):\n  ", ours.partition("\n\n")[2])[0]
    text = path.read_text().replace("*** SUBJECT HERE ***", series.subject(one.cover)) \
        .replace("*** BLURB HERE ***", body.strip())
    path.write_text(text)


def checkpatch(tree: Tree, paths: List[Path]) -> Iterator[str]:
    done = subprocess.run(["perl", CHECKPATCH, "--terse", "--no-summary",
                           *(str(path.resolve()) for path in paths)], cwd=tree.dir,
                          text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    yield from filter(None, done.stdout.split("\n"))


def post(name: str, tree: Tree) -> int:
    one = named(name)
    if not tree.has_git:
        raise Wrong(f"KSRC={tree.dir} is not a git work tree: a series is mailed against a "
                    f"commit that others have")
    tree.check_git()
    tree.check_clean()
    who = sender(tree)
    out = POST / one.name
    with tempfile.TemporaryDirectory() as top:
        commits = Commits(tree, Path(top), who)
        base = commits.head
        for need in series.closure(one):
            for patch in need.patches():
                commits.add(patch)
        start = commits.head
        for patch in one.patches():
            commits.add(patch)
        to = addresses(tree, one.patches())
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        several = len(one.patches()) > 1
        commits.must(
            "format-patch", "-q", "-o", str(out.resolve()), f"--base={base}",
            "--thread=shallow", f"--subject-prefix={prefix_of(one.patches()[0])}",
            "--cover-letter" if several else "--no-cover-letter",
            *(f"--{key}={address}" for key in ("to", "cc")
              for address in (to or {}).get(key, [])),
            f"{start}..{commits.head}")
    if several:
        with_cover(out, one)
    paths = sorted(out.glob("*.patch"))
    checked, not_checked = [f"applies to {base[:12]}"], ["that it builds", "that its tests pass"]
    wrong: List[str] = []
    if (tree.dir / CHECKPATCH).exists() and shutil.which("perl"):
        wrong = list(checkpatch(tree, [path for path in paths if "0000-cover" not in path.name]))
        checked.append("checkpatch.pl")
    else:
        not_checked.append("checkpatch.pl, which the tree does not have")
    for line in wrong:
        print(f"  {line}")
    print(f"From: {who[0]} <{who[1]}>")
    for key in ("to", "cc"):
        for address in (to or {}).get(key, []):
            print(f"{key.capitalize()}: {address}")
    if to is None:
        not_checked.append(f"To and Cc: there is no {GET_MAINTAINER}, or no perl")
    for need in series.closure(one):
        print(f"It needs {need.name}, which is to be merged first.")
    print(f"git send-email --no-thread {out}/*.patch")
    print(f"cat {out}/*.patch >mbox; b4 am -m mbox {message_id(paths[0])}")
    print(f"checked: {', '.join(checked)}{f' ({len(wrong)} complaints)' if wrong else ''}; "
          f"not checked: {', '.join(not_checked)}")
    return 1 if any(": ERROR: " in line for line in wrong) else 0


def message_id(path: Path) -> str:
    found = re.search(r"^Message-I[Dd]: <(.*)>", path.read_text(), re.M)
    return found[1] if found else os.path.basename(path)
