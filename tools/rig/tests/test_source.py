# SPDX-License-Identifier: GPL-2.0-only
"""steps/source: which kernel is fetched, of what mirror and cache offer.

The scripts run in a copy of what they need of the repository, with a table of their
own, a cache of their own, and an apt that does what a test tells it to.
"""

import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import common

TOP = Path(__file__).resolve().parents[3]

TABLE = """\
5.10  linux-source-5.10  bullseye  v5.10-v5.19  linux-source-5.10_5.10.223-1  -  1  6.1
next  linux-source-*  experimental,sid,trixie-backports  next  \
linux-source-7.3_7.3~rc7-1~exp1  7.3~  1  -
"""
PINNED = "linux-source-7.3_7.3~rc7-1~exp1_all.deb"
EXPIRED = ("E: Release file for http://mirror/dists/experimental/InRelease is expired "
           "(invalid since 3d). Updates for this repository will not be applied.")
NO_MIRROR = "W: Failed to fetch http://mirror/dists/%s/InRelease  Could not connect"

# $APT is a folder: RELEASE.offers has "package version" lines, RELEASE.fails what apt
# says instead.  It tells the release by the folder that holds its sources.list.
FAKE_APT = """\
#!/bin/sh
echo "$*" >>"$APT/calls"
for one; do
	case $one in
	Dir::Etc::SourceList=*) one=${one%/sources.list}; release=${one##*/apt-} ;;
	madison|pkgnames|update|download|indextargets) command=$one ;;
	linux-*=*) wanted=$one ;;
	linux-*) names="$names $one" ;;
	esac
done
offers=$APT/$release.offers
case $command in
indextargets)
	echo "http://mirror Debian main" ;;
update)
	[ ! -f "$APT/$release.fails" ] || { cat "$APT/$release.fails"; exit 100; } ;;
pkgnames)
	[ ! -f "$offers" ] || cut -d' ' -f1 "$offers"
	echo linux-source-6.12-extra ;;
madison)
	while read -r package version; do
		case " $names " in
		*" $package "*)
			echo "$package | $version | http://mirror $release/main" ;;
		esac
	done <"$offers" ;;
download)
	[ ! -f "$APT/cut" ] || { echo "E: Failed to fetch $wanted  Hash Sum mismatch"; exit 100; }
	if [ -f "$APT/${wanted%%=*}.deb" ]; then cp "$APT/${wanted%%=*}.deb" x.deb
	elif [ -f "$APT/deb" ]; then cp "$APT/deb" "${wanted%%=*}_${wanted#*=}_all.deb"
	else echo "$wanted" >"${wanted%%=*}_${wanted#*=}_all.deb"; fi ;;
esac
"""


