"""What a worker does about a message: claims what has waited longest, works on it, and passes on what came of it."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import structlog
from structlog.contextvars import bound_contextvars

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.backends import choose
from arc_engine.settings import SamplingSettings
from jobs.claims import ClaimedJob
from jobs.config import ServiceConfig
from jobs.database import SessionFactory
from jobs.doorbells import Doorbell, relay_outbox
from jobs.errors import BrokerUnavailable
from jobs.repositories.base import Queue
from worker.claiming import Claims
from worker.pipeline import adapt_job, sample_jobs
from worker.preparing import prepare
from worker.record import DATABASE_AWAY, JobRecord
from worker.sideline import Sideline
from worker.workshop import Workshop

log = structlog.get_logger()


class Listener:
    """Handles one message at a time. `queues` gives the names of those that the worker listens to.

    Where the worker overlaps, jobs that vLLM answers are answered in a thread beside the training. torch answers with
    the very model that is trained on, so its jobs are a matter of the thread that trains.
    """

    def __init__(
        self,
        workshop: Workshop,
        *,
        sessions: SessionFactory,
        doorbell: Doorbell,
        owner: str,
        config: ServiceConfig,
        queues: Callable[[], Collection[str]],
    ) -> None:
        self._workshop = replace(workshop, pass_on=self._pass_on)
        self._sessions = sessions
        self._doorbell = doorbell
        self._config = config
        self._queues = queues
        self._claims = Claims(sessions, owner=owner, config=config)
        self._beside = Sideline(partial(self._answer, in_engine=True), shutting_down=workshop.shutting_down)

    def adapt(self, rung_for: str) -> None:
        """Adapts the base model to the task of the job that has waited longest, and of others beside it."""
        first = self._claims.to_adapt()
        if first is None:
            log.info("nothing to claim", rung_for=rung_for)
            return

        record, claim_more = self._record(first), partial(self._claim_more, first) if self._claims.in_packs else None
        with bound_contextvars(**record.names):
            adapt_job(record, workshop=self._workshop, claim_more=claim_more)

    def sample(self, rung_for: str) -> None:
        """Answers the job that has waited longest, with others that can be answered by the same call."""
        overlaps = self._overlaps()
        if overlaps:
            self._beside.wake()
        if not self._answer(in_engine=False if overlaps else None):
            log.info("nothing to claim", rung_for=rung_for)

    def prepare(self, name: str) -> None:
        """Looks at a base model that was registered, and merges its adapter into it."""
        prepare(name, sessions=self._sessions, bases=self._workshop.bases)

    def close(self) -> None:
        """Ends what goes on beside the messages."""
        self._workshop.shutting_down.set()
        self._beside.close()
        self._workshop.models.close()

    def _answer(self, *, in_engine: bool | None) -> bool:
        """Whether there was anything to answer."""
        pack = self._claims.to_sample(in_engine=in_engine)
        if pack:
            with bound_contextvars(job_ids=[str(claimed.claim.job_id) for claimed in pack]):
                sample_jobs([self._record(claimed) for claimed in pack], workshop=self._workshop)
        return bool(pack)

    def _claim_more(self, first: ClaimedJob) -> JobRecord | None:
        more = self._claims.to_adapt_with(first)
        return None if more is None else self._record(more)

    def _record(self, claimed: ClaimedJob) -> JobRecord:
        return JobRecord(claimed, sessions=self._sessions, lease_s=self._config.lease_s)

    def _pass_on(self, job: ClaimedJob) -> None:
        """Tells our own thread of the job, and whoever else may take it next; the clock does that later should the
        broker be away."""
        if self._overlaps():
            self._beside.wake()
        try:
            relay_outbox(self._sessions, self._doorbell, job_ids=[job.claim.job_id])
        except (BrokerUnavailable, *DATABASE_AWAY) as error:
            log.warning("doorbell not rung", error=str(error))

    def _overlaps(self) -> bool:
        """Whether jobs are answered beside the training. Not before anything was trained, unless it was said."""
        if self._beside.is_used:
            return True
        wanted = self._config.overlap
        if wanted is None:
            wanted = (self._workshop.models.device or "cpu").startswith("cuda")
        return wanted and {Queue.ADAPT.value, Queue.SAMPLE.value} <= set(self._queues()) and _has_vllm()


def _has_vllm() -> bool:
    try:
        return choose(SamplingSettings(backend="vllm")) == "vllm"
    except SamplerFailed:
        return False
