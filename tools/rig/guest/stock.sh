#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In an emulated host that runs Debian's own kernel: what "make host-test" does, and
# whether the kernel's own KVM is there afterwards as it was before.
#
#	stock.sh load			the kernel's own KVM, not quite by default
#	stock.sh busy			while a VM runs, its process is named, and all stays
#	stock.sh interrupted SIGNAL	that signal, while a test runs
#	stock.sh nobody			no KVM was loaded, and none is afterwards
#	stock.sh all			all of the plan
#
# The plan's console and results are the host's third and fourth serial ports.

set -eu
export PATH=/bin
swap=/host/swap

die() {
	echo "stock.sh: $*" >&2
	exit 1
}

# Run it, with what it says in /tmp/said; sets status.
quietly() {
	status=0
	"$@" >/tmp/said 2>&1 </dev/null || status=$?
	cat /tmp/said
}

unchanged() {
	$swap state >/tmp/after
	cmp /tmp/before /tmp/after || die "the modules are others than before"
	echo "as before:" "$(grep -v = /tmp/after)"
}

load() {
	modprobe kvm_intel nested=1 ple_gap=0
	$swap state
	[ -c /dev/kvm ]
}

# A real VM.
busy() {
	/tests/rig/live >/tmp/live 2>&1 &
	vm=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 1
		# shellcheck disable=SC2010 # the links, not their names
		! ls -l /proc/$vm/fd | grep -q kvm-vcpu || break
	done
	quietly $swap run false
	[ $status = 1 ] || die "it does not refuse: status $status"
	grep -q "^swap: KVM is in use by live (process $vm): end that first\$" /tmp/said ||
		die "it does not say by whom KVM is used"
	kill -KILL $vm || die "the VM has ended: $(cat /tmp/live)"
	wait $vm || :
}

# The first test of the plan runs, with a KVM of ours.
interrupted() {
	{
		until grep -q 'rig: running' /tmp/results 2>/dev/null; do
			sleep 1
		done
		$swap state >/tmp/during
		kill -s "$1" "$(cat /tmp/pid)"
	} &
	# What a shell has in the background would never see a SIGINT.
	# shellcheck disable=SC2016 # for that shell
	quietly sh -c 'echo $$ >/tmp/pid; exec "$@"' sh \
		$swap run /init /host/plan /tmp/results
	[ $status = 130 ] || die "status $status"
	! cmp -s /tmp/before /tmp/during || die "nothing had been swapped"
	grep '^Bail out!' /tmp/results || die "the tests were not told to end"
	rm /tmp/results
}

nobody() {
	rmmod kvm_intel
	rmmod kvm
	rmmod irqbypass
	$swap state >/tmp/before
	[ ! -s /tmp/before ] || die "something is loaded still"
	quietly $swap run true
	[ $status = 0 ] || die "status $status"
}

all() {
	stty raw 115200 </dev/ttyS2
	status=0
	$swap run /init /host/plan /dev/ttyS3 >/dev/ttyS2 2>/tmp/said </dev/null ||
		status=$?
	cat /tmp/said
	[ $status = 0 ] || die "status $status"
}

case $1 in
load)
	load
	;;
*)
	$swap state >/tmp/before
	"$@"
	unchanged
	;;
esac
