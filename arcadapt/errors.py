"""What can go wrong on the user's side of the service.

ArcadaptError
├── ApiError                       the server answered with a problem+json document
├── ServerUnreachable (ConnectionError)  nothing answers under the server's URL
├── UnexpectedAnswer               something answers there, but it is not an arcadapt server
├── WaitTimedOut (TimeoutError)    the jobs are not finished within the time that the caller gave
├── InvalidOverride (ValueError)   a settings file or `--set` that cannot be read
└── StackError (RuntimeError)      the local stack cannot start or go on
    ├── AlreadyRunning             another `arcadapt up` owns the folder
    └── Interrupted           somebody asked the stack to stop while it was starting
"""

from dataclasses import dataclass


class ArcadaptError(Exception):
    """Base of everything that the client, the commands and the local stack raise on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: a JSON pointer into the request body, and what is wrong there."""

    pointer: str
    message: str


class ApiError(ArcadaptError):
    """The server refused a request; the fields are those of its problem+json document (RFC 9457)."""

    def __init__(
        self, *, code: str, status: int, title: str, detail: str = "", errors: tuple[FieldError, ...] = ()
    ) -> None:
        super().__init__(code, status, title, detail, errors)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_api_error, (self.code, self.status, self.title, self.detail, self.errors)

    def __str__(self) -> str:
        lines = [f"{self.status} {self.code}: {self.detail or self.title}"]
        lines += [f"  {error.pointer or '/'}: {error.message}" for error in self.errors]
        return "\n".join(lines)


def _rebuild_api_error(code: str, status: int, title: str, detail: str, errors: tuple[FieldError, ...]) -> ApiError:
    return ApiError(code=code, status=status, title=title, detail=detail, errors=errors)


class ServerUnreachable(ArcadaptError, ConnectionError):
    """No server answers under the URL."""


class UnexpectedAnswer(ArcadaptError):
    """The URL answers, but not as an arcadapt server does."""


class WaitTimedOut(ArcadaptError, TimeoutError):
    """The jobs went on longer than the caller was willing to wait; they are still going on."""


class InvalidOverride(ArcadaptError, ValueError):
    """A settings file or a `--set` override cannot be read."""


class StackError(ArcadaptError, RuntimeError):
    """The local stack cannot start, or cannot go on."""


class AlreadyRunning(StackError):
    """Another process runs the local stack of this folder."""


class Interrupted(ArcadaptError):
    """Ctrl-C or SIGTERM came before the work was done."""
