"""Which problem document each exception becomes."""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from structlog import get_logger

from api.problems import MAX_ERRORS, STATUS, Fault, Problem, invalid_request, problem_response
from jobs.errors import JobsError, SettingsConflict

_Handler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]

_HTTP_CODES: Final[Mapping[int, str]] = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
}

log = get_logger()


def _asked_for(error: Problem) -> Problem:
    return error


def _from_jobs(error: JobsError) -> Problem:
    if isinstance(error, SettingsConflict):
        return invalid_request([Fault(pointer, message) for pointer, message in error.faults])
    if error.code not in STATUS:
        log.error("unmapped_error", code=error.code, error=str(error))
        return _from_anything(error)
    faults = [Fault("/settings/base_model", str(error))] if error.code == "unknown_base_model" else []
    return Problem(error.code, str(error), errors=faults)


def _from_parameters(error: RequestValidationError) -> Problem:
    faults = [Fault("/".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
    if all(fault.pointer.startswith("path/") for fault in faults):
        # An id that is not even a UUID is, to its sender, an id that does not exist.
        return Problem("not_found", "there is nothing by this id")
    return Problem("invalid_parameter", f"{faults[0].pointer}: {faults[0].message}", errors=faults[:MAX_ERRORS])


def _from_http(error: HTTPException) -> Problem:
    return Problem(_HTTP_CODES.get(error.status_code, "bad_request"), str(error.detail), headers=error.headers)


def _from_disconnect(_: ClientDisconnect) -> Problem:
    # Nobody reads this; it keeps a client that hung up from looking like a fault of ours in the log.
    return Problem("bad_request", "the connection was closed before the body was whole")


def _from_database(error: Exception) -> Problem:
    log.error("database_unavailable", error=str(error.__cause__ or error))
    return Problem("database_unavailable", "the database does not answer; try again", headers={"Retry-After": "5"})


def _from_anything(_: Exception) -> Problem:
    return Problem("internal_error", "something broke on our side; the log of the API says what")


def _answering(convert: Callable[[Any], Problem]) -> _Handler:
    async def handle(request: Request, error: Exception) -> Response:
        return problem_response(convert(error), instance=request.url.path)

    return handle


_CONVERTERS: Final[Mapping[type[Exception], Callable[[Any], Problem]]] = {
    Problem: _asked_for,
    JobsError: _from_jobs,
    RequestValidationError: _from_parameters,
    HTTPException: _from_http,
    ClientDisconnect: _from_disconnect,
    OperationalError: _from_database,
    InterfaceError: _from_database,
    PoolTimeout: _from_database,
    Exception: _from_anything,
}

HANDLERS: Final[dict[int | type[Exception], _Handler]] = {
    kind: _answering(convert) for kind, convert in _CONVERTERS.items()
}
"""Exception class to handler, as FastAPI takes it."""
