"""A database that is away for a while."""

from sqlalchemy import make_url, text

from jobs.database import make_engine


class Outage:
    """A database that takes no connections, and drops those that it has."""

    def __init__(self, server_url: str, database_url: str) -> None:
        self._server_url = server_url
        self._name = make_url(database_url).database

    def begin(self) -> None:
        self._allow(False)
        self._run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name", name=self._name)

    def end(self) -> None:
        self._allow(True)

    def _allow(self, allowed: bool) -> None:
        self._run(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS {allowed}")

    def _run(self, statement: str, **parameters: object) -> None:
        engine = make_engine(self._server_url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement), parameters)
        engine.dispose()
