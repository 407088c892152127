"""`arcadapt up` as a process, as users run it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from arcadapt.stack.folder import RunningStack, StackFolder

ROOT = Path(__file__).parents[3]
PATIENCE_S = 180.0


def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S, why: Callable[[], str] = str) -> None:
    """Polls until the condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Up:
    """One `arcadapt up` in a folder."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = StackFolder.of(folder)
        self._output = folder / "up.txt"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARCADAPT_")}
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arcadapt", "up", *arguments],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until_up(self) -> RunningStack:
        until(lambda: "arcadapt is up" in self.output or self.process.poll() is not None, why=lambda: self.output)
        assert self.process.poll() is None, self.output
        return self.running

    @property
    def running(self) -> RunningStack:
        running = self.folder.announced()
        assert running is not None
        return running

    def family(self) -> list[psutil.Process]:
        """Its process and all below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.process.wait(PATIENCE_S)
