# SPDX-License-Identifier: GPL-2.0-only
"""host/swap and steps/stock, on a host that is a folder: what is refused, in which
words, and that the modules that were loaded are loaded again."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from riglib import host, machines, pack, plan
from riglib.errors import Wrong
from riglib.views import text
import common

TOP = Path(__file__).resolve().parents[3]
SWAP = TOP / "tools/rig/host/swap"
RELEASE = "5.10.0-32-amd64"

# A module is a folder; one that is on disk is in $RIG_ROOT/disk, and has
# .parameters, which those that are given replace.
FAKES = {
    "uname": f"""
case $1 in
-r) echo {RELEASE} ;;
-v) cat "$RIG_ROOT/version" ;;
esac""",
    "id": 'echo "${FAKE_UID-0}"',
    "rmmod": """
module=$RIG_ROOT/sys/module/$1
[ ! -e "$module/in-use" ] || { echo "rmmod: $1: Resource busy" >&2; exit 1; }
rm -r "$module" """,
    "modprobe": """
name=$1
shift
[ ! -e "$RIG_ROOT/sys/module/$name" ] || exit 0
[ -d "$RIG_ROOT/disk/$name" ] || { echo "modprobe: $name not found" >&2; exit 1; }
case $name in
kvm_intel) "$0" kvm ;;
kvm) "$0" irqbypass ;;
esac
cp -r "$RIG_ROOT/disk/$name" "$RIG_ROOT/sys/module/$name"
for one; do
	echo "${one#*=}" >"$RIG_ROOT/sys/module/$name/parameters/${one%%=*}"
