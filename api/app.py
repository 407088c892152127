"""The application: services, middleware, routes, error handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from api.auth import require_key
from api.dependencies import Services
from api.documentation import DESCRIPTION, document
from api.errors import HANDLERS
from api.limits import BodyLimit
from api.routes import adapters, base_models, batches, experiments, health, jobs, solve
from api.version import VERSION
from jobs.artifacts import ArtifactStore
from jobs.config import ServiceConfig
from jobs.database import make_engine, make_session_factory
from jobs.doorbells import Doorbell, celery_app


def create_app(config: ServiceConfig) -> FastAPI:
    """The API for this configuration. Connects to nothing until the first request needs it."""
    services = _services(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.engine.dispose()

    app = FastAPI(
        title="arcadapt",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        redirect_slashes=False,  # a client that follows them would turn its POST into a GET
    )
    app.state.services = services
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes)
    for guarded in (solve, jobs, adapters, batches, experiments, base_models):
        app.include_router(guarded.router, dependencies=[Depends(require_key)])
    app.include_router(health.router)
    document(app)
    return app


def _services(config: ServiceConfig) -> Services:
    engine = make_engine(config.database_url)
    return Services(
        config=config,
        engine=engine,
        sessions=make_session_factory(engine),
        artifacts=ArtifactStore(config.artifacts_dir),
        doorbell=Doorbell(celery_app(config.broker_url)),
    )
