# SPDX-License-Identifier: GPL-2.0-only
"""The table of trees, and what steps/source tells of a tree by its code."""

import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import common
from riglib import holes, releases, results, tables
from riglib.errors import Wrong

TOP = common.HERE.parents[2]
PATCH = """\
diff --git a/f.c b/f.c
index 000000000000..111111111111 100644
--- a/f.c
+++ b/f.c
@@ -1,3 +1,3 @@ int f(void)
 {
-	return 0;
+	return %s;
 }
diff --git a/new.c b/new.c
new file mode 100644
--- /dev/null
+++ b/new.c
@@ -0,0 +1 @@
+int g;

base-version: v1
-- 
kvm-msr-filter
"""


class Places(common.Test):
    """Where the hunks of a patch fit."""

    def say(self, text):
        top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, top)
        (top / "f.c").write_text(text)
        (top / "p.patch").write_text(PATCH % "1")
        return list(releases.places(top / "p.patch", top))

    def test_one(self):
        self.assertEqual(self.say("{\n\treturn 0;\n}\n{\n\treturn 1;\n}\n"), [])

    def test_two(self):
        self.assertEqual(
            self.say("{\n\treturn 0;\n}\n" * 2),
            ["f.c:1: the lines around this hunk are at 2 places: have more of them"])


