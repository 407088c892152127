"""Telling workers, through Celery and Redis, that a job waits.

The broker is a hint and the database decides: a doorbell carries an id, may come twice, late or never: no harm.
This is the producer's half; it names the messages and knows nothing of the functions that the workers run for them.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import structlog
from celery import Celery
from kombu import Queue as BrokerQueue
from kombu.exceptions import ChannelError, OperationalError

from jobs.database import SessionFactory, transaction
from jobs.errors import BrokerUnavailable
from jobs.models import OutboxRow
from jobs.repositories.base import Queue
from jobs.repositories.outbox import OutboxRepository
from jobs.repositories.reaper import ReaperRepository

ADAPT: Final = "worker.adapt"
SAMPLE: Final = "worker.sample"
PREPARE: Final = "worker.prepare"
RELAY_OUTBOX: Final = "worker.relay_outbox"
REAP: Final = "worker.reap"
PREPARE_WAITING: Final = "worker.prepare_waiting"
MAINTENANCE_QUEUE: Final = "maintenance"
PREPARE_QUEUE: Final = "prepare"
"""Of its own, so that a base model need not wait behind every job that was queued before it was registered."""

QUEUES: Final = (Queue.ADAPT.value, Queue.SAMPLE.value, PREPARE_QUEUE, MAINTENANCE_QUEUE)

MESSAGE_OF: Final = {Queue.ADAPT.value: ADAPT, Queue.SAMPLE.value: SAMPLE}
"""The message that a worker of each queue listens for. Its one argument is `job_id`, as text."""

PREPARE_EVERY_S: Final = 60.0
"""How often the clock rings again for a base model that still waits."""

PREPARE_EXPIRES_S: Final = 2 * PREPARE_EVERY_S
"""Bells that nobody has heard must not pile up, yet one of them should be good whenever a worker listens again."""

CONNECT_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 5.0

log = structlog.get_logger()


def celery_app(broker_url: str) -> Celery:
    """The Celery configuration that producers and workers share."""
    app = Celery("arcadapt", broker=broker_url, set_as_current=False)
    app.conf.update(
        # Nothing is kept in the broker: a lost message is rung again, a result is a row.
        task_acks_late=False,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        # A worker that holds back a message behind an hour of training keeps it from idle ones.
        worker_disable_prefetch=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[BrokerQueue(name) for name in QUEUES],
        task_default_queue=MAINTENANCE_QUEUE,
        task_create_missing_queues=False,
        task_routes={
            ADAPT: {"queue": Queue.ADAPT.value},
            SAMPLE: {"queue": Queue.SAMPLE.value},
            PREPARE: {"queue": PREPARE_QUEUE},
            PREPARE_WAITING: {"queue": MAINTENANCE_QUEUE},
            RELAY_OUTBOX: {"queue": MAINTENANCE_QUEUE},
            REAP: {"queue": MAINTENANCE_QUEUE},
        },
        # Who rings must not hang on a broker that is down: one connection attempt, then the outbox keeps the doorbell.
        task_publish_retry=False,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_transport_options={
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": ANSWER_TIMEOUT_S,
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
        # A worker, in contrast, waits for its broker for as long as it takes.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        timezone="UTC",
    )
    return app


class Doorbell:
    """Sends doorbells to the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, rows: Sequence[OutboxRow]) -> None:
        """Sends one message per row. Raises `BrokerUnavailable`, within seconds, when the broker does not answer."""
        with self._producer() as producer:
            for row in rows:
                job = {"job_id": str(row.job_id)}
                self._app.send_task(MESSAGE_OF[row.queue], kwargs=job, queue=row.queue, producer=producer)

    def prepare(self, names: Sequence[str]) -> None:
        """Tells the workers that base models wait to be looked at. Raises `BrokerUnavailable`."""
        with self._producer() as producer:
            for name in names:
                self._app.send_task(
                    PREPARE,
                    kwargs={"name": name},
                    queue=PREPARE_QUEUE,
                    producer=producer,
                    expires=PREPARE_EXPIRES_S,
                )

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        try:
            with self._app.connection_for_write() as connection, self._app.amqp.Producer(connection) as producer:
                yield producer
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error

    def num_waiting(self, queue: str) -> int:
        """How many messages wait in the broker's queue. Raises `BrokerUnavailable`."""
        try:
            with self._app.connection_for_write() as connection:
                declared = connection.default_channel.queue_declare(queue, passive=True)
                return int(declared.message_count)
        except ChannelError:  # Redis does not keep an empty queue
            return 0
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error

    def ping(self) -> None:
        """Raises `BrokerUnavailable` when the broker does not answer."""
        try:
            with self._app.connection_for_write() as connection:
                connection.default_channel.client.ping()
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error


def relay_outbox(
    factory: SessionFactory,
    doorbell: Doorbell,
    *,
    job_ids: Collection[UUID] | None = None,
    older_than_s: float = 0.0,
    limit: int = 500,
) -> int:
    """Sends unsent doorbells, of these jobs or of any, and marks them sent; returns how many.

    Raises `BrokerUnavailable` with nothing marked. Messages that did go out before are sent once more next time, which
    is harmless. `older_than_s` leaves the newest to the request that is about to send them itself.
    """
    with transaction(factory) as session:
        outbox = OutboxRepository(session)
        rows = outbox.unsent(limit=limit, older_than_s=older_than_s, job_ids=job_ids)
        if rows:
            doorbell.ring(rows)
            outbox.mark_sent(rows)
            log.info("doorbells_sent", num_doorbells=len(rows))
    return len(rows)


def ring_lost(factory: SessionFactory, doorbell: Doorbell, *, after_s: float, limit: int = 500) -> list[UUID]:
    """Rings anew for jobs that wait although the broker has nothing left to say about their queue; returns their ids.

    That is how a broker that lost its memory looks. As long as messages wait there, workers are merely busy, and
    ringing again would pile up messages. Raises `BrokerUnavailable`.
    """
    silent = [queue for queue in Queue if doorbell.num_waiting(queue.value) == 0]
    with transaction(factory) as session:
        reaped = ReaperRepository(session).ring_again(after_s=after_s, queues=silent, limit=limit)
    job_ids = [lost.job_id for lost in reaped]
    relay_outbox(factory, doorbell, job_ids=job_ids, limit=len(Queue) * limit)
    return job_ids
