# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the scripts for a host that runs share; source it first.  They may run under
# busybox's sh, in an emulated host that has nothing else of the repository.
#
# RIG_ROOT is put before /proc, /sys and /lib/modules: for tests.

set -eu
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
root=${RIG_ROOT-}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

is_loaded() {
	[ -d "$root/sys/module/$1/holders" ]
}

# Why a module of ours would not be taken.
unsigned_is_fine() {
	why=
	if [ "$(cat "$root/proc/sys/kernel/modules_disabled" 2>/dev/null)" = 1 ]; then
		die "this kernel takes no modules any more (kernel.modules_disabled)"
	elif grep -qs '\[[ic]' "$root/sys/kernel/security/lockdown"; then
		why="this kernel is locked down"
	elif grep -qs '^[Y1]' "$root/sys/module/module/parameters/sig_enforce"; then
		why="this kernel takes signed modules only"
	fi
	[ -n "$why" ] || return 0
	# Four bytes of attributes, and then it is on or off.
	for file in "$root"/sys/firmware/efi/efivars/SecureBoot-*; do
		[ -f "$file" ] || continue
		[ "$(od -An -tu1 -j4 -N1 "$file" | tr -d ' ')" != 1 ] ||
			why="Secure Boot is on, and $why"
	done
	die "$why: the modules that are built here are not signed"
}

# Functions that the series adds to KVM.
ours="nested_vmx_update_msr_bitmap kvm_write_down_msr_filter"

# The lines of kallsyms that have one of $1..., as a part of them: the kernel has more
# than a hundred thousand symbols, and busybox takes its time for each that is matched
# with a regular expression.
symbols() {
	for name; do
		set -- "$@" -e "$name"
		shift
	done
	grep -sF "$@" "$root/proc/kallsyms" || :
}

# What every KVM has to be for either to be of use.
can_be_changed() {
	release=$(uname -r)
	[ "$(id -u)" = 0 ] || die "modules are root's to load: run this as root"
	grep -q '^flags.* vmx\( \|$\)' "$root/proc/cpuinfo" ||
		die "this CPU has no VMX, or the firmware has turned it off"
	unsigned_is_fine
	# shellcheck disable=SC2086 # words on purpose
	found=$(symbols $ours)
	for name in $ours; do
		! echo "$found" | grep -q " ${name}[[:space:]].*\[kvm" ||
			die "the KVM of Linux $release has the series already: $name()"
	done
}
