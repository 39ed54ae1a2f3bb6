# SPDX-License-Identifier: GPL-2.0-only
"""Series of patches, the files that patches carry, and the overlay."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from common import Test
from riglib import generated, overlay, series
from riglib.errors import Wrong

HEADER = """From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A <a@localhost>
Date: Tue, 1 Dec 2026 00:00:00 +0000
Subject: [PATCH 1/2] KVM: x86: %s

Do it.

Signed-off-by: A <a@localhost>
---
 f | 1 +
 1 file changed, 1 insertion(+)

"""
TRAILER = """
base-version: 1
-- 
kvm-msr-filter

"""


class Case(Test):
    """In a folder of its own."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.top)

    def file(self, path, text=""):
        path = self.top / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def patch(self, path, subject="Do it", *sections):
        return self.file(f"patches/next/{path}",
                         HEADER % subject + "".join(sections) + TRAILER)


class Series(Case):
    def setUp(self):
        super().setUp()
        self.patch("01-a/0001-KVM-x86-Do-it.patch")
        self.patch("01-a/0002-KVM-x86-Test-it.patch", "Test it")
        self.cover = self.file("patches/next/01-a/0000-cover-letter.patch",
                               "KVM: x86: Do it\nKVM: x86: Test it\n")
        self.patch("02-b/0001-KVM-x86-Do-more.patch")
        self.patch("03-c/0001-KVM-x86-Do-most.patch")
        self.names = ["01-a", "02-b", "03-c"]
        self.needs({"02-b": ["01-a"], "03-c": ["02-b"]})
        self.flat = self.file("patches/next/series", "".join(
            f"{path.relative_to('patches/next')}\n" for path in series.patches("next")))

    def needs(self, needs):
        self.file("patches/next/series.json", json.dumps(
            [{"name": name, "what": "w", "needs": needs.get(name, [])}
             for name in self.names]))

    def test_what_a_series_needs_is_all_of_it(self):
        last = series.named("next", "03-c")
        self.assertEqual([one.name for one in series.closure(last)], ["01-a", "02-b"])
        self.assertEqual(series.closure(series.named("next", "01-a")), [])

    def test_all_is_well(self):
        self.assertEqual(list(series.lint("next")), [])

    def test_needs_what_comes_later(self):
        self.needs({"01-a": ["02-b"]})
        with self.assertRaisesRegex(Wrong, "01-a needs 02-b, which is not before it"):
            series.read("next")

    def test_a_table_that_is_none(self):
        self.file("patches/next/series.json", '[{"what": "x"}]')
        with self.assertRaisesRegex(Wrong, "series.json: .*name"):
            series.read("next")

    def test_an_unknown_series(self):
        with self.assertRaisesRegex(Wrong, "has no series 04-d"):
            series.named("next", "04-d")

    def test_a_patch_that_is_not_listed(self):
        self.patch("03-c/0002-KVM-x86-Do-nothing.patch")
        self.assertIn("does not list the folder's patches in order",
                      "".join(series.lint("next")))

    def test_too_many_patches(self):
        for number in range(3, 10):
            self.patch(f"01-a/000{number}-KVM-x86-Do-it.patch")
        self.assertIn("9 patches, 8 are the most", "".join(series.lint("next")))

    def test_a_cover_letter_that_lacks_a_patch(self):
        self.cover.write_text("KVM: x86: Do it\n")
        self.assertIn('does not name "KVM: x86: Test it"', "".join(series.lint("next")))
        self.cover.unlink()
        self.assertIn("there is no cover letter", "".join(series.lint("next")))

    def test_a_folder_without_patches(self):
        shutil.rmtree("patches/next/02-b")
        self.assertIn("02-b: there are no patches", "".join(series.lint("next")))


class Generated(Case):
    """A file here that one patch adds and another one changes."""

    def setUp(self):
        super().setUp()
        self.content = "".join(f"{number}\n" for number in range(20))
        self.now = self.content.replace("15\n", "15\nx\n")
        self.here = self.file("f.c", self.now)
        self.names = [
            self.patch("0001-KVM-a.patch", "a", generated.new_section("f.c", self.content)),
            self.patch("0002-KVM-b.patch", "b",
                       generated.change("f.c", self.content, self.now))]

    def applied(self):
        """The file that the patches make."""
        tree = Path(tempfile.mkdtemp(dir=self.top))
        for patch in self.names:
            subprocess.run(["git", "apply", patch.resolve()], cwd=tree, check=True)
        return (tree / "f.c").read_text()

    def test_fresh(self):
        self.assertEqual(list(generated.check()), [])
        self.assertEqual(self.applied(), self.now)

    def test_stale(self):
        self.here.write_text(self.now.replace("2\n", "two\n", 1))
        # The second one by its line "index".
        self.assertEqual(list(generated.check()),
                         [f'patches/next/{name} is stale: run "make patches"'
                          for name in ("0001-KVM-a.patch", "0002-KVM-b.patch")])
        with mock.patch("builtins.print"):
            generated.refresh()
        self.assertEqual(list(generated.check()), [])
        self.assertEqual(self.applied(), self.here.read_text())

    def test_a_change_of_lines_that_a_later_patch_adds(self):
        self.here.write_text(self.now.replace("x\n", "y\n"))
        self.assertRaisesRegex(Wrong, "change the patch by hand",
                               lambda: list(generated.check()))

    def test_no_patch(self):
        self.file("patches/next/0003-KVM-c.patch", "hello\n")
        self.assertRaisesRegex(Wrong, "0003-KVM-c.patch is not a patch",
                               lambda: list(generated.check()))


