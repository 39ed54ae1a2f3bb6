# SPDX-License-Identifier: GPL-2.0-only
"""The series of patches/next: their order, their patches, and what each needs.

patches/next has a folder for each series, in the order of its series.json, which says
what each is for and which others it needs.  Without such a need, a series applies to
the base alone.

The rest of this package puts these, or the topics of patches/stable, on a tree of the
user's.  It needs git and the standard library alone.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from ..errors import Wrong

PATCHES = Path("patches")
# More than these are hard to review.
MOST_PATCHES = 8
PATCH_NAME = re.compile(r"(\d{4})-KVM-.*\.patch")


@dataclass(frozen=True)
class Series:
    folder: str			# of patches/
    name: str			# of a folder in it
    what: str = ""		# its purpose, a line
    needs: Tuple[str, ...] = ()	# other series of the same folder
    made: Optional[Path] = None	# of patches/stable: where those for a tree are

    @property
    def path(self) -> Path:
        return self.made or PATCHES / self.folder / (
            "" if self.name == self.folder else self.name)

    @property
    def cover(self) -> Path:
        return self.path / ("0000-cover-letter.txt" if self.made else
                            "0000-cover-letter.patch")

    def patches(self) -> List[Path]:
        return sorted(path for path in self.path.glob("0*.patch")
                      if PATCH_NAME.fullmatch(path.name))


def read(folder: str) -> List[Series]:
    """The series of a folder of patches/, in order."""
    path = PATCHES / folder / "series.json"
    if not path.exists():
        return [Series(folder, folder)]
    try:
        found = [Series(folder, one["name"], one["what"], tuple(one.get("needs", ())))
                 for one in json.loads(path.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise Wrong(f"{path}: {error!r}: it has to be a list of objects with name, "
                    f"what and, if any, needs") from None
    names = [one.name for one in found]
    for number, one in enumerate(found):
        for name in one.needs:
            if name not in names[:number]:
                raise Wrong(f"{path}: {one.name} needs {name}, which is not before it")
    return found


def named(folder: str, name: str) -> Series:
    for one in read(folder):
        if one.name == name:
            return one
    raise Wrong(f"patches/{folder} has no series {name}")


def closure(series: Series) -> List[Series]:
    """What a series needs, and what that needs, in order; without itself."""
    if not series.needs:
        return []
    wanted = set(series.needs)
    for name in series.needs:
        wanted |= {one.name for one in closure(named(series.folder, name))}
    return [one for one in read(series.folder) if one.name in wanted]


def patches(folder: str) -> List[Path]:
    """All patches of a folder, in the order in which git am takes them."""
    return [path for one in read(folder) for path in one.patches()]


def subject_of(header: str) -> str:
    """Of a patch's header, without what is in brackets."""
    found = re.search(r"^Subject: ((?:.*)(?:\n[ \t].*)*)", header.split("\n\n", 1)[0], re.M)
    if not found:
        return ""
    text = re.sub(r"\s*\n[ \t]+", " ", found[1])
    return re.sub(r"^\[[^]]*\] ", "", text)


def subject(patch: Path) -> str:
    found = subject_of(patch.read_text())
    if not found:
        raise Wrong(f"{patch} has no subject")
    return found


def lint(folder: str) -> Iterator[str]:
    """What is wrong with the series of a folder, a line each."""
    flat = PATCHES / folder / "series"
    listed = [line.split()[0] for line in flat.read_text().split("\n")
              if line and not line.startswith("#")]
    there = [str(path.relative_to(PATCHES / folder)) for path in patches(folder)]
    if listed != there:
        yield f"{flat}: it does not list the folder's patches in order"
    for one in read(folder):
        of_series = one.patches()
        if one.name != folder and len(of_series) > MOST_PATCHES:
            yield f"{one.path}: {len(of_series)} patches, {MOST_PATCHES} are the most"
        if not of_series:
            yield f"{one.path}: there are no patches"
        if len(of_series) < 2:
            continue
        if not one.cover.exists():
            yield f"{one.path}: there is no cover letter"
            continue
        cover = " ".join(one.cover.read_text().split())
        for patch in of_series:
            if " ".join(subject(patch).split()) not in cover:
                yield f"{one.cover}: it does not name \"{subject(patch)}\""
