"""API keys, for a service that is reachable by more than its owner."""

import hmac
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.dependencies import services_of
from api.problems import Problem

_bearer = HTTPBearer(
    auto_error=False, scheme_name="API key", description="Needed when the service was started with API keys."
)


def require_key(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """Lets the request through if no keys are configured or it carries one of them as bearer token."""
    keys = services_of(request).config.api_keys
    if not keys:
        return
    given = b"" if credentials is None else credentials.credentials.encode()
    # Every key is compared, in constant time, so that the answer's timing tells nothing about any of them.
    matches = [hmac.compare_digest(given, key.encode()) for key in keys]
    if not any(matches):
        detail = "send a valid API key: 'Authorization: Bearer <key>'"
        raise Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
