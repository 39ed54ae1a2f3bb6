# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the rig's scripts share.  Source it first:  . "${0%/*}/lib.sh"
# It puts the script at the top of the repository.

set -eu
# From tools/rig/setup it is two folders up, and from here three.
cd "${0%/*}/../.."
[ -f tools/rig/steps/lib.sh ] || cd ..

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

# How long something has run that began at $1; and how long it will yet, where $2 is a
# file that says how long it took the last time.
so_far() {
	now=$(($(date +%s) - $1)) last=0
	[ ! -f "$2" ] || read -r last _ <"$2" || last=0
	printf '%dm%02ds' $((now / 60)) $((now % 60))
	[ "$last" -le "$now" ] ||
		printf ', %dm%02ds left' $(((last - now) / 60)) $(((last - now) % 60))
}

# Stop unless the disk that holds $1 has $2 MiB free.
need_space() {
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$2" ] ||
		die "$1 has $free MiB free, $2 MiB are needed: make room," \
		    "or move build/ (a link will do) or CACHE="
}

# The line of the log $1 that says why it ends in a failure, and of what a compiler
# shows below it up to $2 lines.  That is the first error of a compiler, a linker,
# Kconfig or the like.  A program or a file that is not there may be no matter, so
# of these it is the one right above make's first complaint.  "Error 2", which make
# repeats for each make above it, explains nothing: only when there is no more, and
# then the first.  Or the last line.
first_error() {
	awk -v more="${2:-0}" '
	{ sub(/\r$/, ""); line[NR] = $0; if ($0 != "") last = NR }
	# Not what V=1 shows of commands, and not what is only a warning.
	/(^|[ ;&(@])echo / { next }
	/[Ww]arning: / && !/treated as error/ { next }
	/^make(\[[0-9]+\])?: \*\*\* .*Error [0-9]+( \(ignored\))?$/ ||
	/^make(\[[0-9]+\])?: \*\*\* .* (Terminated|Killed|Interrupt)/ ||
	/^make(\[[0-9]+\])?: \*\*\* Waiting for unfinished jobs/ {
		if (!/ignored|Waiting/ && !make)
			make = NR
		next
	}
	/^make(\[[0-9]+\])?: .*(No rule to make target|Stop\.$)/ ||
	/^[^ ]+: \*\*\* .*Stop\.$/ ||
	/(^|[^A-Za-z0-9_"])[Ee]rror:( |$)/ ||
	/^[^"]*(^|[ :])ERROR: / || /^(error|fatal|E): ?/ || /: fatal(:| )/ ||
	/treated as error/ ||
	/undefined reference to|multiple definition of|ld[a-z.]*: cannot find/ ||
	/[Kk]config[^ ]*:[0-9]+: / || /recursive dependency detected/ ||
	/syntax error|internal compiler error|[Ss]egmentation fault/ ||
	/No space left on device|[Cc]annot allocate memory/ ||
	/^[A-Za-z_][A-Za-z0-9_.]*(Error|Exception): / ||
	/^\*\*\* [A-Za-z]/ || /^Failed to / || /Can.t locate .* in @INC/ {
		if (!hard)
			hard = NR
		next
	}
	/: (command )?not found$/ || /No such file or directory/ ||
	/[Cc]annot (find|open|stat|access|execute|create)/ || /[Cc]an.t open/ ||
	/Permission denied|Is a directory|Killed$/ {
		if (!make || !soft)
			soft = NR
	}
	END {
		at = hard ? hard : soft ? soft : make ? make : last
		if (!at)
			exit
		# Sphinx has the cause below that.
		print line[at] (line[at] ~ /error:$/ ? " " line[++at] : "")
		while (more-- > 0 && line[++at] ~ /^ *[0-9]* \|/)
			print line[at]
	}' "$1"
}

# The same for a person to read, and where the rest is.
explain() {
	[ ! -s "$1" ] || first_error "$1" 3
	echo "the whole log: ${1#"$PWD"/}"
}

# Author and sign-off are one and the same, the subject names the subsystem, and
# the changelog of the patch $1 has no line longer than 75 characters but for references.
changelog_is_right() {
	awk '
	/^From: / && !from { from = substr($0, 7) }
	/^Subject: / { subject = $0 }
	/^$/ && !body { body = 1 }
	/^---$/ && !done { done = 1 }
	/^Signed-off-by: / && !done { signed = substr($0, 16) }
	body && !done && length($0) > 75 && !/^(Link|Fixes|Signed-off-by):/ {
		print "longer than 75: " $0
	}
	body && !done && /^This patch/ { print "imperative mood, please: " $0 }
	END {
		if (from != signed)
			print "author " from ", but signed off by " signed
		if (subject !~ /\] KVM: [A-Za-z0-9 ]*: /)
			print "no KVM: prefix: " subject
	}' "$1"
	grep -q '^base-\(version\|commit\): ' "$1" ||
		echo "it does not say what it is based on"
}
