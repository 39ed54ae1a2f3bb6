# SPDX-License-Identifier: GPL-2.0-only
"""Progress: on a terminal the same line again and again, in a log one a minute."""

import sys
import time


def clock(seconds):
    return f"{int(seconds) // 60}m{int(seconds) % 60:02}s"


class Progress:
    def __init__(self, label):
        self.label = label
        self.start = time.monotonic()
        self.minutes = 0
        self.terminal = sys.stderr.isatty()

    def show(self, done, of, what, now=""):
        seconds = time.monotonic() - self.start
        line = f"  {self.label:<8}{clock(seconds)}  {done} of {of} {what}"
        if now:
            line += f": {now}"
        if self.terminal:
            print(f"\r\033[K{line[:79]}", end="", file=sys.stderr, flush=True)
        elif seconds // 60 > self.minutes:
            self.minutes = seconds // 60
            print(line, flush=True)

    def say(self, text):
        """A line that stays."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, file=sys.stderr, flush=True)

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
