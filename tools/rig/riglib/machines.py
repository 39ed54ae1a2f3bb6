# SPDX-License-Identifier: GPL-2.0-only
"""The machines that a host kernel boots on, as data, and which of them it is to be.

bochs	emulates a CPU with VMX: anywhere
kvm	real VMX, by QEMU with KVM
svm	a CPU with SVM, emulated by QEMU: an AMD host
nested	what kvm does, in a host that bochs emulates: VMX by KVM, on an emulated CPU
host	this one, its kernel as it runs, and its VMX
stock	what host does, on a kernel of Debian's own, in a host that bochs emulates
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import Wrong

BOCHSRC = Path("tools/rig/config/bochsrc")

# nokaslr, norandmaps: the same instructions in every boot.
# highres=off nohz=off: a periodic tick.  Bochs now and then loses a timer
# interrupt around a VM-Exit; a one-shot timer is not armed again then, and the
# host is without a tick for up to minutes of its time, which RCU complains about.
# log_buf_len: what a test makes the kernel say must still be there when init reads.
COMMAND_LINE = ("console=ttyS0,115200 quiet nokaslr norandmaps highres=off "
                "nohz=off log_buf_len=1M")

# clearcpuid=28, i.e. no HTT: Bochs has it say that a package has no threads at
# all, and Linux then takes the other CPUs for threads that are not wanted.
# 158 and 306, i.e. no RDRAND and no RDSEED: Bochs has these from the machine it
# runs on, and what newer kernels make of them is different in each boot.  Not so
# for KVM's own suite: without them feature_msrs_test finds controls of VMX amiss.
CLEAR_CPUID = "clearcpuid=28,158,306"
CLEAR_CPUID_SUITE = "clearcpuid=28 hugepages=64"

# QEMU does not virtualize LBRs.  With this KVM believes that it does, from 6.15 on,
# and passes LBR MSRs through: reads of them give 0 then, writes have no effect.
LBRV = "setcpuid=lbrv"


@dataclass(frozen=True)
class Machine:
    name: str
    vendor: str			# the vendor's module of KVM
    exact: bool			# every boot is the same, to the instruction
    memory: int = 1024		# MiB, for the tests of the series
    suite_memory: int = 2048	# MiB, for KVM's own suite
    accel: tuple = ()		# how QEMU gets its CPU
    command_line: str = ""	# of the host kernel, besides COMMAND_LINE

    @property
    def emulated(self):
        return self.name not in ("kvm", "host")

    @property
    def inside(self):
        """Whether what is of interest runs in a host that bochs emulates, and speaks
        by that one's third and fourth serial ports."""
        return self.name in ("nested", "stock")

    def rows(self):
        """What the table suite calls this machine, the most special first."""
        return {"bochs": ("bochs", "vmx"), "svm": ("svm",)}.get(self.name, ("vmx",))

    def emulator(self):
        if self.name == "bochs":
            done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "bochs"],
                                  capture_output=True, text=True, check=False)
            return f"emulated, by Bochs {done.stdout or 'of unknown version'}"
        if self.name == "nested":
            return (f"nested, on an emulated CPU: {MACHINES['kvm'].emulator()}, in a "
                    f"host with VMX {MACHINES['bochs'].emulator()}").replace("real, ", "")
        if self.name == "host":
            return "real, in the kernel that runs here"
        if self.name == "stock":
            return f"{MACHINES['bochs'].emulator()}, in Debian's own kernel"
        done = subprocess.run(["qemu-system-x86_64", "--version"],
                              capture_output=True, text=True, check=False)
        version = re.search(r"version (\S+)", done.stdout)
        what = "SVM emulated, by" if self.name == "svm" else "real, under"
        return f"{what} QEMU {version[1] if version else 'of unknown version'}"

    def program(self):
        return "bochs-bin" if self.name == "bochs" or self.inside else \
            "qemu-system-x86_64"

    def command(self, image, out, cpus):
        """The emulator's command line; its working folder is out."""
        if not shutil.which(self.program()):
            raise Wrong(f"{self.program()} is not here: make setup")
        if self.program() == "bochs-bin":
            self.prepare_bochs(image / "host" if self.name == "nested" else image,
                               out, cpus)
        if self.inside:
            with open(out / "bochsrc", "a", encoding="utf-8") as rc:
                rc.write(PORTS_INSIDE)
        if self.program() == "bochs-bin":
            return ["bochs-bin", "-q", "-f", "bochsrc", "-rc", "rc"]
        accel = self.accel
        if self.name == "kvm" and os.environ.get("QEMU_ACCEL"):
            accel = os.environ["QEMU_ACCEL"].split()
        return ["qemu-system-x86_64", *accel, "-smp", str(cpus),
                "-m", (image / "memory").read_text().strip(), "-nodefaults",
                "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", str(image / "bzImage"),
                "-initrd", str(image / "initramfs.gz"),
                "-append", (image / "cmdline").read_text().strip(),
                "-serial", "file:console.log", "-serial", "file:results.ktap",
                *(word for name in self.third_port(image)
                  for word in ("-serial", f"file:{name}"))]

    @staticmethod
    def third_port(image):
        """The file for a third serial port, where the image is one that wants it."""
        file = image / "third-port"
        return file.read_text().split() if file.exists() else []

    def prepare_bochs(self, image, out, cpus):
        iso = out / "boot.iso"
        try:
            os.link(image / "boot.iso", iso)
        except OSError:
            shutil.copy(image / "boot.iso", iso)
        text = BOCHSRC.read_text().replace("count=1", f"count={cpus}")
        memory = (image / "memory").read_text().strip()
        text = re.sub(r"(?m)^megs: .*", f"megs: {memory}", text)
        for name in self.third_port(image):
            text += f"com3: enabled=1, mode=file, dev={name}\n"
        (out / "bochsrc").write_text(text)
        # Debian's build waits in its debugger.
        (out / "rc").write_text("c\n")


# A host's own console and results, and what runs in it has in their place.  The last
# word on a port is the one that Bochs heeds.
PORTS_INSIDE = "".join(
    f"com{port}: enabled=1, mode=file, dev={name}\n" for port, name in enumerate(
        ("host-console.log", "host.ktap", "console.log", "results.ktap"), 1))

MACHINES = {machine.name: machine for machine in (
    Machine("bochs", "kvm-intel", exact=True),
    Machine("kvm", "kvm-intel", exact=False, suite_memory=6144,
            accel=("-accel", "kvm", "-cpu", "host")),
    Machine("nested", "kvm-intel", exact=False),
    Machine("host", "kvm-intel", exact=False),
    Machine("stock", "kvm-intel", exact=True),
    Machine("svm", "kvm-amd", exact=False,
            # KVM before 5.15 has no nested page tables of five levels.
            accel=("-accel", "tcg", "-cpu", "max,+svm,-la57"), command_line=LBRV),
)}


def choose(wanted, probe):
    """The machine that VMX= stands for, and why."""
    if wanted not in ("auto", "bochs", "kvm"):
        raise Wrong(f"VMX={wanted} is unknown: choose auto, bochs or kvm")
    if wanted == "bochs":
        return "bochs", "bochs asked for, VMX is emulated"
    done = subprocess.run([str(Path(probe).resolve())], capture_output=True,
                          text=True, check=False)
    why = done.stdout.strip()
    if done.returncode == 0:
        return "kvm", f"kvm asked for, {why}" if wanted == "kvm" else why
    if wanted == "kvm":
        raise Wrong(f"VMX=kvm needs VMX, and {why}; VMX=bochs emulates it")
    return "bochs", f"{why}, so it is emulated"
