/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs of this folder share.  The headers of the C library are the
 * program's own to include.
 */
#ifndef RIG_GUEST_COMMON_H
#define RIG_GUEST_COMMON_H

#define __printf(fmt, args)	__attribute__((format(printf, fmt, args)))
#define __noreturn		__attribute__((noreturn))
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* The exit status that says so, see tools/testing/selftests/kselftest.h. */
#define KSFT_SKIP	4

#endif
