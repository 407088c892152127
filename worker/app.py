"""The worker that adapts and samples: `celery -A worker.app worker -Q adapt,sample,prepare --pool solo`.

A message says that a job waits, and names the one it was sent for. Whoever hears it takes the job that has waited
longest, so that a job whose own message was lost waits no longer than the others; of jobs that wait to be answered it
takes some more, which one call to the sampler can answer together. Messages are handled one at a time, because a GPU is
busy with one thing at a time; more GPUs, more workers. The queues take turns, so that a base model that is to be
prepared waits for the job in hand, not for all that were queued before.
"""

import os
import socket
import threading
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_shutdown, worker_shutting_down
from structlog.contextvars import bound_contextvars

from jobs.artifacts import ArtifactStore
from jobs.claims import ClaimedJob
from jobs.config import ServiceConfig
from jobs.database import make_engine, make_session_factory, transaction
from jobs.doorbells import ADAPT, PREPARE, SAMPLE, Doorbell, celery_app, relay_outbox
from jobs.errors import BrokerUnavailable
from jobs.repositories import ClaimRepository
from worker.claiming import claim_pack
from worker.logs import configure_logs
from worker.pipeline import adapt_job, sample_jobs
from worker.preparing import prepare
from worker.record import JobRecord
from worker.warm import WarmModels, vllm_options
from worker.workshop import Workshop

configure_logs()
setup_logging.connect(configure_logs)
log = structlog.get_logger()

config = ServiceConfig.from_env()
config.work_dir.mkdir(parents=True, exist_ok=True)
owner = f"{socket.gethostname()}:{os.getpid()}"
sessions = make_session_factory(make_engine(config.database_url))
workshop = Workshop(
    models=WarmModels(vllm=vllm_options(config.vllm)),
    artifacts=ArtifactStore(config.artifacts_dir),
    work_dir=config.work_dir,
    job_timeout_s=config.job_timeout_s,
    shutting_down=threading.Event(),
    models_dir=config.models_dir,
)
app: Celery = celery_app(config.broker_url)
doorbell = Doorbell(app)


@app.task(name=ADAPT)
def adapt(job_id: str) -> None:
    """Claims the queued job that has waited longest and adapts the base model to its task."""
    with transaction(sessions) as session:
        claimed = ClaimRepository(session).claim_for_adapting(None, owner=owner, lease_s=config.lease_s)
    if claimed is None:
        log.info("nothing to claim", rung_for=job_id)
        return
    job, attempt = str(claimed.claim.job_id), claimed.claim.attempt
    with bound_contextvars(job_id=job, task_id=claimed.task_id, attempt=attempt):
        adapt_job(_record(claimed), workshop=workshop)
        _ring_on([claimed])


@app.task(name=SAMPLE)
def sample(job_id: str) -> None:
    """Claims the adapted job that has waited longest, with others that can be answered by the same call, and answers
    their tasks."""
    pack = claim_pack(sessions, owner=owner, config=config)
    if not pack:
        log.info("nothing to claim", rung_for=job_id)
        return
    with bound_contextvars(job_ids=[str(claimed.claim.job_id) for claimed in pack]):
        sample_jobs([_record(claimed) for claimed in pack], workshop=workshop)
        _ring_on(pack)


@app.task(name=PREPARE)
def prepare_base_model(name: str) -> None:
    """Looks at a base model that was registered, and merges its adapter into it."""
    prepare(name, sessions=sessions, bases=workshop.bases)


def _record(claimed: ClaimedJob) -> JobRecord:
    return JobRecord(claimed, sessions=sessions, lease_s=config.lease_s)


def _ring_on(jobs: Sequence[ClaimedJob]) -> None:
    """Rings for whoever takes the jobs next; the clock does it later should the broker be away."""
    try:
        relay_outbox(sessions, doorbell, job_ids=[job.claim.job_id for job in jobs])
    except BrokerUnavailable as error:
        log.warning("doorbell not rung", error=str(error))


@worker_shutting_down.connect
def _stop_working(**_: Any) -> None:  # noqa: ANN401 - Celery's signal arguments
    workshop.shutting_down.set()


@worker_shutdown.connect
def _leave(**_: Any) -> None:  # noqa: ANN401 - Celery's signal arguments
    workshop.models.close()
