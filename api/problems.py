"""Everything that is not the asked-for answer: RFC 9457 problem documents, and the one table from code to HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from arc_engine.tasks import escape_pointer

MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 100

STATUS: Final[Mapping[str, HTTPStatus]] = {
    "invalid_json": HTTPStatus.BAD_REQUEST,
    "invalid_cursor": HTTPStatus.BAD_REQUEST,
    "invalid_range": HTTPStatus.BAD_REQUEST,
    "bad_request": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "not_found": HTTPStatus.NOT_FOUND,
    "no_adapter": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "invalid_transition": HTTPStatus.CONFLICT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
    "batch_unfinished": HTTPStatus.CONFLICT,
    "reserved_name": HTTPStatus.CONFLICT,
    "artifact_missing": HTTPStatus.GONE,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "range_not_satisfiable": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "invalid_request": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid_parameter": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unknown_base_model": HTTPStatus.UNPROCESSABLE_ENTITY,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "database_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The HTTP status of every `code`. A code of `jobs.errors` that is missing here is our fault, hence a 500."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (JSON pointer into the body, or `query/limit`), and what."""

    pointer: str
    message: str


class Problem(Exception):
    """Answers the request with a problem document."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers
        self.extra = extra or {}


class FaultModel(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(
        description="RFC 6901 pointer into the request body, or the parameter at fault: `query/limit`, `header/...`."
    )
    message: str


class ProblemModel(BaseModel):
    """RFC 9457 problem document; `code` is stable, `detail` is for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:arcadapt:problem:invalid_request",
                "title": "Unprocessable Entity",
                "status": 422,
                "code": "invalid_request",
                "detail": "/tasks/abc/train/0/input/3/2: 12 is not in 0..9",
                "instance": "/solve",
                "errors": [{"pointer": "/tasks/abc/train/0/input/3/2", "message": "12 is not in 0..9"}],
            }
        }
    )

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    errors: list[FaultModel]


def invalid_request(faults: Sequence[Fault]) -> Problem:
    """The body is JSON but not a request of ours; `faults` must not be empty."""
    detail = f"{faults[0].pointer or '/'}: {faults[0].message}"
    if len(faults) > 1:
        detail += f" (and {len(faults) - 1} more)"
    return Problem("invalid_request", detail, errors=faults[:MAX_ERRORS])


def pointer_to(*tokens: str | int) -> str:
    """The RFC 6901 pointer to a place in the body."""
    return "".join(f"/{escape_pointer(str(token))}" for token in tokens)


def problem_response(problem: Problem, *, instance: str) -> JSONResponse:
    """`problem` as a response."""
    status = STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document = {
        "type": f"urn:arcadapt:problem:{problem.code}",
        "title": status.phrase,
        "status": status.value,
        "code": problem.code,
        "detail": problem.detail,
        "instance": instance,
        "errors": [{"pointer": fault.pointer, "message": fault.message} for fault in problem.errors],
        **problem.extra,
    }
    headers = None if problem.headers is None else dict(problem.headers)
    return JSONResponse(document, status_code=status.value, headers=headers, media_type=MEDIA_TYPE)
