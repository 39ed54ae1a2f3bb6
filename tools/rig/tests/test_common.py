# SPDX-License-Identifier: GPL-2.0-only
"""What the tests share: a time limit, and programs that get signals."""

import os
import signal
import time
import unittest

import common


def tests_of(suite):
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from tests_of(one)
        else:
            yield one


class Limit(common.Test):
    def test_a_test_that_hangs(self):
        """It fails by its name, even if its cleanup hangs, too."""
        class Hangs(common.Test):
            seconds, more_seconds = 0.2, 0.3

            def test(self):
                self.addCleanup(time.sleep, 60)
                with common.Popen(["sleep", "60"]) as program:
                    program.wait()

        result = unittest.TestResult()
        Hangs("test").run(result)
        self.assertEqual((result.errors, result.testsRun), ([], 1))
        self.assertEqual([test.id().split(".")[-2:] for test, _ in result.failures],
                         [["Hangs", "test"]] * 2)
        for _, said in result.failures:
            self.assertIn("it still runs after 0.2 s", said)

    def test_all_have_one(self):
        found = unittest.TestLoader().discover(common.HERE, top_level_dir=common.HERE)
        self.assertEqual([test.id() for test in tests_of(found)
                          if not isinstance(test, common.Test)], [])


class Programs(common.Test):
    def test_signals_that_are_ignored_here(self):
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, signal.SIG_IGN)
            command = ["sh", "-c", f"trap 'exit 3' {number:d}; kill -{number:d} $$"]
            self.assertEqual(common.run(command, check=False).returncode, 3)
            with common.Popen(command) as program:
                self.assertEqual(program.wait(), 3)

    def test_none_outlives_a_test_that_fails(self):
        ours, theirs = os.pipe()
        with self.assertRaises(ZeroDivisionError):
            with common.Popen(["sh", "-c", "sleep 60 & wait"], stdout=theirs):
                os.close(theirs)
                raise ZeroDivisionError
        # Its end of the pipe is open as long as one of them lives.
        with open(ours, "rb") as said:
            self.assertEqual(said.read(), b"")


if __name__ == "__main__":
    unittest.main()
