"""The real API on a database and a broker of the test's own, and an experiment for it."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import uvicorn

from api.app import create_app
from arcadapt import Client
from jobs.config import ServiceConfig
from jobs.database import SessionFactory
from tests.arcadapt.desk import Desk
from tests.fixtures.records import TASK_JSON

EXPERIMENT = """
tasks:
  - tasks.json
settings:
  adaptation: {max_steps: 30}
  sampling: {num_views: 4}
seeds: [0, 1]
grid:
  adaptation.learning_rate: [1e-3, 2e-3]
"""


@pytest.fixture(autouse=True)
def quiet_server() -> Iterator[None]:
    """The server runs in this process; its log lines must not stand among what commands print."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.configure(**before)


@pytest.fixture
def config(database_url: str, broker_url: str, tmp_path: Path) -> ServiceConfig:
    return ServiceConfig(
        database_url=database_url,
        broker_url=broker_url,
        artifacts_dir=tmp_path / "artifacts",
        work_dir=tmp_path / "work",
    )


@pytest.fixture
def desk(database: SessionFactory, config: ServiceConfig, tmp_path: Path) -> Desk:
    return Desk(database, config, tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[[ServiceConfig], str]]:
    """Starts real HTTP servers, each with a configuration of the test's own, and gives their URLs."""
    stops: list[Callable[[], None]] = []

    def serve(config: ServiceConfig) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(config), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(10)
            listening.close()

        stops.append(stop)
        host, port = listening.getsockname()
        return f"http://{host}:{port}"

    yield serve
    for stop in stops:
        stop()


@pytest.fixture
def server_url(serve: Callable[[ServiceConfig], str], config: ServiceConfig) -> str:
    return serve(config)


@pytest.fixture
def client(server_url: str) -> Iterator[Client]:
    with Client(server_url) as client:
        yield client


@pytest.fixture
def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An experiment with two tasks beside it, in a folder that is not the working directory."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "tasks.json").write_text(json.dumps({"a": TASK_JSON, "b": TASK_JSON}))
    path = folder / "rates.yaml"
    path.write_text(EXPERIMENT)
    return path
