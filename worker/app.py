"""The worker that adapts and samples: `celery -A worker.app worker -Q adapt,sample,prepare --pool solo`.

A message says that a job waits, and names the one it was sent for. Whoever hears it takes the job that has waited
longest, so that a job whose own message was lost waits no longer than the others; with it, others that can be trained
beside it or answered by the same call. Messages are handled one at a time, because a GPU is busy with one thing at a
time; more GPUs, more workers. The queues take turns, so that a base model that is to be prepared waits for the jobs in
hand, not for all that were queued before.
"""

import os
import socket
import threading
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_shutdown, worker_shutting_down

from arc_engine.allocator import keep_freed_memory
from jobs.artifacts import ArtifactStore
from jobs.config import ServiceConfig
from jobs.database import make_engine, make_session_factory
from jobs.doorbells import ADAPT, PREPARE, SAMPLE, Doorbell, celery_app
from worker.listener import Listener
from worker.logs import configure_logs
from worker.warm import WarmModels, vllm_options
from worker.workshop import Workshop

configure_logs()
keep_freed_memory()
setup_logging.connect(configure_logs)

config = ServiceConfig.from_env()
config.work_dir.mkdir(parents=True, exist_ok=True)
workshop = Workshop(
    models=WarmModels(vllm=vllm_options(config.vllm)),
    artifacts=ArtifactStore(config.artifacts_dir),
    work_dir=config.work_dir,
    job_timeout_s=config.job_timeout_s,
    shutting_down=threading.Event(),
    models_dir=config.models_dir,
    adapt_pack=config.adapt_pack,
)
app: Celery = celery_app(config.broker_url)
listener = Listener(
    workshop,
    sessions=make_session_factory(make_engine(config.database_url)),
    doorbell=Doorbell(app),
    owner=f"{socket.gethostname()}:{os.getpid()}",
    config=config,
    queues=lambda: app.amqp.queues.consume_from,
)


@app.task(name=ADAPT)
def adapt(job_id: str) -> None:
    """A job waits to be adapted."""
    listener.adapt(job_id)


@app.task(name=SAMPLE)
def sample(job_id: str) -> None:
    """A job waits to be answered."""
    listener.sample(job_id)


@app.task(name=PREPARE)
def prepare_base_model(name: str) -> None:
    """A base model waits to be looked at."""
    listener.prepare(name)


@worker_shutting_down.connect
def _stop_working(**_: Any) -> None:  # noqa: ANN401 - Celery's signal arguments
    workshop.shutting_down.set()


@worker_shutdown.connect
def _leave(**_: Any) -> None:  # noqa: ANN401 - Celery's signal arguments
    listener.close()
