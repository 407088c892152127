"""The local stack with real processes, as the command `arcadapt up` runs it."""

import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import redis

from arcadapt import Client
from arcadapt.stack.folder import RunningStack
from tests.arcadapt.stack.up import Up, alive, until
from tests.fixtures.records import TASK_JSON

Start = Callable[..., Up]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_the_life_of_a_stack(start: Start):
    # One test, because a stack costs seconds.
    up = start()
    running = up.wait_until_up()
    assert set(running.children) == {"postgres", "valkey", "api", "worker", "beat"}
    assert up.folder.announcement.stat().st_mode & 0o077 == 0
    assert_only_we_get_in(running)
    with Client(running.url) as client:
        assert [model.name for model in client.base_models()] == ["arc-mini", "arc-mini-ft"]
        job_id = client.solve(TASK_JSON, settings={"adaptation": {"max_steps": 100_000}}).jobs[0].id

    second = start()
    assert second.process.wait(60) == 5
    assert "already running" in second.output
    assert str(up.process.pid) in second.output
    assert running.url in second.output

    for name in ("worker", "api", "valkey", "postgres"):
        old_pid = up.running.children[name]
        psutil.Process(old_pid).kill()
        until(lambda name=name, old_pid=old_pid: up.running.children.get(name, old_pid) != old_pid)
        until(lambda name=name: f"{name} died (signal 9)" in up.output)
    until(lambda: answers(running.url))

    family = up.family()
    assert len(family) >= 7  # itself, the watchdog and five children
    assert up.stop(signal.SIGTERM) == 0
    assert [process for process in family if alive(process)] == []
    assert not up.folder.announcement.exists()
    assert "stopped" in up.output

    again = start()
    with Client(again.wait_until_up().url) as client:
        assert client.job(job_id).task_id == "task"
        client.cancel(job_id)
    assert again.stop(signal.SIGINT) == 0


def test_a_killed_stack_leaves_nothing_and_starts_again(start: Start):
    up = start()
    up.wait_until_up()
    family = up.family()
    up.process.kill()
    up.process.wait()
    until(lambda: not any(map(alive, family)), patience_s=30, why=lambda: str([p for p in family if alive(p)]))
    again = start()
    again.wait_until_up()
    assert again.stop() == 0


def test_a_database_left_over_by_a_killed_stack_and_its_watchdog_is_ended(start: Start):
    up = start()
    postgres = psutil.Process(up.wait_until_up().children["postgres"])
    backends = postgres.children()
    others = [process for process in up.family() if process != postgres and process not in backends]
    watchdog = next(process for process in others if "watchdog" in " ".join(process.cmdline()))
    for process in (watchdog, *others):  # the watchdog first, so that nobody tidies up
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    up.process.wait()
    assert alive(postgres)
    again = start()
    again.wait_until_up()
    assert not alive(postgres)


def test_servers_of_the_environment_are_used_instead(start: Start, new_database: Callable[..., str], broker_url: str):
    database_url = new_database(migrated=False)
    servers = {"ARCADAPT_DATABASE_URL": database_url, "ARCADAPT_BROKER_URL": broker_url}
    up = start("--workers", "2", environment=servers)
    running = up.wait_until_up()
    assert set(running.children) == {"api", "worker-1", "worker-2", "beat"}
    assert not up.folder.postgres.exists()
    with Client(running.url) as client:
        client.solve(TASK_JSON, settings={"base_model": "arc-mini"})
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_a_deep_folder_with_odd_characters(start: Start, place: Path):
    deep = place / ("long " * 20) / "100% ünusual"
    deep.mkdir(parents=True)
    assert len(str(deep)) > 107
    up = start(folder=deep)
    assert answers(up.wait_until_up().url)


def test_a_taken_port_is_refused(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start("--port", str(port))
        assert up.process.wait(60) == 6
    assert f"port {port} on 127.0.0.1 is taken" in up.output


def test_other_machines_are_not_let_in_without_keys(start: Start):
    up = start("--host", "0.0.0.0")  # noqa: S104
    assert up.process.wait(60) == 6
    assert "ARCADAPT_API_KEYS" in up.output


def test_a_child_that_dies_while_starting_is_shown(start: Start):
    up = start(environment={"ARCADAPT_LEASE_S": "soon"})
    assert up.process.wait(120) == 6
    assert "died while starting" in up.output
    assert "ARCADAPT_LEASE_S is not a number: 'soon'" in up.output
    assert not up.folder.announcement.exists()


def test_an_interrupted_start_leaves_nothing(start: Start):
    up = start()
    until((up.folder.logs / "postgres.log").exists)
    family = up.family()
    assert up.stop(signal.SIGINT) == 130
    assert [process for process in family if alive(process)] == []


def assert_only_we_get_in(running: RunningStack) -> None:
    valkey = psutil.Process(running.children["valkey"])
    listening = [c.laddr for c in valkey.net_connections() if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host="127.0.0.1", port=listening[0].port).ping()
    postgres = psutil.Process(running.children["postgres"])
    assert [c for c in postgres.net_connections() if c.status == psutil.CONN_LISTEN] == []
