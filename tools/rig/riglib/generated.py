# SPDX-License-Identifier: GPL-2.0-only
"""Patches that carry files of this repository: "make patches" writes the files into
them, "make lint" says which ones are stale.

A file that a patch of patches/next adds, and that is in this repository at the same
place, has its source here.  If later patches change it, the file here is what they
make of it together, and a patch is regenerated from the last one to the first.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

from . import series
from .errors import Wrong
from .series.export import new_section

FOLDER = "next"
SECTION = re.compile(r"^diff --git a/(\S+) b/\S+\n", re.M)


class Patch:
    """A patch as git format-patch writes it: a header, a diffstat, a section for each
    file, and what is below them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header, separator, rest = path.read_text().partition("\n---\n")
        starts = [found.start() for found in SECTION.finditer(rest)]
        body = rest[starts[0]:] if starts else ""
        end = re.search(r"^(?:|-- )$", body, re.M)
        if not separator or not end:
            raise Wrong(f"{path} is not a patch as git format-patch writes it")
        self.trailer = body[end.start():]
        body = body[:end.start()]
        starts = [found.start() for found in SECTION.finditer(body)] + [len(body)]
        self.sections: Dict[str, str] = {}
        for first, last in zip(starts, starts[1:]):
            text = body[first:last]
            found = SECTION.match(text)
            assert found
            self.sections[found[1]] = text

    def adds(self, file: str) -> bool:
        return "\nnew file mode " in self.sections.get(file, "")

    def text(self) -> str:
        body = "".join(self.sections.values())
        stat = git("apply", "--stat", "--summary", text=body)
        return f"{self.header}\n---\n{stat}\n{body}{self.trailer}"


def git(*args: str, text: str = "", cwd: str = ".") -> str:
    done = subprocess.run(["git", *args], input=text, capture_output=True, text=True,
                          check=False, cwd=cwd)
    if done.returncode > 1:
        raise Wrong(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout


def change(file: str, before: str, after: str) -> str:
    """The section of a patch that changes a file."""
    with tempfile.TemporaryDirectory() as top:
        for side, content in (("a", before), ("b", after)):
            path = Path(top) / side / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        text = git("diff", "--no-index", "--no-prefix", "--abbrev=12", "-U3",
                   f"a/{file}", f"b/{file}", cwd=top)
    return text


def before(patch: Patch, file: str, content: str) -> str:
    """The content of a file before a patch has changed it."""
    with tempfile.TemporaryDirectory() as top:
        path = Path(top) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        done = subprocess.run(["git", "apply", "-R", "--unsafe-paths", "-C1", "-"],
                              input=patch.sections[file], text=True, cwd=top,
                              capture_output=True, check=False)
        if done.returncode:
            raise Wrong(f"{patch.path}: its change of {file} is not in the file here: "
                        f"change the patch by hand")
        return path.read_text()


def carriers(folder: str = FOLDER) -> Dict[str, List[Path]]:
    """The files here that patches of a folder add, and all patches that touch them."""
    found: Dict[str, List[Path]] = {}
    for path in series.patches(folder):
        patch = Patch(path)
        for file in patch.sections:
            if patch.adds(file) and Path(file).exists():
                found[file] = [path]
            elif file in found:
                found[file].append(path)
    return found


def refreshed(folder: str = FOLDER) -> Iterator[Patch]:
    """Those of a folder's patches that are stale, brought up to date."""
    patches = {path: Patch(path) for path in series.patches(folder)}
    for file, touching in carriers(folder).items():
        content = Path(file).read_text()
        for path in reversed(touching[1:]):
            earlier = before(patches[path], file, content)
            patches[path].sections[file] = change(file, earlier, content)
            content = earlier
        patches[touching[0]].sections[file] = new_section(file, content)
    for path, patch in patches.items():
        if patch.sections != Patch(path).sections:
            yield patch


def check() -> Iterator[str]:
    for patch in refreshed():
        yield f"{patch.path} is stale: run \"make patches\""


def refresh() -> None:
    for patch in refreshed():
        patch.path.write_text(patch.text())
        print(f"  GEN     {patch.path}")
