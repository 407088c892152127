"""What routes are given that take a document and may be sent it twice."""

from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Header, Request

from api.problems import Problem

REPLAYED: Final = "Idempotency-Replayed"
"""The header of an answer that repeats an earlier one."""


async def _json_body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        detail = f"send the body as application/json, not {media_type:.100}; with curl: --json @file"
        raise Problem("unsupported_media_type", detail, headers={"Accept": "application/json"})
    return await request.body()


JsonBody: TypeAlias = Annotated[bytes, Depends(_json_body)]
"""The bytes of a JSON body. The route reads them itself, to locate every fault."""

IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern="^[!-~]+$",
        description="Any text of your own. Sent again with the same body, it gives the answer of the first time.",
    ),
]
