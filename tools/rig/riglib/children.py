# SPDX-License-Identifier: GPL-2.0-only
"""Programs that the rig starts: none outlives it, however it ends."""

import ctypes
import signal
import subprocess

PR_SET_PDEATHSIG = 1
PATIENCE = 20			# seconds for a child to clean up after itself
LIBC = ctypes.CDLL(None)


def dies_with_us(number=signal.SIGKILL):
    """For a child, before it becomes another program: what it gets when we die."""
    LIBC.prctl(PR_SET_PDEATHSIG, number)


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def heeded(*numbers):
    """Return the signals that were not ignored at start: nohup ignores HUP, and "&" in a
    script ignores INT."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


def heed_signals():
    """TERM and HUP are what Ctrl-C is: an end, with what is begun put back."""
    for number in (signal.SIGTERM, *heeded(signal.SIGHUP)):
        signal.signal(number, interrupt)


def end(child):
    """End a child that has to clean up after itself."""
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


def output(command, text="", **options):
    """The CompletedProcess of a program, with what it prints on either stream."""
    # pylint: disable=subprocess-popen-preexec-fn
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
        preexec_fn=lambda: dies_with_us(signal.SIGTERM), **options)
    try:
        said, _ = child.communicate(text)
    except KeyboardInterrupt:
        end(child)
        raise
    return subprocess.CompletedProcess(command, child.returncode, said)


def run(command):
    """The exit status of a program that cleans up after itself when it is told to
    end, and so is waited for."""
    # pylint: disable=subprocess-popen-preexec-fn
    child = subprocess.Popen(command, preexec_fn=lambda: dies_with_us(signal.SIGTERM))
    try:
        status = child.wait()
    except KeyboardInterrupt:
        end(child)
        raise
    # As shells have it, and make: ended by a signal, or by Ctrl-C.
    if status in (130, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    return status
