# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with the files of tools/rig/examples, which others copy: whether CI's
workflow runs our make targets and nothing else.

That needs Debian's python3, for which setup installs yaml.
"""

import re
from pathlib import Path

from . import tables
from .errors import Wrong

EXAMPLES = Path("tools/rig/examples")
COMMAND = re.compile(r"make ([a-z-]+)(?: BASE=\$\{\{ matrix\.base \}\})?")


def targets():
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", Path("Makefile").read_text(), re.M)
    return set(phony[1].replace("\\", " ").split())


def load(path):
    import yaml
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Wrong(f"{path}: {' '.join(str(error).split())}") from None


def check_workflow(path):
    known, ran = targets(), set()
    for name, job in load(path)["jobs"].items():
        title = f"{path}: {name}"
        for base in job["strategy"]["matrix"]["base"]:
            if base not in tables.kernels():
                yield f"{title}: BASE={base} is unknown"
        for step in job["steps"]:
            match = COMMAND.fullmatch(step.get("run", "").strip())
            if match and match[1] in known:
                ran.add(match[1])
            elif match or "run" in step:
                yield f"{title}: no make target of ours: {step['run'].strip()}"
            elif not step.get("uses", "").startswith("actions/"):
                yield f"{title}: neither a make target nor one of actions/: {step}"
    if "test" not in ran:
        yield f"{path}: it does not run make test"


def check(folder=EXAMPLES):
    folder = Path(folder)
    try:
        yield from check_workflow(folder / "github-workflow.yml")
    except ImportError as error:
        raise Wrong(f"{error}: tools/rig/setup lint installs it") from None
