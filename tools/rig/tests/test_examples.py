# SPDX-License-Identifier: GPL-2.0-only
"""Of tools/rig/examples: that what is wrong with them is seen, and what a lab runs is
what the table suite says."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from common import HERE
from riglib import tables
from riglib.plan import SuiteTable

EXAMPLES = HERE.parent / "examples"
SCRIPT = EXAMPLES / "lava-kselftest"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Files(Folder):
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
        done = subprocess.run(["/usr/bin/python3", "-B", "-m", "riglib",
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

    def test_the_job(self):
        for old, new, what in (
                ("visibility: public", "visibility: some", "visibility"),
                ("to: tftp", "to: nowhere", "unknown action type"),
                ("            KERNEL: next", "            KERNEL: 4.4", "KERNEL 4.4 is"),
                ("            KERNEL: next", "            TREE: x", "no parameter TREE"),
                ("  - test:", "  - boot:", "unknown action type"),
                ("lava-kvm.yaml\n", "gone.yaml\n", "gone.yaml: [Errno 2]")):
            with self.subTest(new):
                self.assertIn(what, self.said("lava-job.yaml", old, new))

    def test_the_definition(self):
        for old, new, what in (
                ("Definition 1.0", "Definition 2.0", "metadata"),
                ("  steps:", "  stages:", "required key not provided"),
                ("examples/lava-kselftest", "examples/gone", "examples/gone is not there"),
                ("  KERNEL: next", '  KERNEL: "4.4"', "KERNEL 4.4 is unknown")):
            with self.subTest(new):
                self.assertIn(what, self.said("lava-kvm.yaml", old, new))


class Kselftest(Folder):
    def test_it_reads_the_table_as_the_rig_does(self):
        names = sorted({row["name"] for row in tables.read("suite")
                        if row["name"] != "*" and "@" not in row["name"]} | {"any_test"})
        for kernel, row in tables.kernels().items():
            table = SuiteTable(type("Plan", (), {
                "kernel": kernel, "series": row["series"]}), "kvm")
            done = subprocess.run(["sh", SCRIPT, kernel, "-"], text=True, check=True,
                                  input="\n".join(names) + "\n", capture_output=True)
            expected = []
            for name in names:
                wanted = table.row(name)
                expected.append("\t".join((wanted["parameters"], wanted["expect"], name)))
            self.assertEqual(sorted(done.stdout.splitlines()), sorted(expected))

    def lab(self, kernel, tests, modprobe="exit 0"):
        """What a machine is told, of tests and what comes of them."""
        self.log = self.folder / "log"
        lines = "".join(f"{name}) echo '{line}' ;;\n" for name, line in tests.items())
        for name, text in (
                ("run_kselftest.sh", "case $2 in\n" + "".join(
                    f"kvm:{line}" for line in lines.splitlines(True)) +
                    f"*) printf '%s\\n' net:other {' '.join(f'kvm:{t}' for t in tests)}"
                    f";;\nesac"),
                ("modprobe", f'echo "modprobe $*" >>{self.log}; {modprobe}'),
                ("lava-test-case", f'echo "$*" >>{self.log}')):
            (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.folder / name).chmod(0o755)
        done = subprocess.run(["sh", SCRIPT, kernel, self.folder], text=True, check=False,
                              capture_output=True, env=dict(
                                  os.environ, PATH=f"{self.folder}:{os.environ['PATH']}"))
        return done, self.log.read_text().splitlines() if self.log.exists() else []

    def test_what_it_says_to_the_lab(self):
        done, said = self.lab("5.10", {
            "msr_filter_test": "ok 1 selftests: kvm: msr_filter_test",
            "msr_filter_l2_test": "not ok 1 selftests: kvm: msr_filter_l2_test # exit=1",
            "msrs_test": "ok 1 selftests: kvm: msrs_test # SKIP",
            "silent_test": "nothing",
            "state_test": "not ok 1 selftests: kvm: state_test # exit=254",
            "mmio_warning_test": "ok 1 selftests: kvm: mmio_warning_test"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(said, [
            # Known to fail on 5.10: it is not run.
            "state_test --result skip",
            "modprobe -r kvm_intel kvm", "modprobe kvm", "modprobe kvm_intel",
            "msr_filter_l2_test --result fail", "msr_filter_test --result pass",
            "msrs_test --result skip", "silent_test --result fail",
            "modprobe -r kvm_intel kvm", "modprobe kvm",
            "modprobe kvm_intel unrestricted_guest=0",
            "mmio_warning_test --result pass"])

    def test_a_kvm_that_does_not_load(self):
        done, said = self.lab("next", {"msrs_test": "ok 1 selftests: kvm: msrs_test"},
                              "exit 1")
        self.assertEqual((done.returncode, said), (
            0, ["modprobe -r kvm_intel kvm", "msrs_test --result fail"]))

    def test_nothing_to_run(self):
        done, said = self.lab("next", {})
        self.assertEqual((done.returncode, said), (1, []))
        self.assertRegex(done.stderr, "^lava-kselftest: .* has no selftest of KVM's\n$")
        done = subprocess.run(["sh", SCRIPT, "next", "/nowhere"], text=True, check=False,
                              capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(re.fullmatch(".*/nowhere/run_kselftest.sh is not there\n",
                                     done.stderr))


if __name__ == "__main__":
    unittest.main()
