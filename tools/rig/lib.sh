# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the rig's scripts share.  Source it first:  . "${0%/*}/lib.sh"
# It puts the script at the top of the repository.

set -eu
cd "${0%/*}/../.."

# The rig's own lines are in English and sorted by bytes, whatever the user's
# locale, and no git setting of the user's changes what the rig does.
export LC_ALL=C GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

# Nor does a variable that is meant for another build, or for a make above us.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CPPFLAGS LDFLAGS LDLIBS ARCH \
	CROSS_COMPILE KBUILD_OUTPUT KCFLAGS O

# One line on what is wrong and what to do, and out.
die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

say() {
	echo "$*"
}

# As Kbuild announces a step.
step() {
	printf '  %-8s%s\n' "$1" "$2"
}

# Stop unless the disk that holds $1 has $2 MiB free.
need_space() {
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$2" ] ||
		die "$1 has $free MiB free, $2 MiB are needed: make room," \
		    "or move build/ (a link will do) or CACHE="
}

# The last lines of a log, for a failure that it explains.
tail_log() {
	tail -n 20 "$1" | sed 's/^/    /' >&2
}
