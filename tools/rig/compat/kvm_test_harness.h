/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For selftest libraries that don't have this header, i.e. before 6.9.  They define
 * ASSERT_EQ() themselves, for the host, which kselftest_harness.h uses for
 * something else.
 */
#ifndef SELFTEST_KVM_TEST_HARNESS_H
#define SELFTEST_KVM_TEST_HARNESS_H

#include "test_util.h"

#undef ASSERT_EQ
#include "kselftest_harness.h"

/*
 * In these kernels, SKIP() in a fixture's setup doesn't keep the test from running.
 * Exit as the harness does to report a test that was skipped.
 */
#undef SKIP
#define SKIP(statement, fmt, ...)						\
do {										\
	snprintf(_metadata->results->reason,					\
		 sizeof(_metadata->results->reason), fmt, ##__VA_ARGS__);	\
	_exit(255);								\
	statement;								\
} while (0)

#endif /* SELFTEST_KVM_TEST_HARNESS_H */
