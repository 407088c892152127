"""The clock: `celery -A worker.clock worker --beat -Q maintenance --pool solo`.

One light process, without torch, that keeps the record honest: it rings for jobs that were not heard, and takes jobs
from workers that died. Several do no harm.
"""

from typing import Final

import structlog
from celery import Celery
from celery.signals import setup_logging

from jobs.config import ServiceConfig
from jobs.database import make_engine, make_session_factory, transaction
from jobs.doorbells import (
    MAINTENANCE_QUEUE,
    PREPARE_EVERY_S,
    PREPARE_WAITING,
    REAP,
    RELAY_OUTBOX,
    Doorbell,
    celery_app,
    relay_outbox,
    ring_lost,
)
from jobs.errors import BrokerUnavailable
from jobs.repositories import BaseModelRepository, ReaperRepository
from worker.logs import configure_logs

RELAY_EVERY_S: Final = 2.0
REAP_EVERY_S: Final = 5.0
RING_AGAIN_AFTER_S: Final = 60.0

configure_logs()
setup_logging.connect(configure_logs)
log = structlog.get_logger()

config = ServiceConfig.from_env()
sessions = make_session_factory(make_engine(config.database_url))
app: Celery = celery_app(config.broker_url)
doorbell = Doorbell(app)
app.conf.beat_schedule = {
    # A tick that nobody took before the next one is due is worth nothing.
    "relay": {"task": RELAY_OUTBOX, "schedule": RELAY_EVERY_S, "options": {"expires": RELAY_EVERY_S}},
    "reap": {"task": REAP, "schedule": REAP_EVERY_S, "options": {"expires": REAP_EVERY_S}},
    "prepare": {
        "task": PREPARE_WAITING,
        "schedule": PREPARE_EVERY_S,
        "options": {"expires": PREPARE_EVERY_S},
    },
}
app.conf.task_default_queue = MAINTENANCE_QUEUE


@app.task(name=RELAY_OUTBOX)
def relay() -> None:
    """Rings for jobs whose doorbell is still in the outbox."""
    try:
        relay_outbox(sessions, doorbell, older_than_s=RELAY_EVERY_S)
    except BrokerUnavailable as error:
        log.warning("doorbells not rung", error=str(error))


@app.task(name=REAP)
def reap() -> None:
    """Requeues, fails or cancels jobs whose lease ran out, and rings again for jobs whose message was lost."""
    with transaction(sessions) as session:
        reaped = ReaperRepository(session).reclaim_expired(max_attempts=config.max_attempts)
    for lost in reaped:
        log.info("reaped", job_id=str(lost.job_id), action=lost.action.value)
    try:
        ring_lost(sessions, doorbell, after_s=RING_AGAIN_AFTER_S)
    except BrokerUnavailable as error:
        log.warning("doorbells not rung", error=str(error))


@app.task(name=PREPARE_WAITING)
def prepare_waiting() -> None:
    """Rings for base models that no worker has looked at."""
    with transaction(sessions) as session:
        names = BaseModelRepository(session).waiting()
    try:
        doorbell.prepare(names)
    except BrokerUnavailable as error:
        log.warning("doorbells not rung", error=str(error))