class Overlay(Case):
    """A tree with as much of KVM as the overlay touches."""

    TABLE = ({"kernels": "*", "file": "arch/x86/kvm/vmx/h.h"},
             {"kernels": "next,v6.0-v6.16", "file": "arch/x86/kvm/vmx/a_kunit.c"},
             {"kernels": "v6.0-v6.16", "file": "tools/rig/compat/msr_filter_compat.h"},
             {"kernels": "next,v6.0-v6.16",
              "file": "tools/testing/selftests/kvm/x86/a_test.c"},
             {"kernels": "next,v6.0-v6.16",
              "file": "tools/testing/selftests/kvm/lib/x86/l.c"})

    def setUp(self):
        super().setUp()
        patched = mock.patch.object(overlay.tables, "read", return_value=self.TABLE)
        patched.start()
        self.addCleanup(patched.stop)
        for row in self.TABLE:
            self.file(row["file"], '#include "x.h"\n\nint x;\n')
        self.file("tree/arch/x86/kvm/x86.c", "\n")
        self.file("tree/arch/x86/kvm/Makefile", "obj-m += kvm.o\n")
        self.vmx = self.file("tree/arch/x86/kvm/vmx/vmx.c", "int y;\n")
        self.makefile = self.file(
            "tree/tools/testing/selftests/kvm/Makefile.kvm",
            "LIBKVM_x86 += lib/x86/a.c\n"
            "TEST_GEN_PROGS_x86 += x86/b_test\nTEST_GEN_PROGS_s390 += s\n")

    def test_the_newest_kernel(self):
        changed = list(overlay.add("tree", "next"))
        for path in changed:
            self.assertTrue((self.top / "tree" / path).exists(), path)
        self.assertTrue(self.vmx.read_text().endswith('#include "msr_kunit_hooks.c"\n'))
        self.assertIn("kvm-intel-kunit-y := vmx/a_kunit.o",
                      (self.top / "tree/arch/x86/kvm/Makefile").read_text())
        self.assertEqual(self.makefile.read_text(),
                         "LIBKVM_x86 += lib/x86/a.c\nLIBKVM_x86 += lib/x86/l.c\n"
                         "TEST_GEN_PROGS_x86 += x86/b_test\n"
                         "TEST_GEN_PROGS_x86 += x86/a_test\n"
                         "TEST_GEN_PROGS_s390 += s\n")

    def test_what_the_series_has_added_stays(self):
        path = self.file("tree/tools/testing/selftests/kvm/x86/a_test.c", "mine\n")
        list(overlay.add("tree", "next"))
        self.assertEqual(path.read_text(), "mine\n")
        self.assertNotIn("a_test", self.makefile.read_text())

    def test_an_older_kernel(self):
        self.makefile.rename(self.makefile.with_name("Makefile"))
        makefile = self.makefile.with_name("Makefile")
        makefile.write_text(makefile.read_text().replace("x86", "x86_64"))
        list(overlay.add("tree", "v6.0-v6.16"))
        path = self.top / "tree/tools/testing/selftests/kvm/x86_64/a_test.c"
        self.assertIn('#include "x.h"\n#include "msr_filter_compat.h"\n',
                      path.read_text())
        self.assertIn("TEST_GEN_PROGS_x86_64 += x86_64/a_test\n", makefile.read_text())

    def test_a_tree_without_selftests_gets_the_rest(self):
        self.makefile.unlink()
        self.assertNotIn("tools", "".join(overlay.add("tree", "next")))

    def test_it_is_in_other_files_hard_links(self):
        """The tree may have them, and what they link to stays as it is."""
        other = self.top / "other"
        os.link(self.vmx, other)
        list(overlay.add("tree", "next"))
        self.assertEqual(other.read_text(), "int y;\n")

    def test_no_kernel(self):
        self.vmx.unlink()
        self.assertRaisesRegex(Wrong, "vmx.c is not there",
                               lambda: list(overlay.add("tree", "next")))

    def test_types_that_only_msrs_c_has(self):
        self.file("tree/arch/x86/kvm/msrs.c",
                  "struct msr_bitmap_range {\n\tu32 base;\n};\n\nstruct other {\n"
                  "\tint x;\n};\n\nstruct kvm_x86_msr_filter {\n\tu8 count;\n};\n")
        self.assertIn("arch/x86/kvm/vmx/msr_kunit_filter.h",
                      list(overlay.add("tree", "next")))
        text = (self.top / "tree/arch/x86/kvm/vmx/msr_kunit_filter.h").read_text()
        self.assertIn("u32 base;", text)
        self.assertIn("u8 count;", text)
        self.assertNotIn("other", text)


if __name__ == "__main__":
    unittest.main()
