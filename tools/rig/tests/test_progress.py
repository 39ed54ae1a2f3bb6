# SPDX-License-Identifier: GPL-2.0-only
"""What a user sees of long targets: how far they are, and how long they will be."""

import contextlib
import io
import json
import os
import pty
import subprocess
from unittest import mock

import common
from riglib import stages
from riglib.views import terminal

BOLD = "\x1b[1m"


def on_terminal(command, env=(), cwd=None):
    """What a program writes to a terminal, standard error too."""
    ours, theirs = pty.openpty()
    with common.Popen(command, stdout=theirs, stderr=theirs, cwd=cwd,
                      stdin=subprocess.DEVNULL, env={**os.environ, **dict(env)}):
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):	# its other end is closed
            while chunk := os.read(ours, 4096):
                said += chunk
    os.close(ours)
    return said.decode()


class Terminal(common.Case):
    PAINT = ["/usr/bin/python3", "-B", "-c", "from riglib.views.terminal import painted;"
             "print(painted('words', 'bold'))"]
    ENV = {"PYTHONPATH": "tools/rig", "NO_COLOR": ""}

    def test_colours_on_a_terminal_only(self):
        self.assertIn(f"{BOLD}words", on_terminal(self.PAINT, self.ENV))
        done = common.run(self.PAINT, env={**os.environ, **self.ENV}, check=True,
                          capture_output=True, text=True)
        self.assertEqual(done.stdout, "words\n")

    def test_no_color(self):
        said = on_terminal(self.PAINT, {**self.ENV, "NO_COLOR": "1"})
        self.assertEqual(said, "words\r\n")

    def line(self, took, done, of, seconds):
        progress = terminal.Progress("BOOT", took)
        progress.terminal, progress.start = True, progress.start - seconds
        with contextlib.redirect_stderr(io.StringIO()) as said:
            progress.show(done, of, "tests")
        return said.getvalue().partition("BOOT")[2].strip()

    def test_by_the_last_time(self):
        took = self.folder / "log/boot.took"
        self.assertEqual(self.line(took, 1, 10, 5), "1 of 10 tests, 0m05s")
        progress = terminal.Progress("BOOT", took)
        progress.start -= 100
        progress.done(5)
        self.assertRegex(self.line(took, 1, 10, 5),
                         "^1 of 10 tests, 0m05s, 3m1[45]s left$")
        self.assertEqual(self.line(took, 9, 10, 205), "9 of 10 tests, 3m25s")

    def test_spoilt(self):
        took = self.folder / "boot.took"
        for content in ("", "x y", "1", "1 0"):
            took.write_text(content)
            self.assertEqual(self.line(took, 1, 10, 5), "1 of 10 tests, 0m05s")

    def test_run_step(self):
        step = common.HERE.parent / "steps/run-step"
        log = self.folder / "log"
        (self.folder / "log.took").write_text("90 4\n")
        said = on_terminal([step, "KVM", "patched", log, "0", "sh", "-c",
                            "echo one; sleep 0.2"])
        self.assertRegex(said, "KVM     patched  [0-9]+ (%|lines), 0m0.s, 1m[23].s left")
        self.assertRegex((self.folder / "log.took").read_text(), "^[0-9] 1\n$")
        # That it took so long is kept only where it went well.
        on_terminal([step, "KVM", "patched", log, "0", "false"])
        self.assertRegex((self.folder / "log.took").read_text(), "^[0-9] 1\n$")

    def test_stages(self):
        def stage(name):
            return stages.Stage(name, ["sh", "-c", f"printf '1..1\\nok 1 - x\\n' "
                                f">{self.folder}/{name}"], f"{self.folder}/{name}")

        made = [stage("a"), stage("b")]
        notes = self.folder / "notes"
        with mock.patch.object(stages, "STAGES", notes), \
                mock.patch.object(stages, "state", lambda: None), \
                mock.patch.object(stages, "stages", lambda *_: made):
            for seconds, wanted in ((50, "a: 1 of 2, 0m00s, not counting 2 that"),
                                    (30, "a: 1 of 2, 0m00s, 1m40s left\n")):
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    stages.Runner("test", []).run()
                self.assertIn(wanted, said.getvalue())
                for path in notes.iterdir():
                    note = json.loads(path.read_text())
                    path.write_text(json.dumps({**note, "seconds": seconds}))
            # Another command of the same name says nothing of this one.
            made[0].command.append("more")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                stages.Runner("test", []).run()
            self.assertIn("0m30s left, not counting 1 that", said.getvalue())