@unittest.skipUnless(shutil.which("dpkg"), "there is no dpkg here to compare versions")
class Repository(common.Test):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        self.cache = self.top / "cache"
        self.apt = self.top / "apt"
        bin_ = self.top / "bin"
        steps = self.top / "tools/rig/steps"
        for folder in (self.cache, self.apt, bin_, steps,
                       self.top / "tools/rig/tables"):
            folder.mkdir(parents=True)
        for name in ("lib.sh", "source"):
            shutil.copy(TOP / "tools/rig/steps" / name, steps)
        (self.top / "tools/rig/riglib").symlink_to(TOP / "tools/rig/riglib")
        self.table = self.top / "tools/rig/tables/kernels"
        self.table.write_text(TABLE)
        for name in ("apt-get", "apt-cache"):
            (bin_ / name).write_text(FAKE_APT)
            (bin_ / name).chmod(0o755)
        self.env = dict(os.environ, PATH=f"{bin_}:{os.environ['PATH']}",
                        APT=str(self.apt), CACHE=str(self.cache), LC_ALL="C")
        for name in ("MIRROR", "PIN"):
            self.env.pop(name, None)

    def source(self, *args, **env):
        done = common.run([self.top / "tools/rig/steps/source", *args], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          cwd=self.top, env=dict(self.env, **env))
        self.assertEqual(list(self.cache.glob("new.*")), [], "left in the cache")
        self.lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
        return done

    def fetched(self, *args, **env):
        """The name of the file that "fetch" gives."""
        done = self.source("fetch", *args, **env)
        self.assertEqual(done.returncode, 0, done.stderr)
        file = Path(done.stdout.strip())
        self.assertEqual(file.parent, self.cache)
        self.assertTrue(file.is_file())
        self.assertTrue(Path(f"{file}.sha256").is_file())
        return file.name

    def refused(self, *args, **env):
        """The line with which it gives up."""
        done = self.source(*args, **env)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        errors = [line for line in self.lines if line.startswith("source: ")]
        self.assertEqual(errors, self.lines[-1:])
        self.assertFalse((self.top / "build").exists(), "something is left behind")
        return errors[0]

    def said(self, label):
        return [line for line in self.lines if line.split()[0] == label]

    def cached(self, *names, content=b"a kernel"):
        for name in names:
            (self.cache / name).write_bytes(content)
            (self.cache / f"{name}.sha256").write_text(
                f"{hashlib.sha256(content).hexdigest()}  {name}\n")

    def offers(self, release, *offers):
        (self.apt / f"{release}.offers").write_text("".join(f"{o}\n" for o in offers))

    def fails(self, release, words=None):
        (self.apt / f"{release}.fails").write_text(f"{words or NO_MIRROR % release}\n")

    def none_answers(self):
        for release in ("bullseye", "experimental", "sid", "trixie-backports"):
            self.fails(release)

    def calls(self):
        calls = self.apt / "calls"
        return calls.read_text() if calls.exists() else ""


