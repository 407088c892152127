"""The local stack as a whole: up in the right order, looked after, down in the reverse order.

PostgreSQL, migrations, base models, Valkey, then the API, the worker and beat. Where the environment names external
servers, those are used instead of the embedded ones.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx

from arcadapt.errors import Interrupted, StackError
from arcadapt.stack.child import Child, ChildSpec, start_log
from arcadapt.stack.database import prepare_database
from arcadapt.stack.folder import FolderLock, RunningStack, StackFolder
from arcadapt.stack.ports import LOOPBACK, bind, is_loopback
from arcadapt.stack.postgres import EmbeddedPostgres
from arcadapt.stack.services import api_service, beat_service, service_environment, worker_services
from arcadapt.stack.valkey import EmbeddedValkey
from arcadapt.stack.watchdog import Watchdog
from jobs.config import parse_api_keys
from jobs.errors import ConfigurationError

PREFERRED_PORT: Final = 8000
POLL_S: Final = 0.1
SERVER_START_S: Final = 30.0
API_START_S: Final = 120.0
HOPELESS_DEATHS: Final = 5
SERVERS: Final = ("postgres", "valkey")
"""What the other children stand on."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What the user may choose."""

    host: str = LOOPBACK
    port: int | None = None
    """None takes 8000, or any free port where that is taken."""
    num_workers: int = 1

    def check(self) -> None:
        """Refuses to open the service to other machines without keys, and keys that are none."""
        try:
            keys = parse_api_keys(os.environ.get("ARCADAPT_API_KEYS", ""))
        except ConfigurationError as error:
            raise StackError(str(error)) from error
        if not is_loopback(self.host) and not keys:
            raise StackError(
                f"--host {self.host} would let other machines in; set ARCADAPT_API_KEYS to the keys that may use the "
                "service, or stay on 127.0.0.1"
            )


