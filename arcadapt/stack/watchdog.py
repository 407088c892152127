"""Ends the stack's processes when the process that started them is gone, however it went.

A process of its own: it sleeps on a pipe whose other end only the stack's owner holds. When the owner is killed, the
kernel closes that end, and the watchdog signals every process group that the owner had announced. Nothing but the
standard library is imported, so that it starts at once and needs no environment (it runs as a script, by its path).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

GRACE_S = 10.0
"""How long the groups have to obey before they are killed."""


class Watchdog:
    """The owner's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own file, no input from outside
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the owner alone
        )

    @property
    def pid(self) -> int:
        """Of the watching process."""
        return self._process.pid

    def guard(self, group: int, *, sign: signal.Signals) -> None:
        """From now on `sign` goes to process group `group` when the owner dies."""
        self._tell(f"+{group} {int(sign)}\n")

    def forget(self, group: int) -> None:
        """The group has ended by itself."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Lets the watchdog end; groups that are still guarded are ended by it."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        # A watchdog that somebody killed is no reason to bring the service down.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line)
            self._pipe.flush()

    @property
    def _pipe(self) -> IO[str]:
        if self._process.stdin is None:
            raise BrokenPipeError
        return self._process.stdin


def watch(lines: IO[str]) -> None:
    """Reads announcements until the owner's end is closed, then ends what is left."""
    guarded: dict[int, int] = {}
    for line in lines:
        if line.startswith("+"):
            group, sign = line[1:].split()
            guarded[int(group)] = int(sign)
        else:
            guarded.pop(int(line[1:]), None)
    _end(guarded)


def _end(guarded: dict[int, int]) -> None:
    for group, sign in guarded.items():
        _signal(group, sign)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and any(_signal(group, 0) for group in guarded):
        time.sleep(0.05)
    for group in guarded:
        _signal(group, signal.SIGKILL)


def _signal(group: int, sign: int) -> bool:
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    # The terminal, a service manager or an impatient user may signal everything in sight; this process must outlive it.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watch(sys.stdin)
