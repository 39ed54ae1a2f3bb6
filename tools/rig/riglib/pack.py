# SPDX-License-Identifier: GPL-2.0-only
"""What boots: a kernel, and an initramfs with init, its plan and what that needs."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

from . import kut, plan as plans
from .errors import Wrong
from .machines import (CLEAR_CPUID, CLEAR_CPUID_SUITE, COMMAND_LINE, MACHINES)

BUSYBOX = "/bin/busybox"
QEMU = "/usr/bin/qemu-system-x86_64"
# What QEMU opens for a guest that has a kernel and a serial port.
QEMU_OPENS = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin",
              "/usr/share/qemu/multiboot_dma.bin", "/usr/share/qemu/kvmvapic.bin")
# What guest/gcov-dump.c has said, in a boot's folder.
COUNTED = "counted"
GRUB = """set timeout=0
menuentry rig {
	linux /boot/bzImage %s
	initrd /boot/initramfs.gz
}
"""


def init_plan(boot):
    """A boot's steps as init reads them."""
    lines = []
    for variant in boot.variants:
        lines.append(f"group {variant}")
        lines += [step.line for step in boot.steps[variant]]
    return "\n".join(lines) + "\n"


class Image:
    """An initramfs in the making: gen_init_cpio's list, without anything twice."""

    def __init__(self, plan, name):
        self.plan, self.name = plan, name
        self.folder = Path(plan.folder)
        self.path = self.folder / "images" / plan.what / name
        self.boots = [boot for boot in plan.boots if boot.image == name]
        self.machine = MACHINES[self.boots[0].machine]
        self.suite = plan.what == "suite"
        self.entries = {}

    def dir(self, path):
        for parent in reversed(Path(path).parents):
            if str(parent) != "/":
                self.entries.setdefault(str(parent), f"dir {parent} 755 0 0")
        self.entries.setdefault(path, f"dir {path} 755 0 0")

    def file(self, path, source, mode=755):
        if not Path(source).exists():
            raise Wrong(f"{source} is to be in the image, and was not built")
        self.dir(str(Path(path).parent))
        self.entries.setdefault(path, f"file {path} {source} {mode} 0 0")

    def written(self, path, name, text, mode=644):
        (self.path / name).write_text(text)
        self.file(path, self.path / name, mode)

    def module_paths(self):
        """Of all variants, in the order that they are loaded in."""
        return [path for boot in self.boots for steps in boot.steps.values()
                for step in steps for path in re.findall(r"/(variants/\S+)", step.line)]

    def modules(self):
        for path in self.module_paths():
            self.file(f"/{path}", self.folder / path, 644)

    def tests(self):
        cpus = {boot.cpus for boot in self.boots}
        found = []
        for test in self.plan.tests:
            if (test.source == "kunit" or test.machine != self.machine.name or
                    test.cpus not in cpus or not Path(test.file).exists()):
                continue
            self.file(f"/tests/{test.source}/{Path(test.file).name}", test.file)
            # What a script runs lies beside it.
            beside = Path(test.file).with_suffix("")
            if test.file.endswith(".sh") and beside.exists():
                self.file(f"/tests/{test.source}/{beside.name}", beside)
                found.append(str(beside))
            elif not test.file.endswith(".sh"):
                found.append(test.file)
        return found

    def libraries(self, programs):
        """What the programs of the suite need, which are not static."""
        said = subprocess.run(["ldd", *programs, BUSYBOX], capture_output=True,
                              text=True, check=False).stdout
        for path in sorted(set(re.findall(r"/[^ :\n]*\.so[^ :\n]*", said))):
            self.file(path, path)
            # For pthread_cancel(), which opens it when it is called.
            if path.endswith("libc.so.6"):
                gcc = path.replace("libc.so.6", "libgcc_s.so.1")
                self.file(gcc, gcc)

    def surroundings(self):
        """What the suite's scripts take for granted."""
        if self.machine.name == "bochs":
            self.file("/nmi-tick.ko", self.folder / "rig/nmi-tick/nmi-tick.ko", 644)
        self.written("/etc/passwd", "passwd", "root:x:0:0::/:/bin/sh\n")
        self.written("/bin/sudo", "sudo", "#!/bin/sh\nexec \"$@\"\n", 755)
        self.applets()

    def applets(self):
        self.file("/bin/busybox", BUSYBOX)
        applets = subprocess.run([BUSYBOX, "--list"], capture_output=True,
                                 text=True, check=True).stdout.split()
        for applet in applets:
            self.entries.setdefault(f"/bin/{applet}",
                                    f"slink /bin/{applet} busybox 777 0 0")

    def qemu(self):
        """QEMU, its guest, and a guest that has all that but its own init."""
        self.qemu_itself()
        self.file("/vmm/bzImage", self.folder / "obj/arch/x86/boot/bzImage", 644)
        init = {"/init": f"file /init {self.folder / 'rig/vmm'} 755 0 0"}
        devices = {path: entry for path, entry in self.entries.items()
                   if path.startswith("/dev")}
        self.initramfs({**devices, **init}, "guest.gz")
        self.file("/vmm/guest.gz", self.path / "guest.gz", 644)

        nested, names = dict(self.entries), []
        nested["/vmm/modules"] = "dir /vmm/modules 755 0 0"
        for path in self.module_paths():
            name = Path(path).name
            names.append(name)
            nested[f"/vmm/modules/{name}"] = \
                f"file /vmm/modules/{name} {self.folder / path} 644 0 0"
        (self.path / "list").write_text("".join(f"{name}\n" for name in names))
        nested |= {"/vmm/modules/list":
                   f"file /vmm/modules/list {self.path / 'list'} 644 0 0", **init}
        self.initramfs(nested, "nested.gz")
        self.file("/vmm/nested.gz", self.path / "nested.gz", 644)

    def qemu_itself(self):
        for path in (QEMU, *QEMU_OPENS):
            self.file(path, path)
        self.libraries([QEMU])
        self.applets()

    def begin(self):
        """What every image has."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self.dir("/dev")
        self.entries["/dev/console"] = "nod /dev/console 600 0 0 c 5 1"
        self.file("/init", self.folder / "rig/init")
        for boot in self.boots:
            # The first boot and its repeat are one and the same.
            self.written(f"/plan.{boot.cpus}", f"plan.{boot.cpus}", init_plan(boot))
        self.modules()

    def make(self):
        self.begin()
        programs = self.tests()
        if self.suite:
            self.libraries(programs)
            self.surroundings()
        if self.plan.what == "vmm":
            self.qemu()
        if self.plan.what == "kut":
            self.qemu_itself()
            for path, source in kut.files(self.plan):
                self.file(path, source)
        large = self.suite or self.plan.what in ("vmm", "kut")
        memory = self.machine.suite_memory if large else self.machine.memory
        more = CLEAR_CPUID_SUITE if self.suite else CLEAR_CPUID
        if self.plan.what == "kut":
            more += f" {kut.COMMAND_LINE}"
        self.finish(memory, more)
        if self.machine.name == "nested":
            Host(self).make()

    def finish(self, memory, more):
        """The machine that it is for, the kernel, and the initramfs."""
        (self.path / "memory").write_text(f"{memory}\n")
        (self.path / "cmdline").write_text(
            f"{COMMAND_LINE} {more} {self.machine.command_line}".rstrip() + "\n")
        if self.plan.what == "coverage":
            (self.path / "third-port").write_text(f"{COUNTED}\n")
        shutil.copy(self.kernel(), self.path / "bzImage")
        self.initramfs(self.entries, "initramfs.gz")
        if self.machine.name in ("bochs", "stock"):
            self.iso()

    def kernel(self):
        return self.folder / "obj/arch/x86/boot/bzImage"

    def initramfs(self, entries, name):
        listing = self.path / f"{name}.list"
        listing.write_text("\n".join(entries.values()) + "\n")
        done = subprocess.run(
            [self.folder / "obj/usr/gen_init_cpio", "-t", "0", listing],
            capture_output=True, check=False)
        if done.returncode:
            raise Wrong(f"gen_init_cpio: {done.stderr.decode().strip()}")
        (self.path / name).write_bytes(
            gzip.compress(done.stdout, compresslevel=6, mtime=0))

    def iso(self):
        """Bochs boots from a medium only."""
        iso = self.path / "iso"
        (iso / "boot/grub").mkdir(parents=True)
        for name in ("bzImage", "initramfs.gz"):
            shutil.copy(self.path / name, iso / "boot")
        cmdline = (self.path / "cmdline").read_text().strip()
        (iso / "boot/grub/grub.cfg").write_text(GRUB % cmdline)
        done = subprocess.run(
            ["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o",
             self.path / "boot.iso", iso], capture_output=True, text=True,
            check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().split("\n")[-1]
            raise Wrong(f"grub-mkrescue: {said}")
        shutil.rmtree(iso)


class Host(Image):
    """The image of an emulated host that runs QEMU, with another one as its guest."""

    def __init__(self, guest):
        super().__init__(guest.plan, guest.name)
        self.guest = guest.path
        self.path = guest.path / "host"
        boot, self.programs = plans.host_boot(guest.plan, guest.boots[0])
        self.boots = [boot]
        self.machine = MACHINES["bochs"]
        self.entries = {}

    def make(self):
        self.begin()
        for test in self.programs:
            self.file(f"/tests/rig/{Path(test.file).name}", test.file)
        self.qemu_itself()
        for name in ("bzImage", "initramfs.gz"):
            self.file(f"/guest/{name}", self.guest / name, 644)
        # As it is there, but for the folder.
        command = MACHINES["kvm"].command(self.guest, self.guest, self.boots[0].cpus)
        self.written("/guest/command", "command", "".join(
            word.replace(str(self.guest), "/guest") + "\n" for word in command))
        self.finish(self.machine.suite_memory, CLEAR_CPUID)


class Stock(Image):
    """The image of an emulated host with a kernel of Debian's own, whose modules of KVM
    make room for ours: its own plan is plans.stock_steps(), that of the boot is for
    what that runs."""

    def kernel(self):
        return self.folder / "vmlinuz"

    def make(self):
        self.begin()
        [boot] = self.boots
        self.entries.pop(f"/plan.{boot.cpus}")
        self.written("/host/plan", "plan", init_plan(boot))
        self.written(f"/plan.{boot.cpus}", "host-plan",
                     init_plan(plans.stock_boot(boot)))
        self.tests()
        self.file("/host/swap", "tools/rig/host/swap")
        self.file("/tests/rig/stock.sh", "tools/rig/guest/stock.sh")
        self.file("/tests/rig/live", self.folder / "rig/live")
        self.applets()
        for path in sorted((self.folder / "modules").rglob("*.ko")):
            self.file(f"/{path.relative_to(self.folder / 'modules')}", path, 644)
        self.written(f"/lib/modules/{self.release()}/modules.dep", "modules.dep",
                     dependencies(self.folder / "modules"))
        self.finish(self.machine.memory, CLEAR_CPUID)

    def release(self):
        return (self.folder / "release").read_text().strip()


def dependencies(folder):
    """modules.dep, of what the modules below a folder say of themselves."""
    needs = {}
    for path in sorted(Path(folder).rglob("*.ko")):
        found = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        needs[path.stem] = found[1].decode().split(",") if found and found[1] else []

    def all_of(name):
        for one in needs[name]:
            one = one if one in needs else one.replace("_", "-")
            if one not in needs:
                raise Wrong(f"{name}.ko needs {one}.ko, and that is not here")
            yield one
            yield from all_of(one)

    return "".join(f"{name}.ko: " + " ".join(
        f"{one}.ko" for one in dict.fromkeys(all_of(name))) + "\n" for name in needs)


def image(plan, name):
    [machine] = {boot.machine for boot in plan.boots if boot.image == name}
    return (Stock if machine == "stock" else Image)(plan, name)


def images(plan):
    for name in dict.fromkeys(boot.image for boot in plan.boots):
        image(plan, name).make()
