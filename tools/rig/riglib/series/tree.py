# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree of the user's: what its code is, and whether it can be worked on."""

import os
import re
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

from ..errors import Wrong

KVM = "arch/x86/kvm"
TOP = ("MAINTAINERS", "Kbuild", KVM)
# The last option of git's that is used here came with this version.
OLDEST_GIT = (2, 15)
UNFINISHED = ("rebase-apply", "rebase-merge", "MERGE_HEAD", "CHERRY_PICK_HEAD",
              "REVERT_HEAD")


def git_says(text: str) -> str:
    """The line in which git says what is wrong."""
    lines = [line for line in text.split("\n") if line.strip()]
    return next((line for line in lines if line.startswith(("error:", "fatal:"))),
                (lines or ["nothing"])[0])


def environment() -> Dict[str, str]:
    """The user's, without what a git that runs this has set for another repository."""
    return {name: value for name, value in os.environ.items()
            if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")} | {"LC_ALL": "C"}


class Tree:
    def __init__(self, ksrc: str) -> None:
        self.dir = Path(ksrc)
        self.files: Dict[str, Optional[str]] = {}
        if not self.dir.is_dir():
            raise Wrong(f"KSRC={ksrc} is not a folder")
        if (self.dir / "objects").is_dir() and (self.dir / "HEAD").is_file():
            raise Wrong(f"KSRC={ksrc} is a bare repository: check out a worktree of it, "
                        f"and give that")
        for file in TOP:
            if not (self.dir / file).exists():
                raise Wrong(f"KSRC={ksrc} is not the top of a Linux source tree, it has "
                            f"no {file}")
        self.has_git = (self.dir / ".git").exists()

    # ---- git

    def git(self, *args: str, text: str = "", env: Optional[Dict[str, str]] = None
            ) -> "subprocess.CompletedProcess[str]":
        """The user's own git, with the user's identity, hooks and keys."""
        try:
            return subprocess.run(["git", "-C", str(self.dir), *args], input=text,
                                  env=env or environment(), encoding="utf-8",
                                  errors="surrogateescape", check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise Wrong("git is not installed") from None

    def reads(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """git to read: the tree may be another user's, and its index stays as it is."""
        return self.git("--no-optional-locks", "-c", "safe.directory=*", *args)

    def check_clean(self) -> None:
        """Refuse what is not committed: the commit that is checked out is taken."""
        if not self.has_git:
            return
        done = self.reads("rev-parse", "--verify", "HEAD^{tree}")
        if done.returncode:
            raise Wrong(f"KSRC={self.dir} has no commit checked out: git says: "
                        f"{git_says(done.stdout)}")
        done = self.reads("status", "--porcelain", "-uno")
        if done.returncode:
            raise Wrong(f"KSRC={self.dir}: git says: {git_says(done.stdout)}")
        if done.stdout.strip():
            raise Wrong(f"KSRC={self.dir} has local changes: commit or stash them, the "
                        f"commit that is checked out is taken")

    def check_idle(self) -> None:
        """Refuse a tree in which git is in the middle of something."""
        done = self.git("rev-parse", "--absolute-git-dir")
        if done.returncode:
            raise Wrong(f"KSRC={self.dir}: git says: {git_says(done.stdout)}: run this as "
                        f"the owner of the tree")
        for file in UNFINISHED:
            if (Path(done.stdout.strip()) / file).exists():
                raise Wrong(f"KSRC={self.dir} is in the middle of a git am, rebase, merge "
                            f"or revert ({file}): finish or abort that first")

    def check_git(self) -> None:
        said = self.git("--version").stdout
        found = [int(n) for n in re.findall(r"\d+", said)[:2]]
        if tuple(found) < OLDEST_GIT:
            raise Wrong(f"{said.strip()} is too old, "
                        f"{'.'.join(map(str, OLDEST_GIT))} is needed")

    def head(self) -> str:
        return self.reads("rev-parse", "HEAD").stdout.strip() if self.has_git else ""

    # ---- the code

    def read(self, file: str) -> Optional[str]:
        """A file of the commit that is checked out or, without git, of the folder."""
        if file not in self.files:
            self.files[file] = self.read_now(file)
        return self.files[file]

    def read_now(self, file: str) -> Optional[str]:
        if self.has_git:
            done = self.reads("cat-file", "blob", f"HEAD:./{file}")
            return done.stdout if done.returncode == 0 else None
        path = self.dir / file
        return path.read_text(encoding="utf-8", errors="surrogateescape") \
            if path.is_file() else None

    def function(self, file: str, name: str) -> str:
        """The text of a function, "" if there is none."""
        found: List[str] = []
        inside = False
        for line in (self.read(file) or "").split("\n"):
            if re.match(r"[a-z].*[ *]", line) and f"{name}(" in line and \
                    not line.endswith(";"):
                inside = True
            if inside:
                found.append(line)
            if line.startswith("}"):
                inside = False
        return "\n".join(found)

    def version(self) -> str:
        parts = dict(re.findall(r"^(\w+) = *(\S*)", self.read("Makefile") or "", re.M))
        names = ("VERSION", "PATCHLEVEL", "SUBLEVEL")
        return ".".join(parts.get(name, "") for name in names) + \
            parts.get("EXTRAVERSION", "")
