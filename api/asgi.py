"""What an ASGI server runs: `uvicorn --factory api.asgi:create`."""

from fastapi import FastAPI

from api.app import create_app
from jobs.config import ServiceConfig


def create() -> FastAPI:
    """The application for the configuration in `ARCADAPT_*` environment variables."""
    return create_app(ServiceConfig.from_env())
