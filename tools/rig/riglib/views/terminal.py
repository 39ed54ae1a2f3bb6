# SPDX-License-Identifier: GPL-2.0-only
"""Progress: on a terminal the same line again and again, in a log one a minute.  How
long the last run took is kept, and says how long this one will yet."""

import os
import sys
import time
from pathlib import Path

COLOURS = {"bold": 1, "red": 31, "green": 32}


def clock(seconds):
    return f"{int(seconds) // 60}m{int(seconds) % 60:02}s"


def left(seconds):
    return f", {clock(seconds)} left" if seconds > 0 else ""


def painted(text, colour):
    """For standard output, where that is a terminal and the user has not said no."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


class Progress:
    def __init__(self, label, took=None):
        """took: the file that says how long how much took the last time."""
        self.label = label
        self.took = took
        try:
            seconds, n = map(float, Path(took).read_text().split())
            self.each = seconds / n
        except (OSError, ValueError, TypeError, ZeroDivisionError):
            self.each = 0.0
        self.start = time.monotonic()
        self.minutes = 0
        self.terminal = sys.stderr.isatty()

    def show(self, done, of, what, now=""):
        seconds = time.monotonic() - self.start
        line = (f"  {self.label:<8}{done} of {of} {what}, {clock(seconds)}"
                f"{left(self.each * of - seconds)}")
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

    def done(self, n):
        """It has come to its end: keep how long that took."""
        if self.took and n:
            Path(self.took).parent.mkdir(parents=True, exist_ok=True)
            Path(self.took).write_text(f"{time.monotonic() - self.start:.1f} {n}\n")

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
