# SPDX-License-Identifier: GPL-2.0-only
"""Keep what a run's boots said, for the tests of the judge: a folder with the plan
and, of each boot, how it ended and its results."""

import json
import shutil
from pathlib import Path

from . import results
from .errors import Wrong


def record(out, to):
    """Of the results in OUT, into the folder TO, which is replaced."""
    out, to = Path(out), Path(to)
    found = results.load(out)
    if not all(found.whole(boot.name) for boot in found.plan.boots):
        raise Wrong(f"{out}: not all boots ended well, so this is no good run")
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    plan = json.loads((out / "plan.json").read_text())
    (to / "plan.json").write_text(json.dumps(plan, separators=(",", ":")) + "\n")
    for boot in found.plan.boots:
        folder = to / "boots" / boot.name
        folder.mkdir(parents=True)
        for name in ("results.ktap", "boot.json"):
            shutil.copy(out / "boots" / boot.name / name, folder)
    for name in ("left-out.json",):
        if (out / name).exists():
            shutil.copy(out / name, to)
