#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run QEMU in an emulated host by the very command that VMX=kvm has, which is in
# /guest/command, a word a line.  What it calls console.log and results.ktap are the
# host's third and fourth serial ports, so that they come out of it.

set -eu
PATH=/usr/bin:/bin

cd /tmp
for file in ttyS2:console.log ttyS3:results.ktap; do
	stty raw 115200 <"/dev/${file%%:*}"
	ln -s "/dev/${file%%:*}" "${file#*:}"
done

while IFS= read -r word; do
	set -- "$@" "$word"
done </guest/command
exec "$@"
