"""The way to one arcadapt server: requests, and answers as documents or as errors."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from arcadapt.errors import ApiError, FieldError, ServerUnreachable, UnexpectedAnswer

DEFAULT_URL: Final = "http://127.0.0.1:8000"

M = TypeVar("M", bound=BaseModel)

_NETWORK_RETRIES: Final = 2
"""Retries of the connection itself, before anything was sent."""


class Connection:
    """Talks to one server. `transport` is httpx's, for callers with needs of their own."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url.rstrip("/")
        try:
            self._http = httpx.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=timeout_s,
                transport=transport or httpx.HTTPTransport(retries=_NETWORK_RETRIES),
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ServerUnreachable(f"{base_url} is not a URL: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _fetch(
        self,
        model: type[M],
        method: Literal["GET", "POST"],
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> M:
        answer = self._request(method, path, json=json, params=params, headers=headers, timeout_s=timeout_s)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise unexpected(answer, error) from error

    def _request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        try:
            answer = self._http.request(method, path, json=json, params=params, headers=headers, timeout=timeout)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise refusal(answer)
        return answer

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or repr(error)
        return ServerUnreachable(f"cannot reach the arcadapt server at {self.base_url}: {reason}")


def refusal(answer: httpx.Response) -> ApiError | UnexpectedAnswer:
    """The error that an answer tells of."""
    try:
        problem = answer.json()
        return ApiError(
            code=str(problem["code"]),
            status=answer.status_code,
            title=str(problem.get("title", answer.reason_phrase)),
            detail=str(problem.get("detail", "")),
            errors=tuple(FieldError(fault["pointer"], fault["message"]) for fault in problem.get("errors", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnexpectedAnswer(
            f"{answer.request.method} {answer.request.url} answered {answer.status_code} {answer.reason_phrase}"
            " without a problem document: is this an arcadapt server?"
        )


def unexpected(answer: httpx.Response, error: ValidationError) -> UnexpectedAnswer:
    """The error for an answer that is no such document."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the document"
    return UnexpectedAnswer(f"{answer.request.url} is not what arcadapt answers: {where}: {first['msg']}")
