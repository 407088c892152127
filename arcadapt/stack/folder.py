"""The stack's folder, `.arcadapt/`: what lies where, who owns it now, and under which URL its server answers."""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from arcadapt.errors import AlreadyRunning, StackError

FOLDER_NAME: Final = ".arcadapt"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What clients need to know of a stack that is up; kept in `stack.json`, readable by the owner only."""

    url: str
    database_url: str
    pid: int
    children: dict[str, int] = field(default_factory=dict)
    """Process ids by child name."""


@dataclass(frozen=True, slots=True)
class StackFolder:
    """Paths inside the state folder of one local stack."""

    root: Path

    @classmethod
    def of(cls, working_directory: Path) -> "StackFolder":
        """The stack folder of a working directory."""
        return cls(working_directory.resolve() / FOLDER_NAME)

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def beat(self) -> Path:
        return self.root / "beat"

    @property
    def announcement(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def create(self) -> None:
        """Makes the folders that are not there yet."""
        try:
            for folder in (self.root, self.logs, self.artifacts, self.work, self.beat):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot use {self.root}: {error.strerror or error}") from error

    def announce(self, running: RunningStack) -> None:
        """Tells clients where the server is."""
        write_private(self.announcement, json.dumps(asdict(running), indent=2) + "\n")

    def withdraw(self) -> None:
        """The server is gone."""
        self.announcement.unlink(missing_ok=True)

    def announced(self) -> RunningStack | None:
        """What the last owner announced, None when it withdrew it. It may have been killed since."""
        try:
            return RunningStack(**json.loads(self.announcement.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step; only its owner may read it, because URLs can carry passwords."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


class FolderLock:
    """Holds the folder for this process. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: StackFolder) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Raises `AlreadyRunning` that names the owner."""
        descriptor = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise AlreadyRunning(self._refusal(owner)) from error
        except OSError as error:
            os.close(descriptor)
            raise StackError(f"cannot lock {self._folder.lock}: {error.strerror}") from error
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.truncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _refusal(self, owner: str) -> str:
        running = self._folder.announced()
        process = f"process {owner}" if owner else "another process"
        where = f" at {running.url}" if running is not None and str(running.pid) == owner else ""
        return f"the stack in {self._folder.root} is already running ({process}){where}"
