# SPDX-License-Identifier: GPL-2.0-only
"""The series for a tree of the user's: python3 -m riglib.series COMMAND

	apply KSRC		git am the topics there, on a new branch
	export KSRC OUT		write them as patches for that very tree into the folder OUT
	post SERIES KSRC	write a series of patches/next as a mail of the user's own
	range KSRC		print what the rig calls this generation of kernels
	make KSRC OUT		export for the rig: one line for each patch, and no more

apply and export take TOPICS= and SKIP= from the environment: names of topics, "fixes"
or "speed"; export also takes STABLE=.  They need git and the standard library alone.
"""

import os
import re
import sys
from pathlib import Path
from typing import List, Tuple

from ..errors import Wrong
from . import apply, export, report, topics
from .export import Maker
from .topics import Plan
from .tree import Tree


def planned(tree: Tree) -> Tuple[Plan, Maker]:
    plan = topics.plan(tree, os.environ.get("TOPICS", ""), os.environ.get("SKIP", ""))
    maker = Maker(tree)
    maker.all(plan)
    return plan, maker


def failures(maker: Maker, tree: Tree) -> int:
    """Say what does not apply; the exit status."""
    for one in maker.failed:
        print("\n".join(report.failed(one, tree)))
    if maker.failed:
        names = ", ".join(one.choice.topic.name for one in maker.failed)
        print(f"\n{names}: left out, see above; the other topics are not", file=sys.stderr)
    return 1 if maker.failed else 0


def do_apply(ksrc: str) -> int:
    tree = Tree(ksrc)
    generation = topics.range_of(tree)
    apply.check(tree, f"kvm-msr-filter/{generation}")
    plan, maker = planned(tree)
    print("\n".join(report.decided(plan, maker)), flush=True)
    if not maker.made:
        failures(maker, tree)
        raise Wrong(f"no topic is left to apply, and {ksrc} is as it was")
    before = apply.apply(tree, plan, maker)
    status = failures(maker, tree)
    print(f"{ksrc} is now on branch kvm-msr-filter/{plan.range}, on top of {before}")
    return status


def do_export(ksrc: str, out: str) -> int:
    tree, stable = Tree(ksrc), os.environ.get("STABLE", "")
    if stable and not re.fullmatch(r"\d+\.\d+(\.y)?", stable):
        raise Wrong(f"STABLE={stable} is no stable tree, e.g. 6.6.y is")
    export.check_out(Path(out))
    tree.check_clean()
    plan, maker = planned(tree)
    print("\n".join(report.decided(plan, maker)), flush=True)
    if not maker.made:
        failures(maker, tree)
        raise Wrong("no topic is left to export")
    export.export(tree, plan, maker, Path(out), stable)
    status = failures(maker, tree)
    print(f"{out} has {report.count(len(maker.made), 'patch')}"
          f", series and a cover letter: git am {out}/*.patch")
    return status


def do_make(ksrc: str, out: str) -> int:
    """For the rig: what it applies, in order, is in OUT; nothing may fail.  Of the
    rig's trees only a part is in git."""
    tree = Tree(ksrc)
    tree.has_git = False
    plan, maker = planned(tree)
    for line in report.decided(plan, maker):
        print(line, file=sys.stderr)
    for one in maker.failed:
        print("\n".join(report.failed(one, tree)), file=sys.stderr)
    export.export(tree, plan, maker, Path(out), "")
    for one in maker.made:
        print(f"{one.name} {one.source.relative_to(topics.series.PATCHES)}")
    return 1 if maker.failed or not maker.made else 0


def do_range(ksrc: str) -> int:
    tree = Tree(ksrc)
    topics.check_unpatched(tree)
    print(topics.range_of(tree))
    return 0


def do_post(name: str, ksrc: str) -> int:
    from . import post
    return post.post(name, Tree(ksrc))


COMMANDS = {"apply": (do_apply, 1), "export": (do_export, 2), "post": (do_post, 2),
            "range": (do_range, 1), "make": (do_make, 2)}


def main(args: List[str]) -> int:
    command, wanted = COMMANDS.get(args[0] if args else "", (None, 0))
    if not command or len(args) != wanted + 1 or not all(args):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return command(*args[1:])
    except (Wrong, OSError) as error:
        print(f"{args[0]}: {error}", file=sys.stderr)
        return 1
    except (apply.Interrupted, KeyboardInterrupt):
        print(f"{args[0]}: interrupted, nothing is changed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
