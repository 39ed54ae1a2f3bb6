# SPDX-License-Identifier: GPL-2.0-only
"""Boots, with a program of a few lines in the place of the emulator."""

import os
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

import common
from riglib import boot, judge, machines, pack, plan, results, tables

# Does what init does with the plan, and what a host may do in between.
FAKE = r'''
import os, sys, time
plan = open(sys.argv[1]).read().split("\n")
if "is-silent" in sys.argv or \
        "is-silent-once" in sys.argv and not os.path.exists("../once"):
    open("../once", "w").close()
    time.sleep(60)
out, console = open("results.ktap", "w"), open("console.log", "w")
def say(text):
    print(text, file=out, flush=True)
say("KTAP version 1\n# rig: host cpu: 1 x none")
# Of a nested one, what the emulated host says; it says nothing of how that ended.
if "host-panics" in sys.argv:
    open("host-console.log", "w").write("Kernel panic - not syncing: because")
    time.sleep(60)
ok = "not ok" if "host-fails" in sys.argv else "ok"
if "host-is-silent" not in sys.argv:
    open("host.ktap", "w").write(f"""KTAP version 1
# rig: host cpu: 1 x none
    KTAP version 1
    # Subtest: patched
    # rig: took: 0.01
    # rig: why: exit status 1
    {ok} 1 qemu
    1..1
{ok} 1 patched
1..1
# rig: totals: pass {int(ok == 'ok')} fail {int(ok != 'ok')} skip 0
""")
n = groups = failed = total = 0
group = None
def end():
    global groups
    if group:
        say(f"    1..{n}\n{'not ' if failed else ''}ok {groups} {group}")
for line in ["group boot", "load /reached", *plan]:
    word = line.split()
    if not word:
        continue
    if word[0] == "group":
        end()
        group, n, failed, groups = word[1], 0, 0, groups + 1
        say(f"    KTAP version 1\n    # Subtest: {group}")
        continue
    name = word[1] if word[0] == "test" else f"{word[0]} {os.path.basename(word[1])}"
    if name == "load reached":
        name = "reached init"
    if word[0] == "test":
        say(f"    # rig: running: {name}")
    if f"{group}-panics" in sys.argv:
        print("Kernel panic - not syncing: because", file=console, flush=True)
    if {f"{group}-panics", f"{group}-hangs"} & set(sys.argv):
        time.sleep(60)
    if f"{group}-ends" in sys.argv:
        sys.exit(3)
    n, total = n + 1, total + 1
    say(f"    # rig: took: 0.01\n    ok {n} {name}")
end()
say(f"1..{groups}\n# rig: totals: pass {total} fail 0 skip 0")
'''


class Fake(machines.Machine):
    misdeeds = ()

    def command(self, image, out, cpus):
        return [sys.executable, "-c", FAKE, str(image / "plan.1"), *self.misdeeds]


class Boots(common.Case):
    def setUp(self):
        super().setUp()
        Fake.misdeeds = ()
        fakes = {name: Fake(name, "kvm-intel", exact=True)
                 for name in ("bochs", "nested")}
        for patch in (mock.patch.dict(machines.MACHINES, fakes),
                      mock.patch.object(pack.Image, "make", self.make_image),
                      mock.patch.object(boot, "POLL", 0.01),
                      mock.patch.object(boot, "LAST_WORDS", 0.1),
                      mock.patch.dict(os.environ, {"BOOT_STALL": "60", "JOBS": "2"})):
            patch.start()
            self.addCleanup(patch.stop)

    @staticmethod
    def make_image(image):
        image.path.mkdir(parents=True, exist_ok=True)
        for one in image.boots:
            (image.path / "plan.1").write_text(pack.init_plan(one))

    def boots(self, *misdeeds, variants=("a", "b", "c"), times=1, machine="bochs"):
        Fake.misdeeds = misdeeds
        # Who waits for one that hangs need not wait long; else the machine may be slow.
        if any(one.endswith("-hangs") for one in misdeeds):
            os.environ["BOOT_STALL"] = "3"
        test = plan.Test("t", "t", "own", 1, "-", 9, __file__, machine)
        steps = {name: [plan.Step("load kvm.ko", "load /kvm.ko"),
                        plan.Step("t", "test t 9 /t", True)] for name in variants}
        made = plan.Plan("faults", "5.10", str(self.folder), "s", "v", False, "c",
                         machine, "x", "i", variants=list(variants), tests=[test],
                         boots=[plan.Boot(name, "one", machine, 1, list(variants),
                                          steps)
                                for name in ["one", "two", *map(str, range(3, 99))][:times]])
        pack.images(made)
        with mock.patch("riglib.boot.Progress"):
            endings = boot.run(made, self.folder / "out")
        return endings, results.collect(made, self.folder / "out")

    def verdicts(self, found):
        return {name: [record.verdict for record in found.of(variant=name)]
                for name in "abc"}

    def test_whole(self):
        endings, found = self.boots()
        self.assertTrue(endings[0].whole, endings)
        self.assertEqual(self.verdicts(found), {name: ["pass", "pass"]
                                                for name in "abc"})
        self.assertEqual(found.problems, {"one": []})

    def test_13_many_boots(self):
        """As many as there are."""
        endings, found = self.boots(times=12)
        self.assertEqual([ending.whole for ending in endings], [True] * 12)
        self.assertEqual(len(found.of(test=True)), 36)

    def test_10_one_panics(self):
        """The others are booted again, and judged."""
        endings, found = self.boots("b-panics")
        self.assertEqual([ending.whole for ending in endings], [False, True])
        self.assertIn("Kernel panic - not syncing: because", endings[0].why)
        self.assertEqual(self.verdicts(found)["a"], ["pass", "pass"])
        self.assertNotIn("pass", self.verdicts(found)["b"])
        self.assertEqual(self.verdicts(found)["c"], ["pass", "pass"])

    def test_10_two_end(self):
        endings, found = self.boots("a-hangs", "b-ends")
        self.assertEqual(len(endings), 3)
        self.assertIn("nothing heard of it for 3 s", endings[0].why)
        self.assertIn("ended without a verdict (status 3", endings[1].why)
        self.assertEqual(self.verdicts(found)["c"], ["pass", "pass"])

    def test_10_all_panic(self):
        endings, found = self.boots("a-panics", "b-panics", "c-panics")
        self.assertEqual(len(endings), 3)
        faults = [tables.Fault("s", name, dict.fromkeys(
            ("file", "function", "from", "to", "what"), "x") |
            {"caught by": "selftests"}) for name in "ab"]
        lines = judge.judge_faults(found, faults)
        self.assertFalse(lines[-1].ok)		# it has no patched that passes

    def test_a_silent_guest_is_booted_once_more(self):
        with mock.patch.object(boot, "SILENCE", 1):
            endings, found = self.boots("is-silent-once")
            self.assertEqual([ending.whole for ending in endings], [True])
            self.assertEqual(self.verdicts(found)["c"], ["pass", "pass"])
            endings, found = self.boots("is-silent")
        self.assertEqual([ending.why for ending in endings],
                         ["the guest said nothing in 1 s"])
        self.assertEqual(self.verdicts(found)["c"], ["missing", "missing"])

    def test_the_host_itself(self):
        """Where no variant was come to, booting it again is in vain."""
        endings, _ = self.boots("boot-panics")
        self.assertEqual(len(endings), 1)


    def test_a_host_that_is_a_guest(self):
        """What the host says that it is in counts, too."""
        endings, _ = self.boots(machine="nested")
        self.assertEqual([ending.why for ending in endings], [""])
        for misdeed, why in (("host-fails", "its own host: qemu: exit status 1"),
                             ("host-is-silent", "its own host: "),
                             ("host-panics", "the guest's kernel panicked")):
            endings, _ = self.boots(misdeed, machine="nested")
            self.assertFalse(endings[0].whole, misdeed)
            self.assertIn(why, endings[0].why)


