# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with the files of tools/rig/examples, which others copy: whether CI's
workflow runs our make targets and nothing else, and whether LAVA would take the job,
by LAVA's own schemas.

That needs Debian's python3, for which setup installs yaml and lava_common.
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


def check_lava(path):
    from lava_common import schemas
    from lava_common.schemas.test import testdef
    import voluptuous

    job = load(path)
    try:
        schemas.validate(job)
        used = [definition for action in job["actions"]
                for definition in action.get("test", {}).get("definitions", ())]
        if not used:
            yield f"{path}: it tests nothing"
        for definition in used:
            if Path(definition["path"]).parent != EXAMPLES:
                yield f"{path}: {definition['path']} is not in {EXAMPLES}"
            path = path.parent / Path(definition["path"]).name
            testdef.validate(load(path))
            yield from check_definition(path, definition.get("params", {}))
    except voluptuous.Invalid as error:
        yield f"{path}: {error}"


def check_definition(path, given):
    """A test definition, and the parameters that a job gives it."""
    definition = load(path)
    params = definition["params"]
    for name in sorted(set(given) - set(params)):
        yield f"{path}: it has no parameter {name}"
    for kernel in (params["KERNEL"], given.get("KERNEL", params["KERNEL"])):
        if kernel not in tables.kernels():
            yield f"{path}: KERNEL {kernel} is unknown"
    files = re.findall(r"tools/\S+", " ".join(definition["run"]["steps"]))
    if not files:
        yield f"{path}: it runs nothing of ours"
    for file in files:
        if not Path(file).exists():
            yield f"{path}: {file} is not there"


def check(folder=EXAMPLES):
    folder = Path(folder)
    try:
        yield from check_workflow(folder / "github-workflow.yml")
        yield from check_lava(folder / "lava-job.yaml")
    except ImportError as error:
        raise Wrong(f"{error}: tools/rig/setup lint installs it") from None
