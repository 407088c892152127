"""What an ASGI server runs: `uvicorn --factory api.asgi:create`."""

import gc

from fastapi import FastAPI

from api.app import create_app
from jobs.config import ServiceConfig


def create() -> FastAPI:
    """The application for the configuration in `ARCADAPT_*` environment variables."""
    app = create_app(ServiceConfig.from_env())
    # All that is there by now stays. Looking through it once more took 70 ms, in the middle of some answer.
    gc.collect()
    gc.freeze()
    return app