class Nested(common.Case):
    def test_the_command_is_that_of_kvm(self):
        """Word by word, in the image of a host that loads KVM with nested=1."""
        made = plan.Plan("nested", "5.10", str(self.folder), "s", "v", False, "c",
                         "nested", "x", "i", variants=["patched"])
        one = plan.Boot("patched-1", "one", "nested", 1, ["patched"], {})
        made.boots = [one]
        for name in ("rig/init", "rig/vmx-probe", "variants/patched/kvm.ko",
                     "variants/patched/kvm-intel.ko"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).touch()
        guest = pack.Image(made, "one")
        guest.path.mkdir(parents=True)
        for name in ("bzImage", "initramfs.gz"):
            (guest.path / name).touch()
        (guest.path / "memory").write_text("1024\n")
        (guest.path / "cmdline").write_text("console=ttyS0 quiet\n")
        host = pack.Host(guest)
        with mock.patch.object(pack.Image, "qemu_itself"), \
                mock.patch.object(pack.Image, "finish"), \
                mock.patch.object(machines.shutil, "which", lambda name: name):
            host.make()
        said = (host.path / "command").read_text().split("\n")
        self.assertEqual(said[:5], ["qemu-system-x86_64", "-accel", "kvm", "-cpu",
                                    "host"])
        self.assertIn("console=ttyS0 quiet", said)
        self.assertEqual(said[said.index("-kernel") + 1], "/guest/bzImage")
        self.assertEqual(said[said.index("-serial") + 1], "file:console.log")
        self.assertIn("load /variants/patched/kvm-intel.ko nested=1",
                      (host.path / "plan.1").read_text())


class Ends(common.Test):
    def test_nothing_outlives_us(self):
        """Whatever ends the rig ends its emulators, even SIGKILL."""
        code = ("import subprocess, time; from riglib import children;"
                "p = subprocess.Popen(['sleep', '60'], start_new_session=True,"
                " preexec_fn=children.dies_with_us); print(p.pid, flush=True);"
                "time.sleep(60)")
        with common.Popen([sys.executable, "-B", "-c", code], text=True,
                          stdout=subprocess.PIPE,
                          env={**os.environ, "PYTHONPATH": "tools/rig"}) as rig:
            pid = int(rig.stdout.readline())
            rig.kill()
        for _ in range(100):
            if not Path(f"/proc/{pid}/stat").exists() or \
                    Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
            time.sleep(0.05)
        self.fail("it is still there")

    def test_what_nohup_ignores(self):
        """SIGTERM ends us, and SIGHUP does not."""
        code = ("import os, signal; from riglib import children;"
                "signal.signal(signal.SIGHUP, signal.SIG_IGN); children.heed_signals();"
                "os.kill(os.getpid(), signal.SIGHUP); print('here', flush=True);"
                "os.kill(os.getpid(), signal.SIGTERM); print('there')")
        done = common.run([sys.executable, "-B", "-c", code], text=True, check=False,
                          capture_output=True,
                          env={**os.environ, "PYTHONPATH": "tools/rig"})
        self.assertEqual(done.stdout, "here\n")
        self.assertIn("KeyboardInterrupt", done.stderr)


if __name__ == "__main__":
    unittest.main()
