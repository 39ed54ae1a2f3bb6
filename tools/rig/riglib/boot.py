# SPDX-License-Identifier: GPL-2.0-only
"""Boot what a plan says, side by side, and see to it that each boot ends.

What a boot has said lands in OUT/boots/NAME: console.log, results.ktap, the
emulator's own log, and boot.json, which says how it ended.  A boot that ends before
its time, because the host panicked or hung, is booted again with the variants that
it had not come to, as NAME.2 and so on: one bad variant does not take the others
with it.

BOOT_LIMIT is how many seconds of wall-clock time a boot may take, BOOT_STALL how
many may go by without a word from it.  Only these two end a guest that hangs: time
inside it may stand still.
"""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import children, ktap, pack, plan as plans
from .errors import Wrong
from .machines import MACHINES
from .views.terminal import Progress

LIMITS = {"tests": (600, 120), "faults": (5400, 120), "suite": (3600, 300),
          "bench": (1800, 300), "debug": (3600, 600), "fuzz": (7200, 900),
          "coverage": (3600, 600), "vmm": (3600, 900), "nested": (7200, 900),
          "kut": (7200, 900), "host": (3600, 300)}
POLL = 0.5			# seconds
# A guest that has not said a word by then, in seconds, is booted once more: QEMU's
# emulation of several CPUs sometimes hangs before the kernel prints anything.
SILENCE = 120
LAST_WORDS = 1			# seconds that a panic gets to say more
POWER_OFF = re.compile(r"^0*([0-9]+)p\[ACPI.*soft power off", re.M)


@dataclass
class Ending:
    """How a boot ended."""
    boot: str
    folder: str
    whole: bool
    why: str = ""			# where it is not whole
    seconds: float = 0.0	# of wall-clock time
    instructions: int = None	# where the emulator counts them


class Guest:
    """One emulator, from its start to its end."""

    def __init__(self, boot, image, out, limit, stall):
        self.boot, self.out, self.limit, self.stall = boot, out, limit, stall
        self.machine = MACHINES[boot.machine]
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for name in ("console.log", "results.ktap"):
            (out / name).touch()
        command = self.machine.command(image.resolve(), out, boot.cpus)
        with open(out / "emulator.out", "wb") as said:
            # pylint: disable=subprocess-popen-preexec-fn
            self.process = subprocess.Popen(
                command, cwd=out, stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, env={**os.environ, "TERM": "vt100"},
                start_new_session=True, preexec_fn=children.dies_with_us)
        self.start = self.heard = time.monotonic()
        self.size = 0
        self.console = ""
        self.at = 0

    def listen(self):
        """Take what the console has said since."""
        with open(self.out / "console.log", "rb") as console:
            console.seek(self.at)
            new = console.read()
        self.at += len(new)
        self.console += new.decode(errors="replace")
        size = self.at + sum(path.stat().st_size for path in map(
            self.out.joinpath, ("results.ktap", "host-console.log", "host.ktap"))
            if path.exists())
        if size != self.size:
            self.size, self.heard = size, time.monotonic()

    def ended(self):
        """None while it runs; else why it was stopped, "" where it was not."""
        now = time.monotonic()
        self.listen()
        if self.process.poll() is not None:
            return ""
        if "Kernel panic" in self.console or self.host_panicked():
            time.sleep(LAST_WORDS)
            return "the guest's kernel panicked"
        if now - self.start > self.limit:
            return f"the guest is still running after {self.limit} s (BOOT_LIMIT)"
        if not self.size and now - self.start > SILENCE:
            return f"the guest said nothing in {SILENCE} s"
        if now - self.heard > self.stall:
            return (f"the guest hangs: nothing heard of it for {self.stall} s "
                    f"(BOOT_STALL)")
        return None

    def host_panicked(self):
        """Of what runs in a host: whether that one did."""
        return self.machine.inside and "Kernel panic" in ktap.text_of(
            self.out / "host-console.log")

    def host_ended(self):
        """What is wrong with what that one has said."""
        if not self.machine.inside:
            return ""
        said = ktap.read_boot(self.out / "host.ktap")
        wrong = [f"{one.name}: {one.why or one.verdict}" for group in said.groups
                 for one in group.results if one.verdict != "pass"] + said.problems
        return f"its own host: {wrong[0]}" if wrong else ""

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def progress(self):
        """How many tests have begun, and the last of them."""
        found = re.findall(r"^rig: (\S+): ([0-9]+) of [0-9]+: (\S+)", self.console,
                           re.M)
        return (int(found[-1][1]), f"{found[-1][0]} {found[-1][2]}") if found \
            else (0, "")

    def emulator_said(self):
        for name in ("emulator.log", "emulator.out"):
            for line in ktap.text_of(self.out / name).split("\n"):
                if ">>PANIC<<" in line or line.startswith("qemu-system"):
                    return f": {line.strip()}"
        return ""

    def ending(self, why):
        """What there is to say of it, once it has ended."""
        self.kill()
        self.listen()
        text = self.console.replace("\r", "")
        (self.out / "console.log").write_text(text)
        for name in ("boot.iso", "boot.iso.lock", "rc"):
            (self.out / name).unlink(missing_ok=True)
        said = ktap.read_boot(self.out / "results.ktap")
        if why == "the guest's kernel panicked":
            words = re.search(r"Kernel panic.*", text)
            why += f": {words[0]}" if words else ""
        cpus = said.facts.get("host cpu", "").split(" x ")[0]
        if not why and not said.ended:
            bail = [one for one in said.problems if one.startswith("init gave up")]
            why = bail[0] if bail else (
                f"the guest ended without a verdict (status "
                f"{self.process.returncode}{self.emulator_said()})")
        why = why or self.host_ended()
        if not why and cpus != str(self.boot.cpus):
            why = f"the guest has {cpus} CPUs, and is to have {self.boot.cpus}"
        power_off = POWER_OFF.search(ktap.text_of(self.out / "emulator.log"))
        ending = Ending(self.boot.name, str(self.out), not why, why,
                        round(time.monotonic() - self.start, 1),
                        int(power_off[1]) if power_off else None)
        (self.out / "boot.json").write_text(json.dumps(asdict(ending)))
        return ending


