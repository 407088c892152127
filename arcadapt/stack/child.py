"""One child process of the stack: its command, its log, how it is started, watched and stopped."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # ships no types

from arcadapt.stack.watchdog import Watchdog

TAIL_LINES: Final = 20
TAIL_BYTES: Final = 16_384
STABLE_AFTER_S: Final = 60.0
"""A child that ran for this long is not failing, even if it dies afterwards."""
LONGEST_BACKOFF_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child runs."""

    name: str
    command: Sequence[str]
    log: Path
    cwd: Path
    env: Mapping[str, str] | None = None
    stopping: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)
    """Signals to try in turn, each with the seconds it is given; SIGKILL follows."""
    orphaned: signal.Signals = signal.SIGKILL
    """What the watchdog sends to the whole group when the stack's owner is killed."""
    user: str | None = None
    """System user to run as; PostgreSQL refuses to run as root."""
    pass_fds: Sequence[int] = field(default=())


class Child:
    """A child process in a session of its own, so that the terminal's Ctrl-C reaches only the stack's owner."""

    def __init__(self, spec: ChildSpec, watchdog: Watchdog) -> None:
        self.spec = spec
        self.deaths = 0
        """How often in a row it died soon after its start."""
        self.retry_at: float | None = None
        """When it is due to be started again (monotonic clock); None while it runs."""
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._asked = False

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll() if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the process. Its output goes to the log, which begins anew with the first start."""
        spec = self.spec
        group = None if spec.user is None else _primary_group(spec.user)
        with spec.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the commands are the stack's own
                list(spec.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=spec.cwd,
                env=None if spec.env is None else dict(spec.env),
                start_new_session=True,
                pass_fds=tuple(spec.pass_fds),
                user=spec.user,
                group=group,
                extra_groups=None if group is None else [],
            )
        self._watchdog.guard(self._process.pid, sign=spec.orphaned)
        self._started_at = time.monotonic()
        self._asked = False
        self.retry_at = None

    def bury(self) -> None:
        """After the process died: ends what it left behind, and sets when to try again."""
        if self._process is None:
            return
        self._kill_group(self._process.pid)
        stable = time.monotonic() - self._started_at > STABLE_AFTER_S
        self.deaths = 1 if stable else self.deaths + 1
        self.retry_at = time.monotonic() + min(2.0 ** (self.deaths - 1), LONGEST_BACKOFF_S)

    def ask_to_stop(self) -> None:
        """Sends the first signal and does not wait; `stop` still has to follow."""
        if self._process is not None and not self._asked:
            self._asked = True
            self._process.send_signal(self.spec.stopping[0][0])

    def stop(self) -> bool:
        """Ends the process and all its descendants; whether it obeyed without being killed."""
        process = self._process
        if process is None:
            return True
        descendants = _descendants(process.pid)
        obeyed = self._obeys(process)
        if not obeyed:
            process.kill()
            process.wait()
        self._kill_group(process.pid)
        for descendant in descendants:  # those that moved into a session of their own
            with contextlib.suppress(psutil.Error):
                descendant.kill()
        self._process = None
        return obeyed

    def log_tail(self, *, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        try:
            with self.spec.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = log.read().decode(errors="replace").rstrip()
                return "\n".join(text.splitlines()[-lines:])
        except OSError:
            return ""

    def _obeys(self, process: subprocess.Popen[bytes]) -> bool:
        self.ask_to_stop()
        for number, (sign, patience_s) in enumerate(self.spec.stopping):
            if number:
                process.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                return True
        return False

    def _kill_group(self, group: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self._watchdog.forget(group)


def _primary_group(user: str) -> int:
    import pwd  # noqa: PLC0415 - only where there are users to switch between

    return pwd.getpwnam(user).pw_gid


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def start_log(path: Path) -> None:
    """Begins a log anew and keeps the one before as `<name>.1`."""
    if path.exists() and path.stat().st_size:
        path.replace(path.with_name(f"{path.name}.1"))
    path.touch(mode=0o644)
