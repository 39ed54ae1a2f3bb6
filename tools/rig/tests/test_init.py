# SPDX-License-Identifier: GPL-2.0-only
"""Tests of guest/init.c, which init_test.c has in it and calls; and of init as it is on
a host that runs, where it may only touch what is its own."""
import os
import signal
import subprocess
import tempfile
import time
import unittest

import common

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]


def readable(path):
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Built(common.Test):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), 0o755)
        return self.path(name)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def succeeds(self, *command):
        done = common.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            self.fail("%s: status %d\n%s" % (
                command[0], done.returncode, done.stdout.decode(errors="replace")))


class Init(Built):
    def test_init(self):
        program = self.path("init_test")
        self.succeeds("gcc", *FLAGS, "-o", program, os.path.join(HERE, "init_test.c"))
        self.succeeds(program)


@unittest.skipUnless(readable("/dev/kmsg"), "the kernel's log is not for this user")
class OnAHost(Built):
    def setUp(self):
        super().setUp()
        self.init = self.path("init")
        self.succeeds("gcc", *FLAGS, "-o", self.init,
                      os.path.join(HERE, "../guest/init.c"))
        # A test that leaves two behind, one of them a group and a session of its own.
        self.leaves = self.write("leaves", "#!/bin/sh\nsleep 60 &\necho $! >%s\n"
                                 "setsid sh -c 'sleep 61 & echo $! >%s; wait' &\n"
                                 "until [ -s %s ]; do sleep 0.05; done\n%s\n" % (
                                     self.path("one"), self.path("two"),
                                     self.path("two"), "exec ${1-true} $2"))

    def start(self, plan):
        return common.Popen(
            [self.init, self.write("plan", plan), self.path("results")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def left(self):
        return [lives(int(self.read(name))) for name in ("one", "two")]

    def test_all_of_a_plan(self):
        with common.Popen(["sleep", "60"]) as stranger:
            with self.start("group g\ntest a 9 %s\ntest b 9 /bin/false\n"
                            "test c 1 %s sleep 60\n" % (self.leaves, self.leaves)) as it:
                it.communicate()
            self.assertEqual(it.returncode, 0)
            said = self.read("results")
            for line in ("    ok 1 a\n", "    not ok 2 b\n", "    # rig: why: still ran "
                         "after 1 s\n    not ok 3 c\n",
                         "# rig: totals: pass 2 fail 2 skip 0\n"):
                self.assertIn(line, said)
            self.assertNotIn("# rig: lost", said)
            self.assertEqual(self.left(), [False, False])
            self.assertTrue(lives(stranger.pid), "it has killed what is not its own")
            stranger.kill()

    def test_told_to_end(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for name in ("one", "two"):
                self.write(name, "")
            with self.start("group g\ntest a 60 %s sleep 60\n"
                            "test b 9 /bin/true\n" % self.leaves) as it:
                while not self.read("two"):
                    self.assertIsNone(it.poll())
                    time.sleep(0.05)
                it.send_signal(number)
                it.communicate(timeout=30)
            self.assertEqual(it.returncode, 1)
            said = self.read("results")
            self.assertRegex(said, "\nBail out! a: it was told to end: .*\n$")
            self.assertNotIn("rig: running: b", said)
            self.assertEqual(self.left(), [False, False])

    def test_arguments(self):
        for wrong in ((), ("plan",), ("a", "b", "c")):
            done = common.run([self.init, *wrong], capture_output=True, text=True,
                              check=False)
            self.assertEqual((done.returncode, done.stderr),
                             (2, "usage: init PLAN RESULTS, or as PID 1\n"))
        done = common.run([self.init, "/none", self.path("results")],
                          capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Bail out! /none: No such file or directory", done.stdout)


if __name__ == "__main__":
    unittest.main()
