# SPDX-License-Identifier: GPL-2.0-only
"""The messages about a plan and its result: lines for a person to read."""

import shlex
from pathlib import Path
from typing import Iterator, List

from . import hunks
from .export import Failed, Made, Maker
from .topics import HAS, LEFT_OUT, NOT_FOR, Choice, Plan
from .tree import Tree


def count(n: int, what: str) -> str:
    plural = "es" if what.endswith("ch") else "s"
    return f"{n} {what}{'' if n == 1 else plural}"


def step(word: str, text: str) -> str:
    """As Kbuild announces a step."""
    return f"  {word:<8}{text}"


def decided(plan: Plan, maker: Maker) -> Iterator[str]:
    """What was decided, and why; before anything is done."""
    topics = len({one.choice.topic.name for one in maker.made})
    text = f"{plan.version}, by its code like {plan.like} ({plan.because}): " \
           f"{count(topics, 'topic')}"
    for state, words in ((HAS, "already there"), (NOT_FOR, "not for it"),
                         (LEFT_OUT, "left out")):
        found = plan.of(state)
        if found:
            text += f"; {len(found)} {words}"
    if maker.failed:
        text += f"; {len(maker.failed)} whose code is different here"
    yield text
    for state, word in ((HAS, "HAVE"), (NOT_FOR, "NOT"), (LEFT_OUT, "WITHOUT")):
        for one in plan.of(state):
            yield step(word, f"{one.topic.name}: {one.why}")
    for one in noted(maker.made):
        yield step("NOTE", f"{one.topic.name}: {one.why}")
    for made in maker.made:
        yield from reduced(made)


def noted(made: List[Made]) -> Iterator[Choice]:
    seen = set()
    for one in made:
        if one.choice.why and one.choice.topic.name not in seen:
            seen.add(one.choice.topic.name)
            yield one.choice


def reduced(made: Made) -> Iterator[str]:
    """The hunks that are placed by less than three lines of context."""
    for place in made.reduced:
        where = place.piece.function()
        yield step(f"-C{place.context}", f"{made.source}: {place.piece.file}:{place.at + 1}"
                                         f"{f', at {where}' if where else ''}")


def failed(one: Failed, tree: Tree) -> Iterator[str]:
    """A patch that does not apply: where, what is there, and how to go on by hand."""
    hunk, where = one.failure.hunk, Path(tree.dir).resolve()
    function = hunk.function()
    yield ""
    yield f"{one.choice.topic.name} does not apply: {one.failure.why}"
    yield f"  patch      {one.source}"
    yield f"  looked at  {hunk.file}:{one.failure.line}" + (
        f", for {function}()" if function else "")
    if one.failure.found:
        yield f"  {'expected':<56}   found here"
        for line in hunks.beside(hunk.old(), one.failure.found):
            yield f"  {line}"
    if one.dependents:
        yield f"  needed by  {', '.join(one.dependents)}: left out, too"
    if not hunk.lines:
        return
    there, patch = shlex.quote(str(where)), shlex.quote(str(one.source.resolve()))
    yield "  by hand    " + f"git -C {there} apply --reject {patch}"
    yield f"             edit {hunk.file} as {hunk.file}.rej says, remove the .rej"
    yield f"             git -C {there} commit -a -s"
