"""What routes are given: the services of this process, and one database session per request."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from api.links import Links
from jobs.artifacts import ArtifactStore
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.doorbells import Doorbell


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the API's process owns, made once by `create_app`."""

    config: ServiceConfig
    engine: Engine
    sessions: SessionFactory
    artifacts: ArtifactStore
    doorbell: Doorbell


def services_of(request: Request) -> Services:
    """The services that `create_app` put into the application."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101  for the type checker: state is untyped
    return services


def _session(services: Annotated[Services, Depends(services_of)]) -> Iterator[Session]:
    with transaction(services.sessions) as session:
        yield session


ServicesDep = Annotated[Services, Depends(services_of)]
SessionDep = Annotated[Session, Depends(_session, scope="function")]
"""A session that is committed before the answer goes out.

Under FastAPI's default scope a commit that fails would already have answered 200."""
LinksDep = Annotated[Links, Depends(Links.of)]
