"""The way to Postgres, and the one place that commits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from pydantic_core import from_json
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

SessionFactory: TypeAlias = sessionmaker[Session]


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """An engine for a `postgresql://` URL, through psycopg 3.

    READ COMMITTED is asked for by name because the repositories rely on it: a statement that waited for a row lock must
    look at the row again, and see that its claim is stale.
    """
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=2 * pool_size,
        pool_timeout=10,
        pool_pre_ping=True,
        json_deserializer=from_json,  # grids are most of what is read, and it reads them in half the time
        connect_args={"connect_timeout": 5, "application_name": "arcadapt", "options": "-c timezone=utc"},
    )


def make_session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: SessionFactory) -> Iterator[Session]:
    """A session whose work is committed when the block ends and rolled back when it raises."""
    with factory.begin() as session:
        yield session


def ping(engine: Engine) -> None:
    """Asks the database for an answer; raises SQLAlchemy's `OperationalError` when there is none."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
