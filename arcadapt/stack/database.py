"""What the stack does to its database before anything else uses it."""

from typing import Final

from sqlalchemy import Engine

from arc_engine.settings import DEFAULT_BASE_MODEL
from jobs.database import make_engine, make_session_factory, transaction
from jobs.errors import UnknownBaseModel
from jobs.migrating import upgrade
from jobs.repositories.base_models import BaseModelRepository

BUNDLED: Final = (DEFAULT_BASE_MODEL,)


def prepare_database(url: str) -> None:
    """Migrates the database and registers the base models that come with the package."""
    engine = make_engine(url, pool_size=1)
    try:
        upgrade(engine)
        _register_bundled(engine)
    finally:
        engine.dispose()


def register_base_model(url: str, *, name: str, source: str, revision: str | None = None) -> None:
    """Registers a base model with the service that uses this database, or says anew where it comes from."""
    engine = make_engine(url, pool_size=1)
    try:
        with transaction(make_session_factory(engine)) as session:
            BaseModelRepository(session).register(name, source, revision=revision)
    finally:
        engine.dispose()


def _register_bundled(engine: Engine) -> None:
    with transaction(make_session_factory(engine)) as session:
        models = BaseModelRepository(session)
        for name in BUNDLED:
            try:
                models.get(name)  # a user's own model under this name stays
            except UnknownBaseModel:
                models.register(name, f"bundled:{name}")
