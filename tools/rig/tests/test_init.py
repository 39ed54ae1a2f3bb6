# SPDX-License-Identifier: GPL-2.0-only
"""Tests of guest/init.c, which init_test.c has in it and calls."""
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]


class Init(unittest.TestCase):
    def test_init(self):
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "init_test")
            source = os.path.join(HERE, "init_test.c")
            for command in (["gcc", *FLAGS, "-o", program, source], [program]):
                done = subprocess.run(command, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, check=False)
                if done.returncode:
                    self.fail("%s: status %d\n%s" % (
                        command[0], done.returncode,
                        done.stdout.decode(errors="replace")))


if __name__ == "__main__":
    unittest.main()
