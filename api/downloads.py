"""An artifact as a download: entity tag, conditional requests, ranges."""

import base64
from http import HTTPStatus
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from api.problems import Problem, problem_response


class ArtifactResponse(FileResponse):
    """A file whose bytes never change under its entity tag; a bad Range is answered with a problem document."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: Problem | None = None

        async def intercept(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start":
                refusal = _refusal(message)
            if refusal is None:
                await send(message)

        await super().__call__(scope, receive, intercept)
        if refusal is not None:
            await problem_response(refusal, instance=scope["path"])(scope, receive, send)


def _refusal(start: Message) -> Problem | None:
    match start["status"]:
        case HTTPStatus.BAD_REQUEST:
            return Problem("invalid_range", "the Range header cannot be read; write 'bytes=0-1023'")
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            headers = {name.decode(): value.decode() for name, value in start["headers"] if name == b"content-range"}
            return Problem("range_not_satisfiable", "the file is shorter than this range", headers=headers)
        case _:
            return None


def download(request: Request, path: Path, *, filename: str, media_type: str, sha256: str) -> Response:
    """`path` as an attachment, or 304 if the client has these bytes already. `sha256` is the file's, in hexadecimal."""
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": "private, no-cache",  # kept by the client, asked about each time: the job may be deleted
        "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        "X-Checksum-SHA256": sha256,
    }
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return ArtifactResponse(path, filename=filename, media_type=media_type, headers=headers)


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]  # weak comparison, RFC 9110 13.1.2
    return "*" in tags or etag in tags
