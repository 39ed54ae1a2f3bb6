# SPDX-License-Identifier: GPL-2.0-only
"""riglib.series: topics on small trees of ours, each made for something that a vendor's
tree did."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import common
from riglib.series import hunks

TOP = common.HERE.parents[2]
VMX = "arch/x86/kvm/vmx/vmx.c"
SVM = "arch/x86/kvm/svm/nested.c"

TREE = {
    "MAINTAINERS": "", "Kbuild": "",
    "Makefile": "VERSION = 5\nPATCHLEVEL = 14\nSUBLEVEL = 0\nEXTRAVERSION =\n",
    "arch/x86/kvm/vmx/vmx.h": "\t} shadow_msr_intercept;\n",
    VMX: """\
        static void vmx_first(struct kvm_vcpu *vcpu)
        {
        \tint i;

        \tfor (i = 0; i < 3; i++)
        \t\tlook(vcpu, i);
        \tdone(vcpu);
        }

        void vmx_msr_filter_changed(struct kvm_vcpu *vcpu)
        {
        \tu32 i;

        \tfor (i = 0; i < 8; i++) {
        \t\tu32 msr = msrs[i];

        \t\tif (!test_bit(i, reads))
        \t\t\tupdate(vcpu, msr);
        \t}
        \tlast(vcpu);
        }
        """,
    SVM: """\
        static bool nested_svm_vmrun_msrpm(struct vcpu_svm *svm)
        {
        \tint i;

        \tif (!(vmcb12_is_intercept(svm)))
        \t\treturn true;
        \treturn false;
        }
        """,
}

# Where, what is there, what it becomes
CHANGES = {
    "loop": (VMX, "\t\t\tupdate(vcpu, msr);\n", "\t\t\trefresh(vcpu, msr);\n"),
    "last": (VMX, "\tlast(vcpu);\n", "\tlast(vcpu, true);\n"),
    "svm": (SVM, "\t\treturn true;\n", "\t\treturn check(svm);\n"),
    "svm-2": (SVM, "\treturn false;\n", "\treturn !check(svm);\n"),
    "quick": (VMX, "\tu32 i;\n", "\tu32 i;\n\tint quick;\n"),
}
TOPICS = [
    {"name": "loop", "kind": "mission", "upstream": "d895f28ed6da96d7b922bd79977e2b732b103a99",
     "has": [{"if": ["refreshes"], "why": "since 6.0"}]},
    {"name": "last", "kind": "fix"},
    {"name": "svm", "kind": "fix"},
    {"name": "svm-2", "kind": "fix", "needs": ["svm"]},
    {"name": "quick", "kind": "speed", "needs": ["last"],
     "not for": [{"if": ["slow"], "why": "it is slow"}]},
]


def text_of(name):
    return textwrap.dedent(TREE[name])


def git(tree, *args):
    return subprocess.run(["git", "-C", tree, "-c", "user.name=A Person", "-c",
                           "user.email=a@person.example", *args], check=True, text=True,
                          capture_output=True).stdout


class Topics(common.Test):
    """A copy of the tool with topics of its own, and a tree."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        stable = self.top / "patches/stable"
        self.made, self.tree = self.top / "made", self.top / "linux"
        self.plant()
        git(self.tree, "init", "-q", "-b", "main")
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-q", "-m", "base")
        for name, (file, old, new) in CHANGES.items():
            text = (self.tree / file).read_text()
            assert text.count(old) == 1, name
            (self.tree / file).write_text(text.replace(old, new))
            git(self.tree, "commit", "-q", "-a", "-m",
                f"KVM: x86: Do {name}\n\nText.\n\n" +
                ("Fixes: 1a155254ff93 (\"x\")\n" if name in ("last", "svm", "svm-2") else "")
                + "Signed-off-by: A Person <a@person.example>")
            (stable / name).mkdir(parents=True)
            (stable / name / "5.10.patch").write_text(
                git(self.tree, "format-patch", "-1", "--stdout"))
        git(self.tree, "reset", "-q", "--hard", "HEAD~5")
        (stable / "series.json").write_text(json.dumps({
            "code": {"refreshes": {"file": VMX, "text": "refresh(vcpu, msr)",
                                   "function": "vmx_msr_filter_changed"},
                     "slow": {"file": VMX, "text": "slow()"}},
            "kernels": [{"kernel": "6.0", "if": ["refreshes"], "has": "has d895f28ed6da"},
                        {"kernel": "5.10", "if": [], "has": "has a filter"}],
            "topics": [{"what": f"does {one['name']}", "variants": {"5.10": []}, **one}
                       for one in TOPICS]}))
        self.env = {**os.environ, "PYTHONPATH": str(TOP / "tools/rig"),
                    "GIT_CONFIG_GLOBAL": str(self.top / "gitconfig"),
                    "GIT_CONFIG_NOSYSTEM": "1"}
        for name in ("TOPICS", "SKIP", "STABLE"):
            self.env.pop(name, None)
        (self.top / "gitconfig").write_text(
            "[user]\n\tname = Me\n\temail = me@here.org\n")

    def plant(self, **other):
        for name in TREE:
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(name))

    def change(self, file, old, new, count=1):
        """The tree is a vendor's."""
        path = self.tree / file
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, count))
        git(self.tree, "commit", "-q", "-a", "-m", "vendor")

    def run_it(self, *args, **env):
        done = common.run([sys.executable, "-B", "-m", "riglib.series", *map(str, args)],
                          cwd=self.top, env={**self.env, **env}, text=True,
                          capture_output=True, check=False)
        self.out, self.err = done.stdout, done.stderr
        self.assertNotIn("Traceback", self.err)
        return done.returncode

    def apply(self, status=0, **env):
        self.assertEqual(self.run_it("apply", self.tree, **env), status,
                         self.out + self.err)
        return self.subjects()

    def subjects(self):
        return [line.removeprefix("KVM: x86: Do ") for line in git(
            self.tree, "log", "--reverse", "--format=%s").splitlines()
            if line.startswith("KVM: ")]

    def unchanged(self, why):
        """It was refused, in a line, and the tree is as it was."""
        self.assertIn(why, self.err)
        self.assertEqual(git(self.tree, "branch", "--format=%(refname:short)"), "main\n")
        self.assertEqual(git(self.tree, "symbolic-ref", "--short", "HEAD"), "main\n")
        self.assertEqual(self.subjects(), [])


