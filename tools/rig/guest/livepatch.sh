#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In an emulated host that runs Debian's own kernel: "make livepatch", with a VM that
# runs throughout.
#
#	livepatch.sh host		all of it: the VM, and the plan, whose console and
#					results are the host's third and fourth serial ports
#	livepatch.sh load|unload	of that plan: so it is done
#	livepatch.sh vm STATE		of that plan: what the VM has seen since the last
#					time; it has to have seen that STATE, and nothing
#					that is wrong

set -eu
export PATH=/bin

die() {
	echo "livepatch.sh: $*" >&2
	exit 1
}

host() {
	modprobe kvm_intel
	mount -t tracefs tracefs /sys/kernel/tracing
	/tests/rig/live /sys/kernel/livepatch/kvm_msr_filter_livepatch \
		>>/tmp/live 2>&1 &
	vm=$!
	echo $vm >/tmp/vm
	stty raw 115200 </dev/ttyS2
	/init /host/plan /dev/ttyS3 >/dev/ttyS2 </dev/null || die "init: status $?"
	kill -KILL $vm || die "the VM has ended: $(cat /tmp/live)"
}

vm() {
	vm=$(cat /tmp/vm)
	: >/tmp/live
	# It has had some time in this state.
	sleep 2
	kill -USR1 "$vm" || die "the VM has ended: $(cat /tmp/live)"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		! grep -q '^end$' /tmp/live || break
		sleep 1
	done
	cat /tmp/live
	grep -q '^end$' /tmp/live || die "the VM does not say anything"
	awk -F, -v state="$1" '
	$1 == "live" { wrong += $4; if ($2 == state) seen = $3 }
	END { exit wrong || !seen }' /tmp/live || die "something is wrong, or was not seen"
}

case $1 in
host) host ;;
vm) vm "$2" ;;
load) /host/livepatch load /host/kvm-msr-filter-livepatch.ko ;;
unload) /host/livepatch unload ;;
esac