done""",
    "modinfo": 'echo "$RIG_ROOT/kvm-intel.ko"',
    # swap tries again every second.
    "sleep": "exec /bin/sleep 0.01",
}


class Fake(common.Test):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        self.bin = self.root / "bin"
        self.lib = self.root / "lib/modules" / RELEASE
        for name, script in FAKES.items():
            self.file(f"bin/{name}", f"#!/bin/sh\n{script}\n").chmod(0o755)
        self.file("version", "#1 SMP Debian 5.10.223-1 (2024-08-10)\n")
        self.file("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vmx smx\n")
        self.file("proc/kallsyms", "0 t vmx_msr_filter_changed\t[kvm_intel]\n")
        self.file("proc/sys/kernel/modules_disabled", "0\n")
        self.file("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.file("sys/module/module/parameters/sig_enforce", "N\n")
        self.file(f"lib/modules/{RELEASE}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
        self.file(f"lib/modules/{RELEASE}/modules.dep",
                  "kernel/arch/x86/kvm/kvm-intel.ko: kernel/arch/x86/kvm/kvm.ko\n")
        for name, parameters in (("irqbypass", {}), ("kvm", {"halt_poll_ns": "200000"}),
                                 ("kvm_intel", {"nested": "Y", "ple_gap": "128"})):
            self.module(f"disk/{name}", name, parameters)
            shutil.copytree(self.root / "disk" / name, self.root / "sys/module" / name)
        (self.root / "sys/module/kvm/holders/kvm_intel").mkdir()
        self.process(1, "systemd", "/dev/null")

    def file(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def module(self, where, build_id, parameters=()):
        self.file(f"{where}/notes/.note.gnu.build-id", build_id)
        (self.root / where / "holders").mkdir()
        (self.root / where / "parameters").mkdir()
        for name, value in dict(parameters).items():
            self.file(f"{where}/parameters/{name}", f"{value}\n")

    def process(self, pid, name, *files):
        self.file(f"proc/{pid}/comm", f"{name}\n")
        for number, file in enumerate(files):
            link = self.root / f"proc/{pid}/fd/{number}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file)

    def environment(self, **more):
        return {**os.environ, "RIG_ROOT": str(self.root),
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "TMPDIR": str(self.root), **more}

    def run_it(self, *command, **more):
        done = common.run(list(map(str, command)), env=self.environment(**more),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def loaded(self):
        """name: (its build, parameters)"""
        found = {}
        for name in ("irqbypass", "kvm", "kvm_intel"):
            folder = self.root / "sys/module" / name
            if folder.exists():
                found[name] = (
                    (folder / "notes/.note.gnu.build-id").read_text(),
                    {path.name: path.read_text().strip()
                     for path in (folder / "parameters").iterdir()})
        return found


class Refuses(Fake):
    def assertRefuses(self, line, **more):
        """In one line, and with all as it was."""
        before = self.loaded()
        for command in (("check",), ("run", "touch", self.root / "ran")):
            self.assertEqual(self.run_it(SWAP, *command, **more),
                             (1, "", f"swap: {line}\n"))
        self.assertEqual(self.loaded(), before)
        self.assertFalse((self.root / "ran").exists())
        self.assertEqual(list(self.root.glob("tmp.*")), [])

    def test_nothing(self):
        self.assertEqual(self.run_it(SWAP, "check"), (0, "", ""))

    def test_not_root(self):
        self.assertRefuses("modules are root's to load: run this as root",
                           FAKE_UID="1000")

    def test_no_vmx(self):
        self.file("proc/cpuinfo", "flags\t\t: fpu vmxx svm\n")
        self.assertRefuses("this CPU has no VMX, or the firmware has turned it off")

    def test_built_in(self):
        for name in ("kvm", "kvm-intel"):
            (self.lib / "modules.builtin").write_text(f"kernel/arch/x86/kvm/{name}.ko\n")
            self.assertRefuses(f"Linux {RELEASE} has {name} built in, so that there is "
                               "no module to take the place of")

    def test_no_module(self):
        (self.lib / "modules.dep").write_text("kernel/arch/x86/kvm/kvm-amd.ko:\n")
        self.assertRefuses(f"{self.lib} has no kvm-intel.ko that could be loaded again")

    def test_modules_disabled(self):
        self.file("proc/sys/kernel/modules_disabled", "1\n")
        self.assertRefuses("this kernel takes no modules any more "
                           "(kernel.modules_disabled)")

    def test_secure_boot(self):
        self.file("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        unsigned = ": the modules that are built here are not signed"
        self.assertRefuses("this kernel is locked down" + unsigned)
        variable = self.file("sys/firmware/efi/efivars/SecureBoot-8be4df61", "")
        variable.write_bytes(b"\6\0\0\0\1")
        self.assertRefuses("Secure Boot is on, and this kernel is locked down" + unsigned)
        self.file("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        self.assertEqual(self.run_it(SWAP, "check"), (0, "", ""))
        self.file("sys/module/module/parameters/sig_enforce", "Y\n")
        variable.write_bytes(b"\6\0\0\0\0")
        self.assertRefuses("this kernel takes signed modules only" + unsigned)

    def test_has_the_series(self):
        for name in ("nested_vmx_update_msr_bitmap", "kvm_write_down_msr_filter"):
            self.file("proc/kallsyms", f"0 t {name}\t[kvm_intel]\n")
            self.assertRefuses(f"the KVM of Linux {RELEASE} has the series already: "
                               f"{name}()")

    def test_busy(self):
        self.process(7, "libvirtd", "/dev/null", "/dev/kvm")
        self.process(77, "qemu-system-x86", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0")
        self.assertRefuses("KVM is in use by libvirtd (process 7), qemu-system-x86 "
                           "(process 77): end that first")

    def test_tools(self):
        """One that is not in PATH, nor where programs of root's are."""
        for tool, package in (("sha1sum", "coreutils"), ("rmmod", "kmod")):
            some = self.root / "some"
            shutil.rmtree(some, ignore_errors=True)
            some.mkdir()
            for name in {"sha1sum", "rmmod", "modprobe"} - {tool}:
                (some / name).symlink_to("/bin/true")
            script = SWAP.read_text().replace(
                "PATH=$PATH:/usr/sbin:/sbin", f"PATH={some}")
            done = common.run(["/bin/sh", "-c", script, "swap", "check"],
                              capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr),
                             (1, f"swap: there is no {tool} here: install {package}\n"))

    def test_busy_module(self):
        (self.root / "sys/module/kvm/holders/kvmgt").mkdir()
        self.assertRefuses("KVM is in use by the module kvmgt: unload that first")

    def test_in_use_by_somebody_unknown(self):
        """What refuses to go is there still, and the command is not run."""
        (self.root / "sys/module/kvm/in-use").touch()
        before = self.loaded()
        status, out, err = self.run_it(SWAP, "run", "touch", self.root / "ran")
        self.assertEqual(status, 1)
        self.assertIn("swap: kvm cannot be unloaded: rmmod: kvm: Resource busy", err)
        self.assertIn("swap: the modules are as before: irqbypass kvm kvm_intel", out)
        self.assertEqual(self.loaded(), before)
        self.assertFalse((self.root / "ran").exists())

    def test_arguments(self):
        for wrong in ((), ("run",), ("check", "x"), ("what",)):
            status, _, err = self.run_it(SWAP, *wrong)
            self.assertEqual((status, err.count("\n")), (1, 1), wrong)