class Apply(Topics):
    def test_all(self):
        self.assertEqual(self.apply(), list(CHANGES))
        self.assertEqual(self.out.splitlines()[0],
                         "5.14.0, by its code like 5.10 (has a filter): 5 topics")
        self.assertEqual(git(self.tree, "log", "-1", "--format=%cn"), "Me\n")
        self.assertNotIn("-C", self.out)

    def test_a_tree_that_has_a_topic_already(self):
        self.change(VMX, "update(vcpu, msr)", "refresh(vcpu, msr)")
        self.assertEqual(self.apply(), list(CHANGES)[1:])
        self.assertIn("like 6.0 (has d895f28ed6da): 4 topics; 1 already there", self.out)
        self.assertIn("loop: since 6.0", self.out)

    def test_what_is_there_is_not_applied_again(self):
        self.apply()
        whole = git(self.tree, "rev-parse", "HEAD^{tree}")
        git(self.tree, "checkout", "-q", "main")
        git(self.tree, "branch", "-D", "kvm-msr-filter/v5.10-v5.19")
        self.apply(TOPICS="quick, svm")
        git(self.tree, "branch", "-m", "first")
        self.assertEqual(self.apply(), ["last", "svm", "quick", "loop", "svm-2"])
        self.assertIn("quick: this very change", self.out)
        self.assertEqual(git(self.tree, "rev-parse", "HEAD^{tree}"), whole)
        git(self.tree, "branch", "-m", "second")
        self.apply(status=1)
        self.assertIn("no topic is left to apply", self.err)
        self.assertIn("0 topics; 5 already there", self.out)

    def test_a_change_that_no_condition_knows(self):
        self.change(SVM, "return true", "return check(svm)")
        self.assertEqual(self.apply(), ["loop", "last", "svm-2", "quick"])
        self.assertIn("svm: this very change", self.out)

    def test_not_for_it(self):
        self.change(VMX, "static void vmx_first", "/* slow() */\nstatic void vmx_first")
        self.assertEqual(self.apply(), list(CHANGES)[:4])
        self.assertIn("quick: it is slow", self.out)

    def test_vendor_lines_around_a_hunk(self):
        self.change(VMX, "\t\tif (!test", "\t\tvendor();\n\t\tif (!test")
        self.assertEqual(self.apply(), list(CHANGES))
        self.assertRegex(self.out, rf"-C1 .*loop/5.10.patch: {VMX}:\d+, at "
                                   rf"vmx_msr_filter_changed")

    def test_no_line_of_context_is_left(self):
        self.change(VMX, "\tlast(vcpu);\n", "\tlast(vcpu);\n\tvendor();\n")
        self.assertEqual(self.apply(status=1), ["loop", "svm", "svm-2"])
        self.assertIn("needed by  quick", self.out)

    def test_a_hunk_that_does_not_apply(self):
        """A line of SVM costs the topics of that line, and no others."""
        self.change(SVM, "\tif (!(vmcb12_is_intercept(svm)))\n\t\treturn true;\n",
                    "\tif (!vmcb12_is_intercept(svm))\n\t\treturn 1;\n")
        self.assertEqual(self.apply(status=1), ["loop", "last", "quick"])
        for text in ("svm does not apply: the code in nested_svm_vmrun_msrpm() is different",
                     f"{SVM}:3, for nested_svm_vmrun_msrpm()",
                     "needed by  svm-2: left out, too",
                     "svm-2: needs svm, which does not apply",
                     "apply --reject", "git -C "):
            self.assertIn(text, self.out)
        self.assertRegex(self.out, r"return true;\s+\|\s+return 1;")
        self.assertIn("svm: left out", self.err)

    def test_in_another_function(self):
        """Of a hunk with exactly one place, in the wrong function."""
        self.change(SVM, "static bool nested_svm_vmrun_msrpm(", "static bool another(")
        self.assertEqual(self.apply(status=1), ["loop", "last", "quick"])
        self.assertIn("is not in nested_svm_vmrun_msrpm()", self.out)

    def test_none_applies(self):
        self.change(VMX, "\tlast(vcpu);\n", "\tvendor(vcpu);\n")
        self.apply(status=1, TOPICS="last")
        self.unchanged("no topic is left to apply")

    def test_a_crlf_or_latin_1_line(self):
        path = self.tree / VMX
        path.write_bytes(path.read_bytes().replace(b"\tint i;", b"\tint i; /* \xe9 */"))
        git(self.tree, "commit", "-q", "-a", "-m", "x")
        self.assertEqual(self.apply(), list(CHANGES))
        self.assertIn(b"\xe9", path.read_bytes())


