"""PostgreSQL and Valkey as the local stack embeds them, for the time of a benchmark."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import redis

from arcadapt.stack.child import Child, ChildSpec
from arcadapt.stack.database import prepare_database
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.ports import LOOPBACK, bind
from arcadapt.stack.postgres import SUPERUSER, EmbeddedPostgres
from arcadapt.stack.services import api_service, service_environment
from arcadapt.stack.valkey import EmbeddedValkey
from arcadapt.stack.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own."""

    name: str
    url: str
    server_url: str

    def active_s(self) -> float:
        """Seconds that the server has spent on what clients of this database asked, commits included.

        PostgreSQL's own account (`pg_stat_database.active_time`), as far as its clients' connections have reported.
        """
        spent = "SELECT active_time FROM pg_stat_database WHERE datname = %s"
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            (milliseconds,) = connection.execute(spent, (self.name,)).fetchone() or (0.0,)
        return float(milliseconds) / 1000

    def tidy(self) -> None:
        """Does what autovacuum does in the minutes after many rows were written."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers, and databases in one of them."""

    folder: StackFolder
    postgres: EmbeddedPostgres
    broker_url: str
    watchdog: Watchdog

    def version(self) -> str:
        """PostgreSQL's."""
        with psycopg.connect(self.postgres.url(SUPERUSER)) as connection:
            return connection.info.parameter_status("server_version") or ""

    @contextmanager
    def database(self, name: str) -> Iterator[Database]:
        """A new database for the time of the block, and an empty broker."""
        self.empty_broker()
        server_url = self.postgres.url(SUPERUSER)
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = self.postgres.url(name)
        prepare_database(url)
        yield Database(name, url, server_url)
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def empty_broker(self) -> None:
        """Forgets all messages."""
        with redis.Redis.from_url(self.broker_url) as connection:
            connection.flushall()

    @contextmanager
    def api(self, database: Database) -> Iterator[httpx.Client]:
        """The API on this database, in a process of its own as in the local stack, and a client of it."""
        env = service_environment(self.folder, database_url=database.url, broker_url=self.broker_url)
        with (
            closing(bind(LOOPBACK, port=None, preferred=0)) as listening,
            httpx.Client(base_url=f"http://{LOOPBACK}:{listening.getsockname()[1]}", trust_env=False) as client,
            _running(api_service(self.folder, listening=listening, env=env), lambda: _answers(client), self.watchdog),
        ):
            yield client


@contextmanager
def embedded_servers(folder: Path) -> Iterator[Servers]:
    """Both servers, under `folder`, with the configuration that the local stack gives them."""
    stack_folder = StackFolder.of(folder)
    stack_folder.create()
    with ExitStack() as cleanup:
        watchdog = Watchdog()
        cleanup.callback(watchdog.close)
        postgres, valkey = EmbeddedPostgres(stack_folder), EmbeddedValkey(stack_folder)
        cleanup.callback(postgres.clean_up)
        for spec, ready in ((postgres.prepare(), postgres.ready), (valkey.prepare(), valkey.ready)):
            cleanup.enter_context(_running(spec, ready, watchdog))
        yield Servers(stack_folder, postgres, valkey.url, watchdog)


@contextmanager
def _running(spec: ChildSpec, ready: Callable[[], bool], watchdog: Watchdog) -> Iterator[None]:
    child = Child(spec, watchdog)
    child.start()
    try:
        while not ready():
            if not child.running:
                raise RuntimeError(f"{spec.name} died while starting:\n{child.log_tail()}")
            time.sleep(0.05)
        yield
    finally:
        child.stop()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False
