"""Looking again and again at something on a server, which may be away for a moment."""

import time
from collections.abc import Callable
from http import HTTPStatus

from arcadapt.errors import ApiError, ServerUnreachable, WaitTimedOut


def poll(look: Callable[[], bool], *, every_s: float, timeout_s: float | None = None, patience_s: float = 60.0) -> None:
    """Calls `look` until it says that there is nothing left to wait for.

    Raises `WaitTimedOut` after `timeout_s`. Looks that fail because the server is away count as not finished, for up to
    `patience_s` at a stretch.
    """
    started = answered = time.monotonic()
    while True:
        try:
            if look():
                return
            answered = time.monotonic()
        except (ServerUnreachable, ApiError) as error:
            away = isinstance(error, ServerUnreachable) or error.status == HTTPStatus.SERVICE_UNAVAILABLE
            if not away or time.monotonic() - answered > patience_s:
                raise
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise WaitTimedOut(f"not finished after {timeout_s:g} s; the jobs go on")
        time.sleep(every_s)