def left_over(boot, folder):
    """The variants that a boot which ended before its time has not come to; none
    where it came to none."""
    groups = [group.name for group in ktap.read_boot(folder / "results.ktap").groups
              if group.name in boot.variants]
    if not groups:
        return []
    return [name for name in boot.variants[boot.variants.index(groups[-1]) + 1:]
            if name not in groups]


class Boots:
    """All boots of a plan, at most JOBS at a time."""

    def __init__(self, plan, out):
        self.plan, self.out = plan, out
        self.limit, self.stall = (
            int(os.environ.get(name) or default) for name, default in
            zip(("BOOT_LIMIT", "BOOT_STALL"), LIMITS[plan.what]))
        # Those with the most to do first.
        self.waiting = sorted(
            ((boot, boot.name) for boot in plan.boots),
            key=lambda one: -sum(map(len, one[0].steps.values())))
        self.guests, self.endings = [], []
        self.repeated = set()	# boots of guests that said nothing
        self.planned = sum(step.test for boot in plan.boots
                           for steps in boot.steps.values() for step in steps)
        self.begun = 0		# by those that have ended
        self.progress = Progress("BOOT", Path(plan.folder) / "log" /
                                 f"boot-{plan.what}.took")

    def start(self):
        while self.waiting and len(self.guests) < plans.jobs():
            boot, name = self.waiting.pop(0)
            image = Path(self.plan.folder) / "images" / self.plan.what / boot.image
            self.guests.append(Guest(boot, image, self.out / "boots" / name,
                                     self.limit, self.stall))

    def again(self, boot, folder):
        """What a boot that ended before its time had not come to."""
        rest = left_over(boot, folder)
        if not rest:
            return
        name, _, number = folder.name.partition(".")
        number = int(number or 1) + 1
        image = f"{boot.image}.{name}.{number}"
        boot = replace(boot, image=image, variants=rest)
        pack.image(replace(self.plan, boots=[boot]), image).make()
        self.waiting.insert(0, (boot, f"{name}.{number}"))
        self.progress.say(f"  BOOT    {name} again, from {rest[0]} on: "
                          f"{len(rest)} variants left")

    def reap(self):
        for guest in list(self.guests):
            why = guest.ended()
            if why is None:
                continue
            self.guests.remove(guest)
            name = guest.out.name
            if why and not guest.size and name not in self.repeated:
                guest.kill()
                self.repeated.add(name)
                self.waiting.insert(0, (guest.boot, name))
                self.progress.say(f"  BOOT    {name} once more: {why}")
                continue
            ending = guest.ending(why)
            self.endings.append(ending)
            self.begun += guest.progress()[0]
            if not ending.whole:
                self.progress.say(f"rig: {name}: {ending.why}; its console: "
                                  f"{guest.out}/console.log")
                self.again(guest.boot, guest.out)

    def run(self):
        try:
            while self.waiting or self.guests:
                self.start()
                time.sleep(POLL)
                self.reap()
                now = [guest.progress() for guest in self.guests]
                self.progress.show(self.begun + sum(n for n, _ in now), self.planned,
                                   "tests", ", ".join(what for _, what in now if what))
            self.progress.done(self.planned)
        finally:
            for guest in self.guests:
                guest.kill()
            self.progress.end()
        return self.endings


def run(plan, out):
    """Boot all of it; how each boot ended."""
    if not plan.boots:
        raise Wrong("there is nothing to boot")
    return Boots(plan, out).run()
