"""What the stack and the commands do to the service's database."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from jobs.claims import BaseModelSource
from jobs.database import make_engine, make_session_factory, transaction
from jobs.migrating import upgrade
from jobs.repositories import BaseModelRepository


def prepare_database(url: str) -> None:
    """Brings the tables up to date; the base models that come with the package are registered by a migration."""
    with _engine(url) as engine:
        upgrade(engine)


def register_base_model(
    url: str, *, name: str, base: BaseModelSource, adapter_config: Mapping[str, Any] | None = None
) -> None:
    """Registers a base model with the service that uses this database, or says anew where it comes from."""
    with _engine(url) as engine, transaction(make_session_factory(engine)) as session:
        BaseModelRepository(session).register(name, **asdict(base), adapter_config=adapter_config)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url, pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()