class PutsBack(Fake):
    # A variant, half of it, and whatever $1 does then.
    LOAD = """#!/bin/sh
[ ! -e "$RIG_ROOT/sys/module/kvm" ] || exit 9
[ ! -e "$RIG_ROOT/sys/module/kvm_intel" ] || exit 9
for name in kvm ${HALF-kvm_intel}; do
	cp -r "$RIG_ROOT/disk/$name" "$RIG_ROOT/sys/module/$name"
	echo ours >"$RIG_ROOT/sys/module/$name/notes/.note.gnu.build-id"
done
eval "$1"
"""

    def setUp(self):
        super().setUp()
        self.load = self.file("load", self.LOAD)
        self.load.chmod(0o755)
        self.before = self.loaded()

    def swap(self, what, **more):
        return self.run_it(SWAP, "run", self.load, what, **more)

    def assertBack(self, done, status):
        self.assertEqual(done, (
            status, "swap: the modules are as before: irqbypass kvm kvm_intel\n", ""))
        self.assertEqual(self.loaded(), self.before)
        self.assertEqual(list(self.root.glob("tmp.*")), [])

    def test_whatever_comes_of_it(self):
        self.assertBack(self.swap(""), 0)
        self.assertBack(self.swap("exit 3"), 3)
        status, out, err = self.swap("kill -KILL $$")
        self.assertBack((status, out, err.replace("Killed\n", "")), 137)
        self.assertBack(self.swap("exit 3", HALF=""), 3)
        self.assertBack(self.swap("rm -r $RIG_ROOT/sys/module/kvm*"), 0)

    def test_parameters(self):
        """Those that are not what they are by themselves."""
        self.file("sys/module/kvm_intel/parameters/ple_gap", "0\n")
        self.file("sys/module/kvm/parameters/halt_poll_ns", "7\n")
        self.before = self.loaded()
        self.assertEqual(self.before["kvm_intel"][1], {"nested": "Y", "ple_gap": "0"})
        self.assertBack(self.swap(""), 0)

    def test_only_what_was_loaded(self):
        for names in (["kvm_intel"], ["kvm_intel", "kvm"],
                      ["kvm_intel", "kvm", "irqbypass"]):
            for name in names:
                shutil.rmtree(self.root / "sys/module" / name, ignore_errors=True)
            before = self.loaded()
            self.assertEqual(self.swap("")[0], 0)
            self.assertEqual(self.loaded(), before)

    def test_what_does_not_come_back(self):
        status, _, err = self.swap("touch $RIG_ROOT/sys/module/kvm_intel/in-use")
        self.assertEqual(status, 1)
        self.assertIn("swap: kvm_intel cannot be unloaded: rmmod: kvm_intel: Resource "
                      "busy", err)
        self.assertIn("swap: the kernel's own KVM is NOT back", err)

    def test_another_comes_back(self):
        """The file on disk may have been replaced since it was loaded."""
        status, _, err = self.swap(
            "echo other >$RIG_ROOT/disk/kvm/notes/.note.gnu.build-id")
        self.assertEqual(status, 1)
        self.assertIn("swap: kvm is not the one that was loaded before", err)
        self.assertIn("swap: the kernel's own KVM is NOT back", err)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            mark = self.root / "mark"
            ended = self.root / "ended"
            mark.unlink(missing_ok=True)
            ended.unlink(missing_ok=True)
            # The command gets to end what it has begun.
            what = ("trap 'touch $RIG_ROOT/ended; /bin/sleep 0.2; exit 1' TERM; "
                    "touch $RIG_ROOT/mark; while :; do /bin/sleep 0.05; done")
            with common.Popen([SWAP, "run", self.load, what], text=True,
                              env=self.environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
                while not mark.exists():
                    self.assertIsNone(it.poll())
                    time.sleep(0.01)
                self.assertNotEqual(self.loaded(), self.before)
                it.send_signal(number)
                while not ended.exists():
                    self.assertIsNone(it.poll())
                    time.sleep(0.01)
                # Those that come after the first do not hurry it.
                it.send_signal(signal.SIGTERM)
                it.send_signal(signal.SIGINT)
                out, err = it.communicate()
            self.assertBack((it.returncode, out, err), 130)


    def test_nobody_listens(self):
        """The terminal that it was started from is gone."""
        what = "touch $RIG_ROOT/mark; while :; do echo x; /bin/sleep 0.05; done"
        with common.Popen([SWAP, "run", self.load, what], env=self.environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as it:
            while not (self.root / "mark").exists():
                self.assertIsNone(it.poll())
                time.sleep(0.01)
            it.stdout.close()
            time.sleep(0.2)
            it.send_signal(signal.SIGHUP)
        self.assertEqual(it.returncode, 130)
        self.assertEqual(self.loaded(), self.before)


class Builds(Fake):
    """steps/stock, in a copy of what it needs of the repository."""

    TABLE = ("5.10  linux-source-5.10  bullseye  v5.10-v5.19  "
             "linux-source-5.10_5.10.223-1  -  1  6.1\n"
             "next  linux-source-*  sid  next  linux-source-7.3_7.3.4-1  7.3~  1  -\n")

    def setUp(self):
        super().setUp()
        steps = self.root / "top/tools/rig/steps"
        steps.mkdir(parents=True)
        for name in ("lib.sh", "stock"):
            shutil.copy(TOP / "tools/rig/steps" / name, steps)
        self.file("top/tools/rig/tables/kernels", self.TABLE)
        self.build = f"lib/modules/{RELEASE}/build"
        self.file(f"{self.build}/.config", "CONFIG_KVM=m\n")
        self.file(f"{self.build}/Module.symvers", "0x1 a vmlinux EXPORT_SYMBOL\n")
        self.file("kvm-intel.ko", "a module")
        self.file("top/b/src/.rig-version", "linux-source-5.10 5.10.223-1\n")
        self.steps = steps / "stock"

    def assertSays(self, line, *arguments):
        self.assertEqual(self.run_it(self.steps, *arguments),
                         (1, "", f"stock: {line}\n"))

    def test_which_kernel(self):
        self.assertEqual(self.run_it(self.steps, "base"), (0, "5.10 \n", ""))
        self.file("version", "#1 SMP Debian 5.10.218-1 (2024-06-01)\n")
        self.assertEqual(self.run_it(self.steps, "base"), (0, "5.10 5.10.218-1\n", ""))
        self.assertSays("BASE=next, and the running kernel is Debian's 5.10.218-1: "
                        "BASE=5.10", "base", "next")
        self.file("version", "#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1 (2026-11-01)\n")
        self.assertEqual(self.run_it(self.steps, "base"), (0, "next \n", ""))
        self.file("version", "#1 SMP Debian 5.1.2-1 (2019-06-01)\n")
        self.assertSays("the running kernel is Debian's 5.1.2-1, and "
                        "tools/rig/tables/kernels has none of 5.1: 5.10 next", "base")
        self.file("version", "#42-Ubuntu SMP\n")
        self.assertSays(f"the running kernel, {RELEASE}, is none of Debian's own: there "
                        "is no telling what it is made of", "base")

    def test_headers(self):
        for name in (".config", "Module.symvers"):
            path = self.root / self.build / name
            path.rename(self.root / "away")
            self.assertSays(f"the headers of the running kernel are not here ({path}): "
                            f"apt-get install linux-headers-{RELEASE}",
                            "running", "b/host")
            (self.root / "away").rename(path)
        self.assertEqual(self.run_it(self.steps, "running", "b/host"), (0, "", ""))
        there = self.root / "top/b/host"
        self.assertEqual(sorted(path.name for path in there.iterdir()),
                         ["Module.symvers", "config", "kvm-intel.ko", "release"])

    def test_another_source(self):
        self.file("top/b/src/.rig-version", "linux-source-5.10 5.10.224-1\n")
        self.assertSays("the running kernel is Debian's 5.10.223-1, and no source of "
                        "that is to be had: 5.10.224-1 is the one that is; set MIRROR=, "
                        "or boot a kernel of that", "running", "b/host")
        self.assertFalse((self.root / "top/b/host.new").exists())

    def test_other_tools(self):
        """An option that the tools here do not have changes what modules look like."""
        self.file("top/b/host/config", 'CONFIG_CC_VERSION_TEXT="gcc-99 (Debian) 99"\n'
                  "CONFIG_GCC_VERSION=990000\nCONFIG_BTF=y\n"
                  "# CONFIG_MODULE_SRCVERSION_ALL is not set\n")
        self.file("top/b/host/Module.symvers", "")
        self.assertEqual(self.run_it(self.steps, "cc", "b/host"), (0, "gcc\n", ""))
        make = self.file("make", "#!/bin/sh\n[ $1 != olddefconfig ] || "
                         "sed -i -e \"$EDIT\" b/host/obj/.config\n")
        make.chmod(0o755)
        self.assertEqual(self.run_it(self.steps, "prepare", "b/host", make,
                                     EDIT="s/=990000/=120000/"), (0, "", ""))
        status, _, err = self.run_it(self.steps, "prepare", "b/host", make,
                                     EDIT="s/CONFIG_BTF=y/# no BTF/")
        self.assertEqual((status, err), (
            1, "stock: error: the tools here cannot build for this kernel, they change "
            "CONFIG_BTF=y\n"))
        self.assertFalse((self.root / "top/b/host/obj").exists())

    def test_where_modules_are_built(self):
        self.file("top/b/src/scripts/Makefile.build", "x\nsrc := $(obj)\n")
        self.assertEqual(self.run_it(self.steps, "folder", "b/host", "b/src"),
                         (0, "arch/x86/kvm\n", ""))
        self.file("top/b/src/scripts/Makefile.build",
                  "src := $(if $(VPATH),$(VPATH)/)$(obj)\n")
        for name in ("arch/x86/kvm/x86.c", "arch/x86/kvm/vmx/vmx.c", "virt/kvm/kvm.c"):
            self.file(f"top/b/src/{name}", name)
        there = self.root / "top/b/host/obj/arch/x86/kvm"
        self.file("top/b/host/obj/arch/x86/kvm/x86.o", "built")
        (there / "gone.c").symlink_to("/none")
        for _ in range(2):
            self.assertEqual(self.run_it(self.steps, "folder", "b/host", "b/src"),
                             (0, f"{there}\n", ""))
            self.assertEqual((there / "vmx/vmx.c").read_text(), "arch/x86/kvm/vmx/vmx.c")
            self.assertEqual(sorted(path.name for path in there.iterdir()),
                             ["vmx", "x86.c", "x86.o"])

    def test_fits(self):
        for name in ("kvm-intel", "variants/patched/kvm", "variants/patched/kvm-intel"):
            path = self.file(f"top/b/host/{name}.ko", "")
            path.write_bytes(b"a=b\0vermagic=5.10.0-32-amd64 SMP \0c=d\0")
        self.assertEqual(self.run_it(self.steps, "fits", "b/host", "patched"),
                         (0, "", ""))
        path.write_bytes(b"vermagic=5.10.0-33-amd64 SMP \0")
        self.assertSays("b/host/variants/patched/kvm-intel.ko is for 5.10.0-33-amd64 "
                        "SMP , and the kernel is 5.10.0-32-amd64 SMP ",
                        "fits", "b/host", "patched")


class Runs(common.Case):
    """riglib/host.py, with something else in the place of host/swap."""

    RESULTS = ("KTAP version 1\n# rig: host cpu: 1 x CPU\n    KTAP version 1\n"
               "    # Subtest: boot\n    ok 1 reached init\n    1..1\nok 1 boot\n1..1\n"
               "# rig: totals: pass 1 fail 0 skip 0\n")

    def run_with(self, script):
        swap = self.folder / "swap"
        swap.write_text(f"#!/bin/sh\n{script}\n")
        swap.chmod(0o755)
        made = plan.Plan("host", "5.10", str(self.folder), "s", "v", False, "c", "host",
                         "x", "i", boots=[plan.Boot("host", "host", "host", 1, [], {})])
        (self.folder / "results").write_text(self.RESULTS)
        with mock.patch("builtins.print"):
            return host.run(made, self.folder / "out", str(swap))

    def test_refusal(self):
        with self.assertRaisesRegex(Wrong, "^swap: KVM is in use by x"):
            self.run_with("echo swap: KVM is in use by x >&2; exit 1")

    def test_ends(self):
        write = f"cp {self.folder}/results $4\n"
        self.assertTrue(self.run_with(write).whole)
        shutil.rmtree(self.folder / "out")
        ending = self.run_with(write + "echo swap: the KVM is NOT back; exit 1")
        self.assertEqual((ending.whole, ending.why), (False, "swap: the KVM is NOT back"))
        shutil.rmtree(self.folder / "out")
        ending = self.run_with("head -n 3 " + write[3:].replace(" $4", " >$4"))
        self.assertEqual((ending.whole, ending.why),
                         (False, "it ended without a verdict"))

    def test_interrupted(self):
        """Whoever is impatient, what has begun to be put back is waited for."""
        self.interrupt("")

    def test_interrupted_at_once(self):
        """As soon as there is somebody to be waited for."""
        self.interrupt(f"""
class Popen(subprocess.Popen):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        while not Path("{self.folder}/begun").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)
host.subprocess.Popen = Popen
""")

    def interrupt(self, before):
        swap = self.folder / "swap"
        swap.write_text(f"""#!/bin/sh
trap 'trap "" TERM; touch {self.folder}/told; /bin/sleep 0.7; touch {self.folder}/back
      exit 130' TERM
touch {self.folder}/begun
while :; do /bin/sleep 0.05; done
""")
        swap.chmod(0o755)
        code = f"""
import os, signal, subprocess
from pathlib import Path
from riglib import children, host, plan
children.heed_signals()
{before}
made = plan.Plan("host", "5.10", "{self.folder}", "s", "v", False, "c", "host", "x", "i",
                 boots=[plan.Boot("host", "host", "host", 1, [], {{}})])
host.run(made, Path("{self.folder}/out"), "{swap}")
"""
        with common.Popen(
                [sys.executable, "-B", "-c", code], stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": "tools/rig"}) as rig:
            for name, number in (("begun", signal.SIGINT), ("told", signal.SIGTERM)):
                while not (self.folder / name).exists():
                    self.assertIsNone(rig.poll())
                    time.sleep(0.01)
                rig.send_signal(number)
                rig.send_signal(signal.SIGHUP)
            _, err = rig.communicate()
        self.assertTrue((self.folder / "back").exists(), "it was not waited for")
        self.assertIn("KeyboardInterrupt", err)

    def test_the_plan(self):
        """Of a host that runs, all is where it lies here."""
        made = plan.Plan("host", "5.10", str(self.folder), "s", "v", False, "c", "host",
                         "x", "i", variants=["patched"])
        test = plan.Test("t", "t", "own", 4, "-", 9, __file__, "host")
        made.tests = [test]
        plan.add_boot(made, "host", "host", "host", 4, ["patched"])
        said = pack.init_plan(made.boots[0])
        folder = self.folder.resolve()
        self.assertEqual(said, f"group patched\nload {folder}/variants/patched/kvm.ko\n"
                         f"load {folder}/variants/patched/kvm-intel.ko\n"
                         f"test t 9 {Path(__file__).resolve()}\n"
                         "unload kvm_intel\nunload kvm\n")

    def test_the_tests(self):
        """On all CPUs; what is for one and for two is run once; no KUnit."""
        def table(*_):
            for program, source, cpus in (("smp", "series", 1), ("smp", "series", 2),
                                          ("race", "series", 2), ("bench", "rig", 1),
                                          ("k-kunit", "kunit", 1)):
                yield plan.Test(plan.label(program, source, "-", cpus), program, source,
                                cpus, "-", 9, __file__, "host")
        for count, names in ((1, ["smp", "bench"]), (8, ["smp", "race", "bench"])):
            made = plan.Plan("host", "5.10", str(self.folder), "s", "v", False, "c",
                             "host", "x", "i")
            with mock.patch.object(plan, "tests_of_table", table), \
                    mock.patch.object(plan.os, "cpu_count", lambda n=count: n), \
                    mock.patch.object(plan, "new_plan", lambda *_, one=made: (
                        plan.Tree(self.folder), one)):
                made = plan.plan_host(self.folder, "host")
            self.assertEqual([test.name for test in made.tests], names)
            self.assertEqual({test.cpus for test in made.tests}, {count})
            [boot] = made.boots
            for variant in ("unpatched", "patched"):
                self.assertEqual([step.name for step in boot.steps[variant]
                                  if step.test], names)

    def test_costs(self):
        """In cycles, with how far apart they are, and said to be real."""
        found = self.recorded().results()
        self.assertNotIn(" rounds, from ", text.of_tests(found, []))
        found.plan.machine, found.plan.cpu_time = "host", "TSC cycles, median"
        found.plan.vmx = machines.MACHINES["host"].emulator()
        figure = found.record("bench", "patched").figures["cost-16"]
        said = text.of_tests(found, [])
        self.assertIn(f"  patched, 16 ranges: {figure['rounds']} rounds, from "
                      f"{figure['min']} to {figure['max']}\n", said)
        self.assertIn("  VMX     real, in the kernel that runs here\n", said)
        self.assertIn("filter of 16 ranges, in TSC cycles, median", said)

    def test_dependencies(self):
        for name, needs in (("irqbypass", ""), ("kvm", "irqbypass"), ("kvm-intel", "kvm")):
            (self.folder / f"{name}.ko").write_bytes(
                b"a=b\0depends=" + needs.encode() + b"\0")
        self.assertEqual(pack.dependencies(self.folder).split("\n"), [
            "irqbypass.ko: ", "kvm-intel.ko: kvm.ko irqbypass.ko",
            "kvm.ko: irqbypass.ko", ""])
        (self.folder / "irqbypass.ko").unlink()
        with self.assertRaisesRegex(Wrong, "kvm.ko needs irqbypass.ko"):
            pack.dependencies(self.folder)


class Images(common.Case):
    """Of an emulated host with a kernel of Debian's own: it has a plan, and what it
    runs has another."""

    def image(self, what):
        made = plan.Plan(what, "5.10", str(self.folder), "s", "v", False, "c", "stock",
                         "x", "i", variants=["patched"])
        step = plan.Step("load kvm.ko", "load /variants/patched/kvm.ko")
        made.boots = [plan.Boot("stock", "stock", "stock", 1, ["patched"],
                                {"patched": [step]})]
        modules = f"modules/lib/modules/{RELEASE}"
        for name in ("rig/init", "rig/live", "release", "variants/patched/kvm.ko",
                     f"{modules}/kvm.ko"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{RELEASE}\n" if name == "release" else name)
        image = pack.image(made, "stock")
        with mock.patch.object(pack.Image, "applets"), \
                mock.patch.object(pack.Image, "finish"):
            image.make()
        # "file PATH SOURCE MODE 0 0"
        found = {path: Path(entry.split()[2]) for path, entry in image.entries.items()
                 if entry.startswith("file ")}
        self.assertEqual(found["/host/plan"].read_text(),
                         "group patched\nload /variants/patched/kvm.ko\n")
        self.assertEqual(found[f"/lib/modules/{RELEASE}/modules.dep"].read_text(),
                         "kvm.ko: \n")
        for name in ("/host/swap", "/tests/rig/stock.sh",
                     f"/lib/modules/{RELEASE}/kvm.ko", "/variants/patched/kvm.ko"):
            self.assertTrue(found[name].exists(), name)
        return found

    def test_host_test(self):
        lines = self.image("host")["/plan.1"].read_text().split("\n")
        self.assertEqual([line.split()[1] for line in lines if line], [
            "stock", "load", "busy", "SIGINT", "SIGTERM", "all", "nobody"])


if __name__ == "__main__":
    unittest.main()