class Folder(common.Test):
    """In a folder of its own, with a topic of one patch."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.top)
        self.series = Path("patches/stable/a")
        self.series.mkdir(parents=True)
        self.topics({"name": "a"})
        self.patch("1")
        self.build = Path("build/ksrc")
        for name, text in (("src/Makefile", "VERSION = 7\nPATCHLEVEL = 0\n"
                                            "SUBLEVEL = 3\nEXTRAVERSION =\n"),
                           ("src/.rig-version", "7.0.3 from /home/me/linux abc\n"),
                           ("src/.rig-patches", "0001-KVM-x.patch stable/a/5.10.patch\n"),
                           ("series", "v6.18-v7.1\n"), ("applied", "")):
            path = self.build / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        releases.PATH.write_text("# heading\n")
        os.environ["KSRC"] = "/home/me/linux"
        self.addCleanup(os.environ.pop, "KSRC")
        self.load = self.instead_of(results, "load")
        self.letters = self.instead_of(holes, "letters")

    def instead_of(self, module, name):
        patched = mock.patch.object(module, name, return_value={})
        self.addCleanup(patched.stop)
        return patched.start()

    def topics(self, *these):
        Path("patches/stable/series.json").write_text(json.dumps({
            "code": {"x": {"file": "f.c", "text": "x"}}, "kernels": [], "topics": [
                {"what": "", "kind": "fix", "variants": {"5.10": []}, **one}
                for one in these]}))

    def patch(self, value, context="{"):
        (self.series / "5.10.patch").write_text(
            (PATCH % value).replace(" {\n", f" {context}\n"))

    def tap(self, text):
        path = self.build / "check/check.tap"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def ran(self, what, seen):
        """A run, with what it saw of holes."""
        path = self.build / "report" / what / "judgement.tap"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1..1\nok 1 - a\n")
        self.letters.return_value = seen

    def row(self):
        releases.record("ksrc")
        return releases.read()[-1]


class Rows(Folder):
    def test_a_row_of_a_users_tree(self):
        self.tap("1..2\nok 1 - a\nnot ok 2 - b\n")
        row = self.row()
        self.assertEqual((row.release, row.tree, row.am, row.check, row.run, row.by),
                         ("7.0.3", "linux", "1", "1/2", "-", "KSRC="))

    def test_the_row_says_that_the_kernel_wants_options_of_its_own(self):
        os.environ["KEXTRA"] = "options"
        self.addCleanup(os.environ.pop, "KEXTRA")
        self.assertEqual(self.row().by, "KSRC= KEXTRA=")
        self.assertEqual(self.row().by, "KSRC= KEXTRA=")
        self.assertEqual(len(releases.read()), 1)

    def test_tree_says_whose_it_is(self):
        os.environ["TREE"] = "me/linux"
        self.addCleanup(os.environ.pop, "TREE")
        self.assertEqual(self.row().tree, "me/linux")

    def test_the_same_tree_again_takes_the_place_of_its_row(self):
        self.row()
        self.row()
        self.assertEqual(len(releases.read()), 1)

    def test_what_was_not_tried_again_is_kept_for_the_same_lines(self):
        self.tap("1..1\nok 1 - a\n")
        self.row()
        (self.build / "check/check.tap").unlink()
        self.assertEqual(self.row().check, "1/1")

    def test_what_was_found_by_other_lines_is_marked(self):
        self.tap("1..1\nok 1 - a\n")
        self.row()
        (self.build / "check/check.tap").unlink()
        for context in ("other", "another"):
            self.patch("1", context)
            row = self.row()
            self.assertEqual((row.check, row.run, row.holes), ("(1/1)", "-", "-"))

    def test_holes_are_those_of_the_run(self):
        self.assertEqual(self.row().holes, "-")
        self.ran("tests", {"a": "", "c": "c", "e": "e!"})
        row = self.row()
        self.assertEqual((row.run, row.holes), ("1/1", "ce!"))
        self.ran("tests", {"a": "", "c": ""})
        self.assertEqual(self.row().holes, "e!")
        self.ran("tests", {"a": "", "c": "", "e": ""})
        self.assertEqual(self.row().holes, "none")

    def test_holes_that_were_not_looked_at_again_are_kept(self):
        self.ran("tests", {"a": "a", "c": "c!"})
        self.row()
        self.ran("suite", {"c": "c", "d": "d"})
        self.assertEqual(self.row().holes, "acd")
        # Nothing at all was looked at.
        shutil.rmtree(self.build / "report")
        self.ran("tests", {})
        self.assertEqual(self.row().holes, "acd")

    def test_holes_that_were_seen_by_other_lines_are_marked(self):
        self.ran("tests", {"a": "a", "d": "d"})
        self.row()
        self.patch("1", "other")
        shutil.rmtree(self.build / "report")
        self.letters.return_value = {}
        for _ in range(2):
            row = self.row()
            self.assertEqual((row.run, row.holes), ("(1/1)", "(ad)"))
        # What is seen now takes their place, be it only of some.
        self.ran("tests", {"a": "a"})
        self.assertEqual(self.row().holes, "a")

    def test_results_of_before_the_series_was_put_on_say_nothing_of_holes(self):
        self.ran("tests", {})
        self.row()
        self.assertEqual(self.load.call_count, 1)
        old = (self.build / "applied").stat().st_mtime - 10
        os.utime(self.build / "report/tests/judgement.tap", (old, old))
        self.row()
        self.assertEqual(self.load.call_count, 1)
        self.assertEqual(self.letters.call_args[0], (None, None, None))

    def test_a_tree_takes_the_place_of_none(self):
        releases.PATH.write_text("# heading\n7.0\tnone\t-\tv6.18-v7.1\t-\t-\t-\t-\t-\t-\n"
                                 "7.1\tnone\t-\tv6.18-v7.1\t-\t-\t-\t-\t-\t-\n")
        self.row()
        self.assertEqual([row.release for row in releases.read()], ["7.0.3", "7.1"])

    def test_a_check_that_was_cut_short_counts_nothing(self):
        for text in ("", "1..2\nok 1 - a\n", "ok 1 - a\n"):
            self.tap(text)
            self.assertEqual(self.row().check, "-")

    def test_a_check_of_before_the_series_was_put_on_counts_nothing(self):
        self.tap("1..1\nok 1 - a\n")
        old = (self.build / "applied").stat().st_mtime - 10
        os.utime(self.build / "check/check.tap", (old, old))
        self.assertEqual(self.row().check, "-")

    def test_nothing_without_the_series(self):
        (self.build / "applied").unlink()
        self.assertRaises(Wrong, releases.record, "ksrc")

    def test_nothing_of_another_tree(self):
        os.environ["KSRC"] = "/home/me/other"
        self.assertRaises(Wrong, releases.record, "ksrc")

    def test_nothing_of_a_tree_that_has_come_since(self):
        new = (self.build / "applied").stat().st_mtime + 10
        os.utime(self.build / "src/.rig-version", (new, new))
        self.assertRaises(Wrong, releases.record, "ksrc")

    def test_nothing_where_there_is_no_source(self):
        shutil.rmtree(self.build / "src")
        self.assertRaises(Wrong, releases.record, "ksrc")

    def test_a_row_that_is_too_short(self):
        releases.PATH.write_text("7.0\tnone\n")
        self.assertRaises(Wrong, releases.read)


class Holds(Folder):
    def wrong(self):
        return list(releases.check("v6.18-v7.1"))

    def test_a_release_without_a_row_is_named(self):
        self.row()
        self.assertEqual([line.split(":")[0] for line in self.wrong()],
                         ["6.18", "6.19", "7.1"])

    def test_other_new_lines_change_nothing(self):
        self.row()
        self.patch("2")
        self.assertEqual(len(self.wrong()), 3)

    def test_other_lines_around_do(self):
        self.row()
        self.patch("1", "other")
        self.assertIn("the patches want other lines", "".join(self.wrong()))

    def test_a_patch_that_is_gone_does(self):
        self.row()
        (self.series / "5.10.patch").unlink()
        self.assertRaises(Wrong, self.wrong)

    def test_a_patch_that_has_come_since_does(self):
        self.row()
        self.topics({"name": "a"}, {"name": "b"})
        self.assertIn("7.0.3, linux: not tried with patch 2, which is for all: make tree",
                      "".join(self.wrong()))

    def test_unless_it_is_not_for_all(self):
        self.row()
        self.topics({"name": "a"}, {"name": "b", "has": [{"if": ["x"], "why": "x"}]})
        self.assertNotIn("which is for all", "".join(self.wrong()))

    def test_the_newest_folder_has_no_last_release(self):
        self.assertEqual(releases.releases_of("next"), [])

    def test_all_folders_together_leave_out_no_release(self):
        os.chdir(TOP)
        found = sorted(one for folder in tables.folders()
                       for one in releases.releases_of(folder))
        self.assertEqual(found, releases.releases_of("v5.10-v7.2"))

    def test_numbers(self):
        for text in ("", "1", "1-3", "1,3-5,9"):
            self.assertEqual(releases.ranges(releases.numbers(text)), text)


class ByItsCode(common.Test):
    """What steps/source says of trees that have no more than what it looks at."""

    def setUp(self):
        # A copy of the script, as it writes into build/ of the repository it is in.
        self.top = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.top)
        steps = self.top / "tools/rig/steps"
        steps.mkdir(parents=True)
        for name in ("lib.sh", "source"):
            shutil.copy(TOP / "tools/rig/steps" / name, steps)
        for name in ("tools/rig/tables", "tools/rig/riglib", "patches"):
            (self.top / name).symlink_to(TOP / name)
        self.tree = self.top / "linux"
        self.file("MAINTAINERS")
        self.file("Kbuild")
        self.file("arch/x86/kvm/vmx/nested.h")
        self.file("arch/x86/kvm/vmx/vmx.h")
        self.file("arch/x86/kvm/vmx/vmx.c",
                  "static void vmx_recalc_msr_intercepts(struct kvm_vcpu *vcpu)\n")

    def file(self, name, text=""):
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def source(self, *args, path=None):
        return common.run([self.top / "tools/rig/steps/source", *args], text=True,
                          capture_output=True, check=False,
                          env={**os.environ, **({"PATH": path} if path else {})})

    def says(self, *args):
        return self.source(*args).stdout.split()

    def test_the_folder(self):
        self.assertEqual(self.says("range", self.tree), ["v6.17-v7.2"])
        self.file("arch/x86/kvm/msrs.c")
        self.assertEqual(self.says("range", self.tree), ["next"])
        self.file("arch/x86/kvm/vmx/vmx.h", "} shadow_msr_intercept;\n")
        self.assertEqual(self.says("range", self.tree), ["v5.10-v5.19"])

    def test_whose_selftests(self):
        uapi = "include/uapi/linux/kvm.h"
        self.file(uapi, "#define KVM_SET_USER_MEMORY_REGION 1\n")
        self.assertEqual(self.says("lender", self.tree), ["6.1"])
        self.file(uapi, "#define KVM_SET_USER_MEMORY_REGION2 1\n")
        self.assertEqual(self.says("lender", self.tree), ["next"])
        self.file("tools/testing/selftests/kvm/x86_64/msr_filter_test.c")
        self.assertEqual(self.says("lender", self.tree), ["own"])


if __name__ == "__main__":
    unittest.main()
