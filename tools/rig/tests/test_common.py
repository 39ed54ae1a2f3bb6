# SPDX-License-Identifier: GPL-2.0-only
"""What the tests share: programs that get signals."""

import os
import signal
import unittest

import common


class Programs(common.Case):
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