class Source(Repository):
    # (a)

    def test_pinned_in_the_cache_asks_nobody(self):
        self.cached("linux-source-5.10_5.10.223-1_all.deb",
                    "linux-source-5.10_5.10.300-1_all.deb")
        self.assertEqual(self.fetched("5.10"), "linux-source-5.10_5.10.223-1_all.deb")
        self.assertEqual((self.calls(), self.lines), ("", []))

    def test_a_cut_file_is_not_taken(self):
        self.cached("linux-source-5.10_5.10.223-1_all.deb")
        (self.cache / "linux-source-5.10_5.10.223-1_all.deb").write_bytes(b"a ker")
        self.none_answers()
        self.refused("fetch", "5.10")
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_pinned_that_moves_without_a_mirror(self):
        self.cached(PINNED, "linux-source-7.4_7.4-1_all.deb")
        self.none_answers()
        self.assertEqual(self.fetched("next"), PINNED)
        self.assertEqual(len(self.said("WITHOUT")), 3)

    # (b)

    def test_a_release_that_does_not_answer(self):
        self.fails("experimental", EXPIRED)
        self.offers("sid", "linux-source-7.2 7.2.9-1")
        self.offers("trixie-backports", "linux-source-7.3 7.3.4-1~bpo13+1")
        self.assertEqual(self.fetched("next"),
                         "linux-source-7.3_7.3.4-1~bpo13+1_all.deb")
        self.assertEqual(self.said("WITHOUT"), [
            f"WITHOUT experimental does not answer, apt says: {EXPIRED}"])

    def test_a_release_with_no_source_at_all(self):
        self.offers("sid", "linux-source-7.3 7.3~rc7-1~exp1")
        self.assertEqual(self.fetched("next"), PINNED)

    # (c)

    def test_pinned_is_offered_and_a_newer_one_too(self):
        self.offers("experimental", "linux-source-7.3 7.3~rc7-1~exp1")
        self.offers("sid", "linux-source-7.3 7.3.5-1", "linux-source-6.12 6.12.107-1")
        self.assertEqual(self.fetched("next"), PINNED)
        self.assertEqual(self.said("NEWER"), [
            "NEWER linux-source-7.3 7.3.5-1 (sid) is there, this tree was last shown on "
            "7.3~rc7-1~exp1: to move, set PIN in tools/rig/tables/kernels"])

    def test_pinned_is_cached_and_a_newer_one_offered(self):
        self.cached(PINNED)
        self.offers("sid", "linux-source-7.3 7.3.5-1")
        self.assertEqual(self.fetched("next"), PINNED)
        self.assertEqual(len(self.said("NEWER")), 1)
        self.assertNotIn("download", self.calls())

    def test_newer_is_not_said_of_what_is_too_old(self):
        self.cached(PINNED)
        self.offers("sid", "linux-source-7.2 7.2.99-1")
        self.assertEqual(self.fetched("next"), PINNED)
        self.assertEqual(self.said("NEWER"), [])

    def test_pin_of_ones_own(self):
        self.cached("linux-source-5.10_5.10.223-1_all.deb")
        self.offers("bullseye", "linux-source-5.10 5.10.218-1")
        self.assertEqual(self.fetched("5.10", PIN="5.10.218-1"),
                         "linux-source-5.10_5.10.218-1_all.deb")
        self.assertIn("there is no telling which package that is",
                      self.refused("fetch", "next", PIN="7.3.2-1"))
        self.assertIn("PIN=new is unknown", self.refused("fetch", "5.10", PIN="new"))

    def test_pin_newest(self):
        self.cached(PINNED)
        self.offers("sid", "linux-source-7.3 7.3.5-1")
        for pin in ("newest", "-"):
            self.assertEqual(self.fetched("next", PIN=pin),
                             "linux-source-7.3_7.3.5-1_all.deb")
            self.assertEqual(len(self.said("NEWEST")), 1)
        self.assertIn("PIN=oldest", self.refused("fetch", "next", PIN="oldest"))

    # (d)

    def test_pinned_is_gone(self):
        self.cached("linux-source-7.5_7.5-1_all.deb")
        self.offers("experimental", "linux-source-7.3 7.3.5-1", "linux-source-7.4 7.4~rc1-1")
        self.assertEqual(self.fetched("next"), "linux-source-7.4_7.4~rc1-1_all.deb")
        self.assertEqual(self.said("NEWEST"), [
            "NEWEST linux-source-7.4 7.4~rc1-1 (experimental) is taken: linux-source-7.3 "
            "7.3~rc7-1~exp1, which this tree was last shown on, is not there"])

    def test_pinned_of_a_stable_kernel_is_gone(self):
        self.offers("bullseye", "linux-source-5.10 5.10.251-1")
        self.assertEqual(self.fetched("5.10"), "linux-source-5.10_5.10.251-1_all.deb")
        self.assertEqual(len(self.said("NEWEST")), 1)

    def test_what_is_downloaded_is_kept(self):
        self.offers("bullseye", "linux-source-5.10 5.10.223-1")
        self.fetched("5.10")
        self.none_answers()
        self.fetched("5.10")
        self.assertEqual(self.calls().count("download"), 1)

    # (e)

    def test_none_offered_and_an_other_one_cached(self):
        self.cached("linux-source-7.3_7.3.4-1_all.deb", "linux-source-7.3_7.3.5-1_all.deb",
                    "linux-source-7.2_7.2.9-1_all.deb", "linux-source-6.12_6.12.107-1_all.deb")
        self.none_answers()
        self.assertEqual(self.fetched("next"), "linux-source-7.3_7.3.5-1_all.deb")
        self.assertEqual(self.said("CACHED"), [
            "CACHED linux-source-7.3_7.3.5-1 is taken, fetched earlier: apt says: "
            + " ".join((NO_MIRROR % "experimental").split())])

    def test_the_newest_cached_is_cut(self):
        self.cached("linux-source-7.3_7.3.4-1_all.deb", "linux-source-7.3_7.3.5-1_all.deb")
        (self.cache / "linux-source-7.3_7.3.5-1_all.deb").write_bytes(b"")
        self.none_answers()
        self.assertEqual(self.fetched("next"), "linux-source-7.3_7.3.4-1_all.deb")

    def test_the_download_fails(self):
        self.cached("linux-source-7.3_7.3.4-1_all.deb")
        self.offers("sid", "linux-source-7.3 7.3~rc7-1~exp1")
        (self.apt / "cut").touch()
        self.assertEqual(self.fetched("next"), "linux-source-7.3_7.3.4-1_all.deb")
        self.assertIn("Hash Sum mismatch", self.said("CACHED")[0])

    # (f)

    def test_no_release_answers_and_the_cache_has_only_an_older_kernel(self):
        # The table as it is, whatever its PIN: what the report of this bug was of.
        shutil.copy(TOP / "tools/rig/tables/kernels", self.table)
        self.cached("linux-source-6.12_6.12.107-1_all.deb")
        for release in ("experimental", "sid", "trixie-backports"):
            self.fails(release, EXPIRED.replace("experimental", release))
        line = self.refused("unpack", "next", "build/next/src")
        self.assertIn(EXPIRED, line)
        self.assertEqual(len(list(self.cache.iterdir())), 2)

    def test_too_old_is_never_taken(self):
        self.cached("linux-source-6.12_6.12.107-1_all.deb")
        self.offers("sid", "linux-source-7.2 7.2.9-1", "linux-source-6.12 6.12.108-1")
        for pin in ("", "newest"):
            self.assertIn("the mirror has none",
                          self.refused("unpack", "next", "build/next/src", PIN=pin))
        self.assertNotIn("download", self.calls())

    def test_an_unknown_kernel(self):
        self.assertIn('no kernel "7.9", it has: 5.10 next', self.refused("fetch", "7.9"))

    # what is unpacked

    def deb(self, name, version, vmx="vmx_recalc_msr_intercepts"):
        """A small .deb with a kernel source that "range" knows the folder of."""
        tree, root = self.top / "tree/linux-source", self.top / "root"
        for file, text in (("MAINTAINERS", ""), ("Kbuild", ""), ("Makefile", "VERSION = 7\n"),
                           ("arch/x86/kvm/vmx/vmx.c", f"{vmx}\n"),
                           ("arch/x86/kvm/vmx/vmx.h", ""), ("arch/x86/kvm/msrs.c", ""),
                           ("arch/x86/kvm/vmx/nested.h", "")):
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text(text)
        (root / "usr/src").mkdir(parents=True, exist_ok=True)
        (root / "DEBIAN").mkdir(exist_ok=True)
        (root / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: rig <rig@localhost>\nDescription: a kernel\n")
        subprocess.run(["tar", "-cJf", root / f"usr/src/{name}.tar.xz", "-C",
                        tree.parent, tree.name], check=True)
        file = self.top / "made.deb"
        subprocess.run(["dpkg-deb", "-Znone", "-b", root, file], check=True,
                       stdout=subprocess.DEVNULL)
        self.cached(f"{name}_{version}_all.deb", content=file.read_bytes())

    def unpacked(self):
        done = self.source("unpack", "next", "build/next/src")
        self.assertEqual(done.returncode, 0, done.stderr)
        return (self.top / "build/next/src/.rig-version").read_text()

    def test_unpack(self):
        self.deb("linux-source-7.3", "7.3~rc7-1~exp1")
        self.none_answers()
        self.assertEqual(self.unpacked(), "linux-source-7.3 7.3~rc7-1~exp1\n")

    def test_unpack_in_place_of_what_is_too_old(self):
        src = self.top / "build/next/src"
        src.mkdir(parents=True)
        (src / ".rig-version").write_text("linux-source-6.12 6.12.107-1\n")
        self.none_answers()
        self.assertNotEqual(self.source("unpack", "next", "build/next/src").returncode, 0)
        self.assertFalse(src.exists())
        self.deb("linux-source-7.3", "7.3.4-1")
        self.assertEqual(self.unpacked(), "linux-source-7.3 7.3.4-1\n")

    def test_a_source_that_the_series_is_not_for_is_not_left(self):
        self.deb("linux-source-7.3", "7.3~rc7-1~exp1", vmx="none of them")
        self.none_answers()
        done = self.source("unpack", "next", "build/next/src")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("wants none of our series", self.lines[-1])
        self.assertEqual(list((self.top / "build/next").iterdir()), [])

    def test_what_a_build_left_in_a_users_commit_is_not_copied(self):
        tree = self.top / "mine"
        built = (".config", "include/config/auto.conf", "include/generated/bounds.h",
                 "arch/x86/include/generated/asm/x.h")
        for file in ("MAINTAINERS", "Kbuild", "Makefile", "arch/x86/kvm/Kconfig",
                     "include/linux/kvm.h", *built):
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text("VERSION = 7\n")
        for words in ("init -q", "add -Af .", "-c user.name=x -c user.email=x@x "
                      "commit -qm x"):
            subprocess.run(["git", "-C", tree, *words.split()], check=True)
        done = self.source("copy", str(tree), "build/ksrc/src")
        self.assertEqual(done.returncode, 0, done.stderr)
        copy = self.top / "build/ksrc/src"
        self.assertTrue((copy / "include/linux/kvm.h").exists())
        self.assertEqual([file for file in built if (copy / file).exists()], [])

    def test_series_removes_what_an_older_rig_has_left(self):
        self.deb("linux-source-7.3", "7.3~rc7-1~exp1")
        self.none_answers()
        self.unpacked()
        done = self.source("series", "build/next/src", "v6.0-v6.16")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("it is removed, run this again", self.lines[-1])
        self.assertFalse((self.top / "build/next/src").exists())

    def stacked(self, *patches):
        """A tree with a series on it, each patch a file and its lines, and with an
        overlay on top of that; and "source cumulate" of it."""
        tree = self.top / "tree"
        (tree / "arch/x86/kvm").mkdir(parents=True)
        (tree / "arch/x86/kvm/x86.c").write_text("1\n2\n3\n")

        def git(*words):
            subprocess.run(["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x",
                            *words], check=True, capture_output=True)

        def commit(file, lines, what):
            path = tree / "arch/x86/kvm" / file
            old = path.read_text() if path.exists() else ""
            # None removes the last line.
            path.write_text(old + lines if lines is not None else
                            "".join(old.splitlines(True)[:-1]))
            git("add", ".")
            git("commit", "-q", "-m", what)

        git("init", "-q")
        git("add", ".")
        git("commit", "-q", "-m", "base")
        git("branch", "base")
        names = [f"{i:04}-KVM-a.patch stable/topic-{i}/5.10.patch"
                 for i in range(1, len(patches) + 1)]
        for file, lines in patches:
            commit(file, lines, f"KVM: {file} of two words")
        git("branch", "series")
        commit("a_kunit.c", "a\nb\n", "overlay")
        git("branch", "patched")
        git("checkout", "-q", "--detach", "base")
        commit("a_kunit.c", "a\nb\n", "unpatched")
        git("branch", "unpatched")
        (tree / ".rig-patches").write_text("\n".join(names) + "\n")
        (tree / ".git/info/exclude").write_text(".rig-*\n")
        return self.source("cumulate", "tree", "stack")

    def test_cumulate(self):
        done = self.stacked(("x86.c", "4\n5\n"), ("../../../test.c", "t\n"), ("vmx.c", "c\n"))
        self.assertEqual(done.returncode, 0, done.stderr)
        found = [line.split(" ", 3) for line in done.stdout.splitlines()]
        self.assertEqual([(name, lines, what) for name, _, lines, what in found], [
            ("unpatched", "0", "the kernel without the series"),
            ("+topic-1", "2", "KVM: x86.c of two words"),
            ("+topic-3", "1", "KVM: vmx.c of two words")])
        self.assertEqual(len({commit for _, commit, _, _ in found}), 3)

    def test_cumulate_has_patches_that_only_remove_lines(self):
        done = self.stacked(("x86.c", None), ("vmx.c", "c\n"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line.split(" ")[0] for line in done.stdout.splitlines()],
                         ["unpatched", "+topic-1", "+topic-2"])

    def test_cumulate_ends_with_the_series(self):
        """Where a change of KVM is left out of the states, that is not it."""
        done = self.stacked(("x86.c", "4\n"), ("b_kunit.c", "b\n"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("one by one are not what they are together", done.stderr)


class Stock(Repository):
    """Kernels of Debian's own, from packages with next to nothing in them."""

    RELEASE = "5.10.0-32-amd64"

    def setUp(self):
        super().setUp()
        version = self.top / "build/5.10/src/.rig-version"
        version.parent.mkdir(parents=True)
        version.write_text("linux-source-5.10 5.10.223-1\n")
        modules = f"lib/modules/{self.RELEASE}/kernel"
        self.deb("image", {
            f"boot/vmlinuz-{self.RELEASE}": b"a kernel",
            f"boot/config-{self.RELEASE}": b"CONFIG_KVM=m\n",
            f"{modules}/arch/x86/kvm/kvm.ko": b"kvm",
            f"{modules}/arch/x86/kvm/kvm-intel.ko": b"intel",
            f"{modules}/virt/lib/irqbypass.ko.xz": lzma.compress(b"bypass")})
        self.deb("headers", {
            f"usr/src/linux-headers-{self.RELEASE}/Module.symvers": b"symbols"})
        self.offers("bullseye", *(f"linux-{kind}-{release} 5.10.223-1"
                                  for kind in ("image", "headers") for release in (
                                      "5.10.0-32-cloud-amd64", "5.10.0-32-rt-amd64",
                                      self.RELEASE)),
                    f"linux-image-{self.RELEASE}-dbg 5.10.223-1",
                    "linux-image-5.10.0-33-amd64 5.10.226-1")
        self.stock = self.top / "build/5.10/stock"

    def deb(self, kind, files):
        folder = self.top / kind
        for name, content in {"DEBIAN/control": (
                f"Package: {kind}\nVersion: 1\nArchitecture: all\n"
                "Maintainer: x <x@localhost>\nDescription: x\n").encode(),
                              **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        subprocess.run(["dpkg-deb", "--build", folder,
                        self.apt / f"linux-{kind}-{self.RELEASE}.deb"],
                       check=True, capture_output=True)

    def test_all_of_it(self):
        done = self.source("stock", "5.10", self.stock)
        self.assertEqual(done.returncode, 0, done.stderr)
        modules = self.stock / "modules/lib/modules" / self.RELEASE
        for path, content in ((self.stock / "vmlinuz", "a kernel"),
                              (self.stock / "config", "CONFIG_KVM=m\n"),
                              (self.stock / "Module.symvers", "symbols"),
                              (self.stock / "release", f"{self.RELEASE}\n"),
                              (self.stock / "kvm-intel.ko", "intel"),
                              (modules / "kvm.ko", "kvm"),
                              (modules / "kvm-intel.ko", "intel"),
                              (modules / "irqbypass.ko", "bypass")):
            self.assertEqual(path.read_text(), content)
        self.assertEqual(len(list(self.cache.glob("*.deb"))), 2)
        # Both are in the cache now, and nobody is asked.
        (self.apt / "calls").unlink()
        self.assertEqual(self.source("stock", "5.10", self.stock).returncode, 0)
        self.assertEqual(self.calls(), "")

    def test_not_to_be_had(self):
        self.offers("bullseye", f"linux-image-{self.RELEASE} 5.10.226-1")
        done = self.source("stock", "5.10", self.stock)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.lines[-1], (
            f"source: cannot fetch Debian's linux-image of 5.10.223-1, nor has "
            f"{self.cache} one: the mirror has none"))
        self.assertFalse(self.stock.exists() or Path(f"{self.stock}.new").exists())
        shutil.rmtree(self.top / "build/5.10/src")
        self.assertEqual(self.source("stock", "5.10", self.stock).returncode, 1)
        self.assertIn("there is no source beside it", self.lines[-1])


if __name__ == "__main__":
    unittest.main()
