# SPDX-License-Identifier: GPL-2.0-only
"""git am the topics onto the user's own tree, on a new branch there.

All of it is decided, and every hunk placed, before the tree is touched.  What git am
then takes are patches made for this very tree.  If it fails nonetheless, e.g. in a hook
of the user's, or is interrupted, the tree is put back to what it was.
"""

import signal
import tempfile
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

from ..errors import Wrong
from . import report
from .export import Maker, write
from .topics import Plan
from .tree import Tree, git_says

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    pass


def interrupt(_number: int, _frame: Optional[FrameType]) -> None:
    raise Interrupted


def catch(handler: Callable) -> None:
    """What is ignored, as nohup and some CI runners have it, stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def check(tree: Tree, branch: str) -> None:
    """Refuse a tree in which a branch cannot be made, or not be taken back."""
    if not tree.has_git:
        raise Wrong(f"KSRC={tree.dir} is not a git work tree, so there is no git am: "
                    f"make export KSRC={tree.dir} OUT=DIR writes the patches, for quilt "
                    f"or patch -p1")
    tree.check_git()
    tree.check_clean()
    tree.check_idle()
    if tree.git("rev-parse", "-q", "--verify", f"refs/heads/{branch}").returncode == 0:
        raise Wrong(f"KSRC={tree.dir} has a branch {branch} already: rename or delete it")
    if tree.git("var", "GIT_COMMITTER_IDENT").returncode:
        raise Wrong("git does not know who you are: set user.name and user.email with "
                    "git config --global")


class Undo:
    """Where the tree was, and the way back there."""

    def __init__(self, tree: Tree, branch: str) -> None:
        self.tree, self.branch = tree, branch
        done = tree.git("symbolic-ref", "-q", "--short", "HEAD")
        self.before = done.stdout.strip() if done.returncode == 0 else tree.head()

    def __call__(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.tree.git("am", "--abort")
        self.tree.git("checkout", "-q", self.before, "--")
        self.tree.git("branch", "-q", "-D", self.branch)


def apply(tree: Tree, plan: Plan, maker: Maker) -> str:
    """Put the patches on a new branch; the commit or branch that it is on top of."""
    branch = f"kvm-msr-filter/{plan.range}"
    undo = Undo(tree, branch)
    catch(interrupt)
    try:
        with tempfile.TemporaryDirectory() as top:
            write(Path(top), tree, plan, maker)
            done = tree.git("checkout", "-q", "-b", branch)
            if done.returncode:
                raise Wrong(f"KSRC={tree.dir}: git checkout -b {branch} fails: "
                            f"{git_says(done.stdout)}")
            for one in maker.made:
                print(report.step("AM", f"{one.source}"), flush=True)
                done = tree.git("am", "-q", "--no-3way", str(Path(top) / one.name))
                if done.returncode:
                    raise Wrong(f"git am fails for {one.source}, and {tree.dir} is as it "
                                f"was: git says: {git_says(done.stdout)}")
    except BaseException:
        undo()
        raise
    return undo.before