class Stack:
    """One local stack. Use as a context manager: entering starts everything, leaving stops everything.

    `stopping` interrupts the start-up; it is set by signal handlers. `say` gets one line per event.
    """

    def __init__(
        self, folder: StackFolder, *, options: StackOptions, stopping: threading.Event, say: Say = lambda _: None
    ) -> None:
        self.folder = folder
        self._options = options
        self._stopping = stopping
        self._say = say
        self._cleanup = ExitStack()
        self._children: list[Child] = []
        self._socket: socket.socket | None = None
        self._running: RunningStack | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> RunningStack:
        """Where the stack's parts are. Raises `StackError` before it is up."""
        if self._running is None:
            raise StackError("the stack is not up")
        return self._running

    @property
    def children(self) -> tuple[Child, ...]:
        """In the order in which they were started."""
        return tuple(self._children)

    def tend(self) -> None:
        """Starts again what has died. To be called every second or so by whoever owns the stack."""
        for child in self._children:
            if child.retry_at is None and not child.running:
                code = child.exit_code
                child.bury()
                last_words = child.log_tail(lines=1)
                self._say(
                    f"{child.spec.name} died ({_ending(code)}): {last_words}; starting it again. {child.spec.log}"
                )
            if child.retry_at is not None and time.monotonic() >= child.retry_at:
                child.start()
                self._announce()

    def hopeless(self) -> Child | None:
        """A child that keeps dying right after its start."""
        return next((child for child in self._children if child.deaths >= HOPELESS_DEATHS), None)

    def stop(self) -> None:
        """Stops everything, last started first, then lets go of the folder. Harmless when repeated."""
        for child in self._children:
            if child.spec.name not in SERVERS:  # they do not stand on one another, so they may stop side by side
                child.ask_to_stop()
        for child in reversed(self._children):
            if not child.stop():
                self._say(f"{child.spec.name} did not stop in time and was killed")
        self._children.clear()
        self._running = None
        self._cleanup.close()

    def _start(self) -> None:
        self._options.check()
        self.folder.create()
        self._cleanup.enter_context(FolderLock(self.folder))
        self._cleanup.callback(self.folder.withdraw)
        listening = bind(self._options.host, port=self._options.port, preferred=PREFERRED_PORT)
        self._cleanup.callback(listening.close)
        watchdog = Watchdog()
        self._cleanup.callback(watchdog.close)
        database_url = self._database(watchdog)
        broker_url = self._broker(watchdog)
        env = service_environment(self.folder, database_url=database_url, broker_url=broker_url)
        self._launch(api_service(self.folder, listening=listening, env=env), watchdog)
        for worker in worker_services(self.folder, env=env, num_workers=self._options.num_workers):
            self._launch(worker, watchdog)
        self._launch(beat_service(self.folder, env=env), watchdog)
        url = self._url(listening)
        self._wait(lambda: _ready(url), what="the API", patience_s=API_START_S)
        self._running = RunningStack(url=url, database_url=database_url, pid=os.getpid())
        self._announce()

    def _database(self, watchdog: Watchdog) -> str:
        url = os.environ.get("ARCADAPT_DATABASE_URL", "").strip()
        if url:
            self._say("using the PostgreSQL of ARCADAPT_DATABASE_URL")
        else:
            postgres = EmbeddedPostgres(self.folder)
            self._cleanup.callback(postgres.clean_up)
            self._launch(postgres.prepare(), watchdog)
            self._wait(postgres.ready, what="PostgreSQL", patience_s=SERVER_START_S)
            postgres.create_database()
            url = postgres.url()
        self._check_stopping()
        try:
            prepare_database(url)
        except Exception as error:
            raise StackError(f"cannot prepare the database: {error}") from error
        return url

    def _broker(self, watchdog: Watchdog) -> str:
        url = os.environ.get("ARCADAPT_BROKER_URL", "").strip()
        if url:
            self._say("using the broker of ARCADAPT_BROKER_URL")
            return url
        valkey = EmbeddedValkey(self.folder)
        self._launch(valkey.prepare(), watchdog)
        self._wait(valkey.ready, what="Valkey", patience_s=SERVER_START_S)
        return valkey.url

    def _launch(self, spec: ChildSpec, watchdog: Watchdog) -> None:
        self._check_stopping()
        start_log(spec.log)
        child = Child(spec, watchdog)
        self._children.append(child)
        try:
            child.start()
        except OSError as error:
            raise StackError(f"cannot start {spec.name}: {error}") from error

    def _wait(self, ready: Callable[[], bool], *, what: str, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not ready():
            self._check_stopping()
            dead = _dead(self._children)
            if dead is not None:
                raise StackError(
                    f"{dead.spec.name} died while starting ({_ending(dead.exit_code)}):\n{dead.log_tail()}"
                )
            if time.monotonic() > deadline:
                tail = self._children[-1].log_tail() if len(self._children) == 1 else ""
                raise StackError(
                    f"{what} is not ready after {patience_s:.0f} s; see {self.folder.logs}\n{tail}".rstrip()
                )
            self._stopping.wait(POLL_S)

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Interrupted("interrupted while starting")

    def _url(self, listening: socket.socket) -> str:
        host, port = listening.getsockname()[:2]
        shown = LOOPBACK if host in {"0.0.0.0", "::"} else host  # noqa: S104 - comparing, not binding
        return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"

    def _announce(self) -> None:
        if self._running is None:
            return
        pids = {child.spec.name: child.pid for child in self._children if child.pid is not None and child.running}
        self._running = RunningStack(
            url=self._running.url, database_url=self._running.database_url, pid=os.getpid(), children=pids
        )
        self.folder.announce(self._running)


def _dead(children: Iterable[Child]) -> Child | None:
    return next((child for child in children if not child.running), None)


def _ready(url: str) -> bool:
    try:
        # A proxy of the environment has no business between us and loopback.
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
