# SPDX-License-Identifier: GPL-2.0-only
"""Of tools/rig/examples: that what is wrong with them is seen."""

import os
import shutil
import unittest

import common

EXAMPLES = common.HERE.parent / "examples"


class Files(common.Case):
    def said(self, name=None, old="", new=""):
        """What is said of a copy, where one file has something else."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(EXAMPLES, copy)
        if name:
            text = (copy / name).read_text()
            self.assertIn(old, text)
            (copy / name).write_text(text.replace(old, new))
        # Debian's: it is the one that has what it takes.
        done = common.run(["/usr/bin/python3", "-B", "-m", "riglib",
                           "check-examples", copy], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH="tools/rig"), check=False)
        self.assertEqual(done.returncode, 1 if done.stdout + done.stderr else 0)
        return done.stdout + done.stderr

    def test_they_are_right(self):
        self.assertEqual(self.said(), "")

    def test_the_workflow(self):
        for old, new, what in (
                ("make test-all", "make nonsense", "no make target of ours: make nonsense"),
                ("make setup", "make setup && rm -rf /", "no make target of ours"),
                ("make setup", "apt-get install make", "no make target of ours"),
                ("actions/checkout", "somebody/checkout", "nor one of actions/"),
                ('"5.10", "next"', "5.10, next", "BASE=5.1 is unknown"),
                ("make test BASE", "make check BASE", "it does not run make test"),
                ("jobs:", "jobs: [", "while parsing a flow sequence")):
            with self.subTest(new):
                self.assertIn(what, self.said("github-workflow.yml", old, new))


if __name__ == "__main__":
    unittest.main()
