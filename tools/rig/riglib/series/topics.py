# SPDX-License-Identifier: GPL-2.0-only
"""The topics of patches/stable and the series of patches/next, and which of them a tree
is for, by its code: distributions backport, so the version says nothing."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from .. import series
from ..errors import Wrong
from .tree import KVM, Tree

STABLE = series.PATCHES / "stable"
KINDS = {"mission": "what the project is for", "fix": "a bug fix",
         "cleanup": "needed by others", "speed": "not for stable"}
TESTS = "tools/testing/selftests/"
TESTS_MAKEFILE = f"{TESTS}kvm/Makefile.kvm"

# States of a topic in a plan
APPLY, HAS, NOT_FOR, LEFT_OUT, FAILED = "apply", "has", "not for", "left out", "failed"


@dataclass(frozen=True)
class Code:
    """A text that is in a file, or in a function of it."""
    file: str
    text: str
    function: str = ""

    def holds(self, tree: Tree) -> bool:
        text = tree.function(self.file, self.function) if self.function else \
            tree.read(self.file) or ""
        return self.text in text


@dataclass(frozen=True)
class Reason:
    """Conditions, all of which hold, and what it means that they do."""
    conditions: Tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Variant:
    path: Path
    conditions: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Topic:
    name: str
    what: str
    kind: str = "fix"
    upstream: str = ""			# the commit that this is, all of its digits
    follows: str = ""			# the commit that this does the same as, otherwise
    has: Tuple[Reason, ...] = ()
    not_for: Tuple[Reason, ...] = ()
    needs: Tuple[str, ...] = ()
    variants: Tuple[Variant, ...] = ()
    patches: Tuple[Path, ...] = ()	# of a series: all of them
    renamed: Dict[str, str] = field(default_factory=dict)


@dataclass
class Choice:
    topic: Topic
    state: str
    why: str = ""
    patches: Tuple[Path, ...] = ()


@dataclass
class Plan:
    range: str				# the name of this generation of kernels in the rig
    version: str
    like: str				# the first kernel whose code is like this
    because: str
    choices: List[Choice]

    def of(self, *states: str) -> List[Choice]:
        return [one for one in self.choices if one.state in states]


class Stable:
    """patches/stable/series.json."""

    def __init__(self, path: Path = STABLE / "series.json") -> None:
        try:
            data = json.loads(path.read_text())
            self.code = {name: Code(one["file"], one["text"], one.get("function", ""))
                         for name, one in data["code"].items()}
            self.kernels = [(one["kernel"], tuple(one["if"]), one["has"])
                            for one in data["kernels"]]
            self.topics = [self.topic(one) for one in data["topics"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Wrong(f"{path}: {error!r}") from None

    @staticmethod
    def topic(one: Dict) -> Topic:
        def reasons(key: str) -> Tuple[Reason, ...]:
            return tuple(Reason(tuple(each["if"]), each["why"])
                         for each in one.get(key, ()))

        variants = tuple(Variant(STABLE / one["name"] / f"{first}.patch", tuple(which))
                         for first, which in one["variants"].items())
        return Topic(one["name"], one["what"], one["kind"], one.get("upstream", ""),
                     one.get("follows", ""), reasons("has"), reasons("not for"),
                     tuple(one.get("needs", ())), variants,
                     renamed=one.get("renamed", {}))

    def hold(self, conditions: Sequence[str], tree: Tree) -> bool:
        return all(self.code[name.lstrip("!")].holds(tree) != name.startswith("!")
                   for name in conditions)

    def like(self, tree: Tree) -> Tuple[str, str]:
        """The newest kernel whose landmark a tree has, and that landmark."""
        for kernel, conditions, what in self.kernels:
            if self.hold(conditions, tree):
                return kernel, what
        raise Wrong(f"KSRC={tree.dir} cannot filter MSRs: its KVM has no "
                    f"KVM_X86_SET_MSR_FILTER (Linux before 5.10), there is nothing to do")

    def choose(self, topic: Topic, tree: Tree) -> Choice:
        for state, reasons in ((HAS, topic.has), (NOT_FOR, topic.not_for)):
            for one in reasons:
                if self.hold(one.conditions, tree):
                    return Choice(topic, state, one.why)
        for variant in topic.variants:
            if self.hold(variant.conditions, tree):
                return Choice(topic, APPLY, "", (variant.path,))
        return Choice(topic, NOT_FOR, "no variant is for this code")


def range_of(tree: Tree) -> str:
    """What the rig calls this generation of kernels."""
    vmx = tree.read(f"{KVM}/vmx/vmx.c")
    if vmx is None:
        raise Wrong(f"{tree.dir} has no {KVM}/vmx/vmx.c")
    header = tree.read(f"{KVM}/vmx/vmx.h") or ""
    if "} shadow_msr_intercept" in header:
        skips = "!test_bit(i, vmx->shadow_msr_intercept" in tree.function(
            f"{KVM}/vmx/vmx.c", "vmx_msr_filter_changed")
        return "v6.0-v6.16" if skips else "v5.10-v5.19"
    if "vmx_recalc_msr_intercepts" in vmx:
        return "next" if tree.read(f"{KVM}/msrs.c") is not None else "v6.17-v7.2"
    raise Wrong(f"{tree.dir} cannot filter MSRs: its KVM has no KVM_X86_SET_MSR_FILTER "
                f"(Linux before 5.10), there is nothing to do")


def check_unpatched(tree: Tree) -> None:
    """Refuse a tree that has the series, which the rig could compare with nothing."""
    if re.search(r"nested_vmx_(update_msr_bitmap|recalc_intercepts)\(",
                 tree.read(f"{KVM}/vmx/nested.h") or ""):
        raise Wrong(f"{tree.dir} has the series, or a part of it, already: check out what "
                    f"it was before, the rig puts the series on a copy")


def of_next(tree: Tree) -> Iterator[Choice]:
    """The series of patches/next; its selftests are for a tree with their Makefile."""
    makefile = tree.read(TESTS_MAKEFILE)
    for one in series.read("next"):
        paths, left = [], 0
        for path in one.patches():
            files = re.findall(r"^\+\+\+ b/(\S+)", path.read_text(), re.M)
            if all(file.startswith(TESTS) for file in files) and (
                    not makefile or "TEST_GEN_PROGS_x86 " not in makefile):
                left += 1
            else:
                paths.append(path)
        why = f"without {left} selftest patch{'es' if left > 1 else ''}: the tree " + (
            f"has no {TESTS_MAKEFILE} (.gitignore there hides it when a tarball is "
            f"imported)" if makefile is None else
            f"has another {TESTS_MAKEFILE}") if left else ""
        topic = Topic(one.name, one.what, needs=one.needs, patches=tuple(paths))
        yield Choice(topic, APPLY if paths else NOT_FOR, why, tuple(paths))


def plan(tree: Tree, only: str = "", skip: str = "") -> Plan:
    """What is to be done with each topic."""
    stable, generation = Stable(), range_of(tree)
    like, because = stable.like(tree)
    choices = list(of_next(tree)) if generation == "next" else \
        [stable.choose(topic, tree) for topic in stable.topics]
    select(choices, only, skip)
    return Plan(generation, tree.version(), like, because, choices)


def named(choices: Sequence[Choice], text: str, variable: str) -> List[str]:
    """The topics that a list of names and kinds means."""
    found: List[str] = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        kind = {"fixes": "fix"}.get(word, word)
        names = [one.topic.name for one in choices
                 if one.topic.name == word or one.topic.kind == kind or
                 re.sub(r"^\d+-", "", one.topic.name) == word]
        if not names:
            raise Wrong(f"{variable}={word} is no topic: there are fixes, speed, "
                        f"{', '.join(one.topic.name for one in choices)}")
        found += names
    return found


def select(choices: List[Choice], only: str, skip: str) -> None:
    """Leave out what was not asked for, pull in what is needed, and leave out what
    needs something that is left out."""
    by_name = {one.topic.name: one for one in choices}
    chosen = set(named(choices, only, "TOPICS")) or set(by_name)
    skipped = set(named(choices, skip, "SKIP"))
    wanted = set(chosen)
    for one in reversed(choices):
        if one.topic.name in wanted and one.state == APPLY:
            wanted |= set(one.topic.needs)
    for one in choices:
        name = one.topic.name
        if one.state != APPLY:
            continue
        if name in skipped:
            leave_out(one, f"SKIP={name}")
        elif name not in wanted:
            leave_out(one, "not asked for")
        elif name not in chosen:
            one.why = "needed by " + ", ".join(
                other.topic.name for other in choices
                if other.topic.name in wanted and name in other.topic.needs)
        without_needs(one, by_name)


def leave_out(choice: Choice, why: str) -> None:
    choice.state, choice.why, choice.patches = LEFT_OUT, why, ()


def without_needs(choice: Choice, by_name: Dict[str, Choice]) -> None:
    """Leave a topic out if one that it needs is left out, or failed."""
    if choice.state != APPLY:
        return
    for name in choice.topic.needs:
        if by_name[name].state in (LEFT_OUT, FAILED):
            leave_out(choice, f"needs {name}, which " + (
                "is left out" if by_name[name].state == LEFT_OUT else "does not apply"))
            return


def lint() -> Iterator[str]:
    """What is wrong with patches/stable, a line each."""
    stable = Stable()
    names: List[str] = []
    listed: List[Optional[Path]] = []
    used = {name.lstrip("!") for _, conditions, _ in stable.kernels for name in conditions}
    for topic in stable.topics:
        for need in topic.needs:
            if need not in names:
                yield f"{STABLE}/series.json: {topic.name} needs {need}, which is not before it"
        names.append(topic.name)
        if topic.kind not in KINDS:
            yield f"{STABLE}/series.json: {topic.name}: {topic.kind} is no kind"
        for one in (*topic.has, *topic.not_for, *topic.variants):
            used |= {name.lstrip("!") for name in one.conditions}
        for variant in topic.variants:
            listed.append(variant.path)
            if not variant.path.exists():
                yield f"{variant.path} is not there"
            elif (topic.kind == "fix") != ("\nFixes: " in variant.path.read_text()):
                yield f"{variant.path}: a fix has Fixes:, and nothing else has"
    for path in sorted(STABLE.glob("*/*")):
        if path not in listed:
            yield f"{path} is not in {STABLE}/series.json"
    for name in sorted(used ^ set(stable.code)):
        yield f"{STABLE}/series.json: {name} is " + (
            "not used" if name in stable.code else "not in \"code\"")
