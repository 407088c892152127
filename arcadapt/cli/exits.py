"""Exit codes, for scripts: what each means, and which error leads to which."""

from enum import IntEnum
from typing import Final

from arc_engine.errors import ContaminatedDataset, EngineError, InvalidTaskSource
from arcadapt.errors import (
    AlreadyRunning,
    ApiError,
    ArcadaptError,
    Interrupted,
    InvalidOverride,
    ServerUnreachable,
    StackError,
    UnexpectedAnswer,
    WaitTimedOut,
)


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    """A job failed or was cancelled, or the work could not be done."""
    USAGE = 2
    """Wrong arguments, a file that is no ARC task, a settings file that cannot be read."""
    UNREACHABLE = 3
    """No arcadapt server answers."""
    REFUSED = 4
    """The server refused the request."""
    ALREADY_RUNNING = 5
    """Another process runs the stack of this folder."""
    STACK = 6
    """The local stack cannot start, or cannot go on."""
    TIMED_OUT = 7
    """`--timeout` is over; the jobs go on."""
    INTERRUPTED = 130
    """Ctrl-C."""


HELP: Final = (
    "Exit codes: 0 ok, 1 a job failed, 2 usage, 3 server unreachable, 4 refused by the server, "
    "5 stack already running, 6 stack trouble, 7 timed out, 130 interrupted."
)

_CODES: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (ServerUnreachable, Exit.UNREACHABLE),
    (UnexpectedAnswer, Exit.UNREACHABLE),
    (ApiError, Exit.REFUSED),
    (InvalidTaskSource, Exit.USAGE),
    (ContaminatedDataset, Exit.USAGE),
    (InvalidOverride, Exit.USAGE),
    (WaitTimedOut, Exit.TIMED_OUT),
    (AlreadyRunning, Exit.ALREADY_RUNNING),
    (Interrupted, Exit.INTERRUPTED),
    (StackError, Exit.STACK),
    (ArcadaptError, Exit.FAILED),
    (EngineError, Exit.FAILED),
)

EXPECTED: Final = (ArcadaptError, EngineError)
"""Errors that are told in a sentence; anything else is a bug and shows its traceback."""


def exit_code(error: Exception) -> Exit:
    """The exit code of an expected error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))
