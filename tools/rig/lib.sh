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

# Whether $1 is what is built of a tree of the user's: there a bug that a test is to
# find may be mended already.
users_tree() {
	[ "${1##*/}" = ksrc ]
}

# The last lines of a log, for a failure that it explains.
tail_log() {
	tail -n 20 "$1" | sed 's/^/    /' >&2
}

# Put file $1 into README, in place of what is there from line $2 on, to the line
# that begins with $3.
into_readme() {
	awk -v file="$1" -v begin="$2" -v end="$3" '
	index($0, end) == 1 { inside = 0 }
	$0 == begin {
		while ((getline line < file) > 0)
			print line
		inside = 1
	}
	!inside
	' README >README.new
	mv README.new README
}

# What is there of it: the same lines.
from_readme() {
	awk -v begin="$1" -v end="$2" '
	$0 == begin { inside = 1 }
	index($0, end) == 1 { inside = 0 }
	inside' README
}