class Select(Topics):
    def test_fixes(self):
        self.assertEqual(self.apply(TOPICS="fixes"), ["last", "svm", "svm-2"])
        self.assertIn("loop: not asked for", self.out)

    def test_what_is_needed_is_pulled_in(self):
        self.assertEqual(self.apply(TOPICS="speed"), ["last", "quick"])
        self.assertIn("last: needed by quick", self.out)

    def test_names(self):
        self.assertEqual(self.apply(TOPICS="loop, svm"), ["loop", "svm"])

    def test_skip_takes_those_that_need_it(self):
        self.assertEqual(self.apply(SKIP="svm"), ["loop", "last", "quick"])
        self.assertIn("svm-2: needs svm, which is left out", self.out)

    def test_unknown(self):
        self.apply(status=1, TOPICS="nonsense")
        self.unchanged("TOPICS=nonsense is no topic: there are fixes, speed, loop")
        self.apply(status=1, SKIP="x")
        self.unchanged("SKIP=x is no topic")

    def test_none_is_left(self):
        self.apply(status=1, TOPICS="svm", SKIP="svm")
        self.unchanged("no topic is left to apply")


class Refused(Topics):
    def test_no_folder(self):
        self.assertEqual(self.run_it("apply", self.top / "none"), 1)
        self.assertIn("is not a folder", self.err)

    def test_no_kernel(self):
        (self.tree / "Kbuild").unlink()
        self.apply(status=1)
        self.unchanged("is not the top of a Linux source tree, it has no Kbuild")

    def test_no_filters(self):
        self.change("arch/x86/kvm/vmx/vmx.h", "shadow", "other")
        self.apply(status=1)
        self.unchanged("cannot filter MSRs")

    def test_local_changes(self):
        (self.tree / VMX).write_text("")
        self.apply(status=1)
        self.unchanged("has local changes")

    def test_in_the_middle_of_something(self):
        (self.tree / ".git/MERGE_HEAD").write_text(git(self.tree, "rev-parse", "HEAD"))
        self.apply(status=1)
        self.unchanged("is in the middle of a git am, rebase, merge or revert (MERGE_HEAD)")

    def test_the_branch_is_there(self):
        git(self.tree, "branch", "kvm-msr-filter/v5.10-v5.19")
        self.apply(status=1)
        self.assertIn("has a branch kvm-msr-filter/v5.10-v5.19 already", self.err)

    def test_no_identity(self):
        (self.top / "gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
        self.apply(status=1)
        self.unchanged("git does not know who you are")

    def test_no_git_there(self):
        shutil.rmtree(self.tree / ".git")
        self.assertEqual(self.run_it("apply", self.tree), 1)
        self.assertIn("make export", self.err)

    def test_no_git_at_all(self):
        self.apply(status=1, PATH="/nonexistent")
        self.unchanged("git is not installed")

    def test_a_hook_of_the_users(self):
        hook = self.tree / ".git/hooks/applypatch-msg"
        hook.write_text("#!/bin/sh\n! grep -q 'Do svm$' \"$1\"\n")
        hook.chmod(0o755)
        self.apply(status=1)
        self.unchanged("git am fails for patches/stable/svm/5.10.patch")

    def test_ctrl_c(self):
        hook = self.tree / ".git/hooks/applypatch-msg"
        hook.write_text(f"#!/bin/sh\ngrep -q 'Do svm$' \"$1\" || exit 0\n"
                        f"echo >{self.top}/now\nsleep 30\n")
        hook.chmod(0o755)
        with common.Popen([sys.executable, "-B", "-m", "riglib.series", "apply",
                           str(self.tree)], cwd=self.top, env=self.env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            while not (self.top / "now").exists():
                self.assertIsNone(run.poll())
            os.killpg(run.pid, signal.SIGINT)
            _, self.err = run.communicate()
        self.assertEqual(run.returncode, 130)
        self.unchanged("interrupted, nothing is changed")
        self.assertEqual(git(self.tree, "status", "--porcelain"), "")


class Export(Topics):
    def export(self, status=0, **env):
        self.assertEqual(self.run_it("export", self.tree, self.made, **env), status,
                         self.out + self.err)

    def test_git_am_takes_it(self):
        self.change(VMX, "\t\tif (!test", "\t\tvendor();\n\t\tif (!test")
        self.export()
        git(self.tree, "am", "-q", *sorted(self.made.glob("*.patch")))
        self.assertEqual(self.subjects(), list(CHANGES))
        by_hand = git(self.tree, "rev-parse", "HEAD^{tree}")
        git(self.tree, "reset", "-q", "--hard", "HEAD~5")
        self.apply()
        self.assertEqual(git(self.tree, "rev-parse", "HEAD^{tree}"), by_hand)

    def test_a_source_without_git(self):
        self.export()
        with_git = {path.name: path.read_text() for path in self.made.glob("*.patch")}
        shutil.rmtree(self.tree / ".git")
        self.export()
        for name, text in with_git.items():
            self.assertEqual(re.sub("base-commit: .*", "", text), re.sub(
                "base-version: .*", "", (self.made / name).read_text()))
        for name in (self.made / "series").read_text().split():
            subprocess.run(["patch", "-s", "-F0", "-p1", "-i", self.made / name],
                           cwd=self.tree, check=True)

    def test_the_cover_letter(self):
        self.change(SVM, "return true", "return 1")
        self.export(status=1, SKIP="loop")
        text = (self.made / "0000-cover-letter.txt").read_text()
        for line in ("1. KVM: x86: Do last", "loop: SKIP=loop", "for Linux 5.14.0",
                     "svm: the code in nested_svm_vmrun_msrpm() is different"):
            self.assertIn(line, text)

    def test_for_stable(self):
        self.export(STABLE="5.10.y")
        loop, last = (next(self.made.glob(f"000{n}-*")).read_text() for n in (1, 2))
        self.assertIn("Subject: [PATCH 5.10.y 1/5] KVM: x86: Do loop\n\n"
                      "commit d895f28ed6da96d7b922bd79977e2b732b103a99 upstream.\n\nText.", loop)
        self.assertIn("Subject: [PATCH 2/5] KVM: x86: Do last\n\nText.", last)
        self.assertIn("\n---\nFor distributions, until merged upstream", last)
        self.assertNotIn("For distributions", loop)

    def test_bad_input(self):
        self.export(status=1, STABLE="six")
        self.assertIn("STABLE=six is no stable tree", self.err)
        self.made.mkdir()
        (self.made / "mine.txt").write_text("x")
        self.export(status=1)
        self.assertIn("has mine.txt in it", self.err)
        self.assertEqual((self.made / "mine.txt").read_text(), "x")

    def test_again_takes_the_place_of_the_last(self):
        self.export()
        self.export(TOPICS="loop")
        self.assertEqual(len(list(self.made.glob("*.patch"))), 1)


class Post(Topics):
    """A series of patches/next as a mail."""

    def setUp(self):
        super().setUp()
        git(self.tree, "tag", "base")
        next_ = self.top / "patches/next"
        for number, (name, topics) in enumerate((("01-a", ["loop", "last"]),
                                                 ("02-b", ["svm"])), 1):
            (next_ / name).mkdir(parents=True)
            for n, topic in enumerate(topics, 1):
                text = (self.top / f"patches/stable/{topic}/5.10.patch").read_text()
                (next_ / name / f"{n:04}-KVM-x.patch").write_text(text.replace(
                    "[PATCH]", f"[PATCH {n}/{len(topics)}]" if len(topics) > 1 else
                    "[RFC PATCH]"))
        (next_ / "01-a/0000-cover-letter.patch").write_text(
            "From 0\nFrom: A Person <a@person.example>\nSubject: [PATCH 0/2] KVM: Both\n\n"
            "Do both.\n\nA Person (2):\n  KVM: x86: Do loop\n  KVM: x86: Do last\n\n"
            " a | 2 +-\n-- \n2.0\n")
        (next_ / "series.json").write_text(json.dumps([
            {"name": "01-a", "what": "a"}, {"name": "02-b", "what": "b", "needs": ["01-a"]}]))

    def post(self, name, status=0):
        self.assertEqual(self.run_it("post", name, self.tree), status, self.out + self.err)
        return [path.read_text() for path in
                sorted((self.top / "build/post").glob("*/*.patch"))]

    def test_a_series(self):
        scripts = self.tree / "scripts"
        scripts.mkdir()
        (scripts / "get_maintainer.pl").write_text(
            'print "A Maintainer <m\\@there.org> (maintainer:KVM)\\n'
            'kvm\\@there.org (open list)\\n";\n')
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-q", "-m", "scripts")
        cover, one, _ = self.post("1-a")
        self.assertIn("Subject: [PATCH 0/2] KVM: Both", cover)
        self.assertIn("\nDo both.\n\nMe (2):", cover)
        self.assertIn(f"base-commit: {git(self.tree, 'rev-parse', 'HEAD').strip()}", cover)
        for text in ("From: Me <me@here.org>", "Signed-off-by: Me <me@here.org>",
                     "To: A Maintainer <m@there.org>", "Cc: kvm@there.org", "Message-I"):
            self.assertIn(text, one)
        self.assertNotIn("person.example", one)
        self.assertIn("not checked: that it builds", self.out.splitlines()[-1])
        self.assertEqual(git(self.tree, "status", "--porcelain"), "")

    def test_a_series_that_needs_another(self):
        text, = self.post("b")
        self.assertIn("Subject: [RFC PATCH] KVM: x86: Do svm", text)
        self.assertEqual(text.count("prerequisite-patch-id: "), 2)
        self.assertIn("It needs 01-a", self.out)
        self.assertIn("To and Cc: there is no scripts/get_maintainer.pl", self.out)

    def test_refused(self):
        self.post("c", 1)
        self.assertIn("there is no such series, there are 01-a, 02-b", self.err)
        for address, why in (("me@here.example", "no one can answer me@here.example"),
                             ("me@x.invalid", "no one can answer")):
            (self.top / "gitconfig").write_text(f"[user]\nname = Me\nemail = {address}\n")
            self.post("01-a", 1)
            self.assertIn(why, self.err)
        (self.top / "gitconfig").write_text("[user]\nuseConfigOnly = true\n")
        self.post("01-a", 1)
        self.assertIn("git does not know who you are", self.err)

    def test_does_not_apply(self):
        self.change(VMX, "\tlast(vcpu);\n", "\tvendor(vcpu);\n")
        self.post("01-a", 1)
        self.assertIn("patches/next/01-a/0001-KVM-x.patch does not apply", self.err)
        self.assertFalse((self.top / "build").exists())


class Hunks(common.Test):
    def test_what_encloses_a_line(self):
        lines = textwrap.dedent("""\
            int proto(int a,
            \t  int b);
            #define X 1
            static const u32 list[] = {
            \t1,
            };

            int f(int a,
            \t  int b)
            {
            out:
            \treturn 1;
            }

            """).split("\n")
        self.assertEqual([hunks.enclosing(lines, n) for n in (2, 4, 6, 11, 13)],
                         [None, "list", None, "f", None])

    def hunk(self, *lines):
        return hunks.Hunk("f.c", 1, "int f(void)", lines)

    def placed(self, text, hunk):
        found, _ = hunks.apply(text, [hunk])
        return hunks.changed(text, found)

    def test_several_places(self):
        text = "int f(void)\n{\n\ta;\n\tx;\n\tb;\n\ta;\n\tx;\n\tb;\n}\n"
        with self.assertRaisesRegex(hunks.Failure, r"it has 2 places in f\(\)"):
            self.placed(text, self.hunk(" \tz;", " \ta;", "-\tx;", "+\ty;", " \tb;"))
        # With a line more of the context there is one.
        self.assertEqual(self.placed(text, self.hunk(" {", " \ta;", "-\tx;", "+\ty;",
                                                     " \tb;")),
                         text.replace("x", "y", 1))

    def test_a_place_in_another_function_is_none(self):
        text = "int g(void)\n{\n\ta;\n\tx;\n\tb;\n}\n"
        hunk = self.hunk(" \ta;", "-\tx;", "+\ty;", " \tb;")
        with self.assertRaisesRegex(hunks.Failure, "line 3, is not in f"):
            self.placed(text, hunk)
        found, _ = hunks.apply(text, [hunk], {"f": "g"})
        self.assertIn("\ty;", hunks.changed(text, found))

    def test_what_is_not_c_has_no_functions(self):
        hunk = hunks.Hunk("f.rst", 1, "Another heading:", (" a", "-x", "+y", " b"))
        self.assertEqual(self.placed("int g(void)\n{\na\nx\nb\n}\n", hunk),
                         "int g(void)\n{\na\ny\nb\n}\n")

    def test_changes_that_are_apart_are_placed_one_by_one(self):
        text = "int f(void)\n{\n\ta;\n\tx;\n\tb;\n\tvendor;\n\tc;\n\tx;\n\td;\n}\n"
        self.assertEqual(self.placed(text, self.hunk(
            " \ta;", "-\tx;", "+\ty;", " \tb;", " \tk;", " \tc;", "-\tx;", "+\ty;", " \td;")),
            text.replace("x", "y"))

    def test_names(self):
        for heading, name in (("static void f(int a,", "f"), ("struct kvm_arch {", "kvm_arch"),
                              ("static const u32 list[] = {", "list"),
                              ("enum x", "x"), ("", "")):
            self.assertEqual(hunks.name_of(heading), name)


if __name__ == "__main__":
    unittest.main()
