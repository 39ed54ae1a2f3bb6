# SPDX-License-Identifier: GPL-2.0-only
"""Run a plan on the kernel that runs here: host/swap takes its KVM away and gives it
back, guest/init.c carries out the plan in between."""

import contextlib
import json
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from . import children, ktap, pack, results
from .boot import Ending
from .errors import Wrong

SWAP = "tools/rig/host/swap"


def run(plan, out, swap=SWAP):
    """How it ended.  The modules that were loaded are waited for, however long they
    take, and whatever signals come: nobody else would load them again."""
    [boot] = plan.boots
    folder = out / "boots" / boot.name
    folder.mkdir(parents=True)
    (folder / "plan").write_text(pack.init_plan(boot))
    (folder / "results.ktap").touch()
    command = [swap, "run", str(Path(plan.folder) / "rig/init"),
               str(folder / "plan"), str(folder / "results.ktap")]
    start = time.monotonic()
    last, told, child = "", [], None

    def tell(number, _frame):
        told.append(number)
        if child:
            child.terminate()

    # Before there is a child, as from then on it is to be waited for.
    before = {number: signal.signal(number, tell) for number in
              (signal.SIGTERM, *children.heeded(signal.SIGINT, signal.SIGHUP))}
    try:
        # In a session of its own: Ctrl-C is for us, and we tell it.
        # pylint: disable=subprocess-popen-preexec-fn
        with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True,
                preexec_fn=lambda: children.dies_with_us(signal.SIGTERM)) as child, \
                open(folder / "console.log", "w", encoding="utf-8") as console:
            if told:
                child.terminate()
            for line in child.stdout:
                console.write(line)
                last = line.strip() if line.startswith("swap: ") else last
                with contextlib.suppress(OSError):	# the terminal may be gone
                    print(f"  {line.rstrip()}", flush=True)
            status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        raise KeyboardInterrupt
    said = ktap.read_boot(folder / "results.ktap")
    if status and not said.facts:
        raise Wrong(last or f"{swap}: status {status}")
    why = "" if status == 0 else last or f"{swap}: status {status}"
    if not why and not said.ended:
        why = "it ended without a verdict"
    ending = Ending(boot.name, str(folder), not why, why,
                    round(time.monotonic() - start, 1))
    (folder / "boot.json").write_text(json.dumps(asdict(ending)))
    return ending


def carry_out(plan, out):
    """Its results, complete or not."""
    out = Path(out)
    plan.write(out / "plan.json")
    print(f"  HOST    {plan.what}, {plan.vmx}", flush=True)
    run(plan, out)
    found = results.collect(plan, out)
    found.write(out / "results.json")
    return found
