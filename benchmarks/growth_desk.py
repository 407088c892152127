"""The whole database side of a job's life, by the product's own code: a client, a worker without a model, the clock."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import Engine, QueuePool, func, select

from api.app import create_app
from api.dependencies import Services
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.candidates import Candidate, Finding
from jobs.artifacts import adapter_key
from jobs.claims import AdapterRecord, ClaimedJob, ClaimedStep
from jobs.config import ServiceConfig
from jobs.database import make_engine, make_session_factory, transaction
from jobs.doorbells import Doorbell, celery_app, relay_outbox, ring_lost
from jobs.repositories import ClaimRepository, ReaperRepository
from jobs.repositories.base import Queue
from worker.claiming import Claims
from worker.record import JobRecord

OWNER: Final = "benchmark"
RELAY_AFTER_S: Final = 2.0
RING_AGAIN_AFTER_S: Final = 60.0
"""Both as the clock has them."""
NUM_CANDIDATES: Final = 4
NUM_VIEWS: Final = 16


class Stopwatch:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Counts the block's seconds for `what`."""
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started

    @property
    def total_s(self) -> float:
        """Of everything."""
        return sum(self.seconds.values())


class Desk:
    """A client, a worker and the clock, one after the other in this process, on one database and one broker."""

    def __init__(self, database_url: str, broker_url: str, *, folder: Path) -> None:
        self.config = ServiceConfig(
            database_url=database_url,
            broker_url=broker_url,
            artifacts_dir=folder / "artifacts",
            work_dir=folder / "work",
        )
        self._engine = make_engine(database_url)
        self._sessions = make_session_factory(self._engine)
        self._claims = Claims(self._sessions, owner=OWNER, config=self.config)
        self._celery = celery_app(broker_url)
        self._doorbell = Doorbell(self._celery)
        self._app = create_app(self.config)
        self._stack = ExitStack()
        self.client = TestClient(self._app)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.client)
        self._heard = self._stack.enter_context(self._celery.connection_for_read()).default_channel
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        self._engine.dispose()

    @property
    def api_engine(self) -> Engine:
        """What the API asks the database through."""
        services = self._app.state.services
        assert isinstance(services, Services)  # noqa: S101  for the type checker: state is untyped
        return services.engine

    def settle(self) -> None:
        """Has every connection report to the server's statistics what it has cost so far."""
        for engine in (self._engine, self.api_engine):
            assert isinstance(engine.pool, QueuePool)  # noqa: S101  for the type checker
            open_ones = [engine.connect() for _ in range(engine.pool.checkedin())]
            for connection in open_ones:
                connection.execute(select(func.pg_stat_force_next_flush()))
                connection.commit()
                connection.close()

    def submit(self, body: Mapping[str, Any], *, route: str = "/solve") -> dict[str, Any]:
        """Posts a request; what it is answered, once its doorbells have rung."""
        answer = self.client.post(route, json=body)
        answer.raise_for_status()
        accepted: dict[str, Any] = answer.json()
        return accepted

    def get(self, path: str) -> bytes:
        """Reads a route."""
        answer = self.client.get(path)
        answer.raise_for_status()
        return answer.content

    def live(self, watch: Stopwatch) -> None:
        """Takes the job that has waited longest from its claim to its answer; a client polls it once.

        The clock ticks twice: as often as for a job of two to five seconds.
        """
        record = self.claim(watch)
        job_id = record.claim.job_id
        self.train(record, num_steps=record.job.max_steps, watch=watch)
        with watch.on("end of adapting"):
            record.finish_adapting(adapter=_adapter(record.job), usage={"adapt_s": 1.0, "device": "cpu"})
        self._ring(job_id, watch)
        with watch.on("poll"):
            self.get(f"/jobs/{job_id}")
        self._tick(watch)
        with watch.on("broker"):
            self._heard.basic_get(Queue.SAMPLE.value, no_ack=True)
        with watch.on("claim for sampling"):
            (claimed,) = self._claims.to_sample()
        answering = self._record(claimed)
        with watch.on("end of sampling"):
            answering.finish_sampling(
                candidates=[_candidates(claimed) for _ in claimed.solution_json],
                results={"test": [_answer(claimed) for _ in claimed.solution_json]},
                usage={"sample_s": 1.0, "num_completions": NUM_VIEWS},
            )
        self._ring(job_id, watch)

    def claim(self, watch: Stopwatch) -> JobRecord:
        """The queued job that has waited longest."""
        with watch.on("broker"):
            self._heard.basic_get(Queue.ADAPT.value, no_ack=True)
        with watch.on("claim for adapting"):
            claimed = self._claims.to_adapt()
        if claimed is None:
            raise LookupError("no job is queued")
        return self._record(claimed)

    def train(self, record: JobRecord, *, num_steps: int, watch: Stopwatch) -> None:
        """Records so many steps, as where each takes longer than their writer waits, and renews the lease once."""
        with watch.on("steps"):
            for number in range(1, num_steps + 1):
                with transaction(self._sessions) as session:
                    taken = ClaimedStep(record.claim, _step(number), eta_s=1.0)
                    ClaimRepository(session).record_steps([taken], lease_s=self.config.lease_s)
        with watch.on("renewal"):
            record.renew()

    def look_for_unheard_s(self) -> float:
        """Seconds of the reaper's look for jobs to ring for again, as where the broker has lost all messages."""
        started = time.perf_counter()
        with self._sessions() as session:  # not committed: the jobs of a benchmark are not unheard
            ReaperRepository(session).ring_again(after_s=RING_AGAIN_AFTER_S, limit=500)
            return time.perf_counter() - started

    def look_for_company_s(self, job_id: UUID) -> float:
        """Seconds in which a worker finds that no queued job can be trained beside this one."""
        with self._sessions() as session:  # not committed: the job stays where it is
            claims = ClaimRepository(session)
            claimed = claims.claim_for_adapting(job_id, owner=OWNER, lease_s=self.config.lease_s)
            if claimed is None:
                raise LookupError(f"job {job_id} is not queued")
            started = time.perf_counter()
            more = claims.claim_more_for_adapting(claimed, limit=1, owner=OWNER, lease_s=self.config.lease_s)
            if more:
                raise ValueError(f"job {job_id} is one of many")
            return time.perf_counter() - started

    def _record(self, claimed: ClaimedJob) -> JobRecord:
        return JobRecord(claimed, sessions=self._sessions, lease_s=self.config.lease_s)

    def _ring(self, job_id: UUID, watch: Stopwatch) -> None:
        with watch.on("doorbell"):
            relay_outbox(self._sessions, self._doorbell, job_ids=[job_id])

    def _tick(self, watch: Stopwatch) -> None:
        with watch.on("clock"):
            relay_outbox(self._sessions, self._doorbell, older_than_s=RELAY_AFTER_S)
            with transaction(self._sessions) as session:
                ReaperRepository(session).reclaim_expired(max_attempts=self.config.max_attempts)
            ring_lost(self._sessions, self._doorbell, after_s=RING_AGAIN_AFTER_S)


def _step(number: int) -> AdaptationStep:
    return AdaptationStep(
        step=number, loss=2.0 / number, learning_rate=1e-3, grad_norm=0.5, tokens=4000, elapsed_s=0.1 * number
    )


def _adapter(job: ClaimedJob) -> AdapterRecord:
    key = adapter_key(job.claim.job_id, job.claim.attempt)
    return AdapterRecord(key, sha256="ab" * 32, size_bytes=1_000_000, config={"r": 16, "lora_alpha": 32})


def _candidates(job: ClaimedJob) -> list[Candidate]:
    grid = job.task.train[0].output
    findings = tuple(Finding(view, votes=1, log_probability=-0.5) for view in range(NUM_VIEWS // NUM_CANDIDATES))
    return [Candidate(grid, findings, score=1.0 / rank) for rank in range(1, NUM_CANDIDATES + 1)]


def _answer(job: ClaimedJob) -> dict[str, Any]:
    grid = job.task.train[0].output
    return {
        "attempt_1": grid,
        "attempt_2": grid,
        "confidence": 0.5,
        "confidences": [0.5, 0.25],
        "num_completions": NUM_VIEWS,
        "correct": False,
    }
