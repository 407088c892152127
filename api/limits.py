"""No request body is read beyond the limit."""

from http import HTTPMethod

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, problem_response


class _OverrunError(Exception):
    """The streamed body has passed the limit."""


class BodyLimit:
    """ASGI middleware that answers 413 to a body over `max_bytes`.

    A declared Content-Length is refused before anything is read; a chunked body is counted as it arrives, because its
    sender declares nothing, and a lying one is cut at the limit.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS}:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_bytes = 0
        started = False

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise _OverrunError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _OverrunError:
            if started:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"a request body has at most {self._max_bytes} bytes; send fewer tasks per request"
        # The rest of the body is never read, so the connection cannot be used again.
        problem = Problem("body_too_large", detail, headers={"Connection": "close"})
        await problem_response(problem, instance=scope["path"])(scope, receive, send)
