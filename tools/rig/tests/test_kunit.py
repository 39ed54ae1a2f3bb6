# SPDX-License-Identifier: GPL-2.0-only
"""That kunit.py and the rig agree: "make check" tries it with the kernel's own, and
here it is one that answers what it is told to."""

import json
import unittest

from common import Case
from riglib import kunit
from riglib.results import Record

GOOD = ["KTAP version 1", "1..1", "    KTAP version 1", "    # Subtest: s", "    1..2",
        "    ok 1 a", "        ok 1 parameter", "    ok 2 b # SKIP no reason",
        "ok 3 s"]
CASES = [("a", "PASS"), ("b", "SKIP")]


class Parser(Case):
    def compare(self, cases, log=GOOD, verdict="pass", status=0, says=""):
        parser = self.folder / kunit.PARSER
        parser.parent.mkdir(parents=True, exist_ok=True)
        group = {"sub_groups": [{"test_cases": [
            {"name": name, "status": one} for name, one in cases]}]}
        parser.write_text(
            "import sys\nfrom pathlib import Path\n"
            f"Path(sys.argv[2][len('--json='):]).write_text('''{json.dumps(group)}''')\n"
            f"print('''{says}''')\nsys.exit({status})\n")
        return list(kunit.compare(self.folder, Record(
            "k", "bochs", "b", "v", "t", True, verdict=verdict, log=log)))

    def test_they_agree(self):
        self.assertEqual(self.compare(CASES), [])
        self.assertEqual(self.compare([("a", "FAIL")], ["    not ok 1 a"], "fail", 1), [])

    def test_other_cases(self):
        self.assertEqual(self.compare([("a", "PASS")]), [
            "the rig reads PASS 1, SKIP 1, kunit.py PASS 1", "only the rig: b SKIP"])
        self.assertEqual(self.compare([("a", "FAIL"), ("b", "SKIP")])[0],
                         "the rig reads PASS 1, SKIP 1, kunit.py FAIL 1, SKIP 1")
        self.assertIn("kunit.py nothing", self.compare([])[0])

    def test_nothing_at_all_is_wrong(self):
        self.assertEqual(self.compare([], []), ["the rig reads no case at all"])

    def test_another_end(self):
        self.assertEqual(self.compare(CASES, status=1),
                         ["the rig says pass, kunit.py exits with 1"])
        self.assertEqual(self.compare(CASES, verdict="fail"),
                         ["the rig says fail, kunit.py exits with 0"])

    def test_an_error_that_it_only_says(self):
        said = "[12:00:00] [ERROR] Test: s: missing subtest result line!"
        self.assertEqual(self.compare(CASES, says=f"\033[1m{said}\033[0m"), [said])

    def test_what_it_is_fed(self):
        self.assertEqual(kunit.as_of_one(GOOD).splitlines(), [*GOOD[:-1], "ok 1 s"])
        for first in ("    KTAP version 1", "    # Subtest: s"):
            self.assertEqual(kunit.as_of_one([first, "not ok 2 - s"]).splitlines(),
                             ["TAP version 14", "1..1", first, "not ok 1 - s"])


class Sources(Case):
    def paths(self, name, series):
        folder = self.folder / name
        (folder / "src" / kunit.PARSER).mkdir(parents=True)
        (folder / "series").write_text(series + "\n")
        return [path.name for path, _ in kunit.sources(folder)]

    def test_whose_boot(self):
        self.assertEqual(self.paths("6.12", "v6.0-v6.16"), ["6.12", "6.1", "next"])
        self.assertEqual(self.paths("ksrc", "v5.10-v5.19"), ["5.10", "next"])
        self.assertEqual(self.paths("7.2", "v6.17-v7.2"), ["next"])

    def test_a_tree_without_it(self):
        (said,) = kunit.check(self.folder)
        self.assertRegex(said, "has no tools/testing/kunit/kunit.py$")


if __name__ == "__main__":
    unittest.main()
