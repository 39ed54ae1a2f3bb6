# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# Checks, and what comes of them as TAP.  Source it after lib.sh, define a function
# "checks" that calls "check" for one after the other, and call "run_checks FILE".
#
# The plan comes first, and a check that nothing came of is "not ok ... # not run":
# a file that was cut short, or is of a run that was, cannot be taken for a whole one.

# Do a check: its name, and a command that prints what is wrong, and fails or prints
# something when something is.
check() {
	number=$((number + 1))
	text=$1
	shift
	if [ "$planning" ]; then
		echo "$text" >>"$details"
		return
	fi
	[ ! -t 2 ] || printf '\r\033[K  CHECK   %d of %d, %s: %.40s' "$number" "$planned" \
		"$(so_far "$start" "$tap.took")" "$text" >&2
	"$@" >"$details" 2>&1 </dev/null && good=1 || good=
	[ ! -t 2 ] || printf '\r\033[K' >&2
	if [ "$good" ] && [ ! -s "$details" ]; then
		echo "ok $number - $text" | tee -a "$tap"
	else
		failed=$((failed + 1))
		echo "not ok $number - $text" | tee -a "$tap"
		[ -s "$details" ] || echo "(it failed without a word)" >"$details"
		head -n 40 "$details" | sed 's/^/    # /' | tee -a "$tap"
	fi
	finished=$number
	: >"$details"
}

# Run a long program in the background: a shell runs a trap only when its foreground
# command has ended.
interruptible() {
	"$@" &
	program=$! code=0
	wait "$program" || code=$?
	program=
	return $code
}

# What the checks from here on cannot do without: without it none of them is run.
check_or_stop() {
	before=$failed
	check "$@"
	[ "$failed" = "$before" ] || exit 1
}

not_run() {
	status=$?
	trap - EXIT
	if [ "${program-}" ]; then
		kill "$program" || :
		wait "$program" || :
	fi 2>/dev/null
	if [ "$finished" -lt "$planned" ]; then
		[ $status != 0 ] || status=1
		# The first of them may have begun, and have said why it ends here.
		awk -v n="$finished" -v said="$details" '
		NR > n { print "not ok " NR " - " $0 " # not run" }
		NR == n + 1 {
			while ((getline line <said) > 0)
				print "    # " line
		}' "$plan" | tee -a "$tap"
	fi
	rm -f "$plan" "$details"
	exit $status
}

# All of them, into the file $1, which is new, and to standard output.  The last of
# a script: exit status 1 when something was wrong.
run_checks() {
	tap=$1 plan=$1.plan details=$1.plan
	mkdir -p "${1%/*}"
	: >"$plan"
	number=0 failed=0 finished=0 planning=1 start=$(date +%s)
	checks
	planned=$number details=$1.details number=0 planning=
	trap not_run EXIT
	trap 'exit 130' INT TERM HUP
	echo "1..$planned" | tee "$tap"
	checks
	echo "$(($(date +%s) - start)) $planned" >"$tap.took"
	[ $failed = 0 ]
}
