#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In an emulated host that runs Debian's own kernel: "make livepatch", with VMs that
# run throughout.
#
#	livepatch.sh host		all of it: the VMs, and the plan, whose console and
#					results are the host's third and fourth serial ports
#	livepatch.sh load|unload	of that plan: so it is done
#	livepatch.sh vm STATE		of that plan: what the VM of live.c has seen since
#					the last time; it has to have seen that STATE, and
#					nothing that is wrong
#	livepatch.sh l2 STATE		likewise, of live-l2.c: nothing may be wrong when
#					the livepatch is enabled, and something has to be
#					when it is absent

set -eu
export PATH=/bin

die() {
	echo "livepatch.sh: $*" >&2
	exit 1
}

host() {
	modprobe kvm_intel
	mount -t tracefs tracefs /sys/kernel/tracing
	for vm in live live-l2; do
		/tests/rig/$vm /sys/kernel/livepatch/kvm_msr_filter_livepatch \
			>>/tmp/$vm 2>&1 &
		echo $! >/tmp/$vm.pid
	done
	stty raw 115200 </dev/ttyS2
	/init /host/plan /dev/ttyS3 >/dev/ttyS2 </dev/null || die "init: status $?"
	for vm in live live-l2; do
		kill -KILL "$(cat /tmp/$vm.pid)" ||
			die "$vm has ended: $(cat /tmp/$vm)"
	done
}

# Print what the VM $1 has seen; /tmp/$1 has it, too.
ask() {
	: >"/tmp/$1"
	# It has had some time in this state.
	sleep 2
	kill -USR1 "$(cat "/tmp/$1.pid")" || die "$1 has ended: $(cat "/tmp/$1")"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		! grep -q '^end$' "/tmp/$1" || break
		sleep 1
	done
	cat "/tmp/$1"
	grep -q '^end$' "/tmp/$1" || die "$1 does not say anything"
}

case $1 in
host) host ;;
vm)
	ask live
	awk -F, -v state="$2" '
	$1 == "live" { wrong += $4; if ($2 == state) seen = $3 }
	END { exit wrong || !seen }
	' /tmp/live || die "something is wrong, or $2 was not seen"
	;;
l2)
	ask live-l2
	awk -F, -v state="$2" '
	$1 == "live-l2" && $2 == state { seen = $3; wrong = $4 }
	$1 == "live-l2" && $2 == "enabled" && $4 { bad = 1 }
	END { exit bad || !seen || state == "absent" && !wrong }
	' /tmp/live-l2 || die "it is not as it should be, or $2 was not seen"
	;;
load) /host/livepatch load /host/kvm-msr-filter-livepatch.ko ;;
unload) /host/livepatch unload ;;
esac
