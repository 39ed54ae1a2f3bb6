#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run one of kvm-unit-tests, as its x86/run does, and say what came of its checks.
#
#	kut.sh CHECK FILE [QEMU'S ARGUMENT...]
#
# CHECK is as in unittests.cfg: FILE=VALUE words that have to hold, or else the test
# is skipped.  Exit status: 0 pass, 1 fail, 2 if QEMU did not get as far as the test, 4
# skip.  Numbers in what it says are those of one run, so that they do not count; nor does
# the order, which two CPUs may change.

check=$1 file=$2
shift 2
PATH=${PATH:+$PATH:}/usr/bin:/bin
said=${TMPDIR:-/tmp}/kut

for one in $check; do
	[ "$(cat "${one%%=*}" 2>/dev/null)" = "${one#*=}" ] || {
		echo "skipped: it asks for $one"
		exit 4
	}
done

qemu-system-x86_64 --no-reboot -nodefaults -global kvm-pit.lost_tick_policy=discard \
	-device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=0x4 \
	-display none -serial stdio -device pci-testdev -machine accel=kvm \
	-kernel "$file" "$@" </dev/null >"$said.all" 2>"$said.err"
status=$?

# A test that passes ends QEMU with the same status as QEMU's own errors do, but it has
# said something by then.
if [ $status = 1 ] && [ ! -s "$said.all" ]; then
	echo "not run: $(tail -n 1 "$said.err")"
	exit 2
fi

tr -d '\r' <"$said.all" | grep -E '^(PASS|FAIL|SKIP|XFAIL|XPASS): ' |
	sed -e 's/0x[0-9a-fA-F]\{1,\}/N/g' -e 's/[0-9]\{1,\}/N/g' >"$said"
grep -v '^PASS: ' "$said" | sort | uniq -c | head -n 40
echo "checks: $(grep -c '^PASS: ' "$said") passed, $(grep -c '^FAIL: ' "$said") failed," \
	"$(grep -c '^SKIP: ' "$said") skipped; $(sort "$said" | md5sum | cut -c 1-12)"
case $status in
1)
	exit 0
	;;
77)
	echo "skipped: all of its checks are"
	exit 4
	;;
esac
# Where there are no checks, the last thing that was said is why.
[ -s "$said" ] || cat "$said.all" "$said.err" | tail -n 3 | tr -d '\r' | sed 's/[0-9]\{1,\}/N/g'
echo "QEMU's exit status: $status"
exit 1
