"""The common adaptation that a job takes part in, as the job's worker reads and writes it."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from arc_engine.tasks import Task, parse_task
from jobs.claims import AdapterRecord, ClaimedJob, StepFields
from jobs.database import SessionFactory, transaction
from jobs.errors import StaleCommonClaim
from jobs.repositories import CommonAdaptationRepository
from jobs.repositories.common_adaptations import CommonAdaptation, CommonClaim, RecordedStep


class CommonRecord:
    """Every write is a transaction of its own, fenced by the claim.

    It raises `StaleCommonClaim` once that is another's, of which the job's own claim knows nothing.
    """

    def __init__(self, job: ClaimedJob, *, group_index: int, sessions: SessionFactory, lease_s: float) -> None:
        self.batch_id = job.batch_id
        self.group_index = group_index
        self._owner = job.claim.owner
        self._sessions = sessions
        self._lease_s = lease_s
        self._claim: CommonClaim | None = None
        self._is_lost = False
        self._lock = threading.Lock()  # the lease is renewed by a thread, which must not mistake our own end for a loss

    @property
    def attempt(self) -> int:
        """How often the adaptation was claimed, now that it is ours."""
        return self._held().attempt

    def trained(self) -> CommonAdaptation | None:
        """The adaptation if it is trained. Raises `CommonAdaptationFailed` if it never will be."""
        with transaction(self._sessions) as session:
            return CommonAdaptationRepository(session).trained(self.batch_id, self.group_index)

    def claim(self) -> bool:
        """Whether it is this worker's to train."""
        self._is_lost = False
        with self._lock, transaction(self._sessions) as session:
            self._claim = CommonAdaptationRepository(session).claim(
                self.batch_id, self.group_index, owner=self._owner, lease_s=self._lease_s
            )
            return self._claim is not None

    def tasks(self) -> dict[str, Task]:
        """All tasks that take part, by id, in the order of the request."""
        with transaction(self._sessions) as session:
            rows = CommonAdaptationRepository(session).tasks(self.batch_id, self.group_index)
        return {task_id: parse_task(task, pointer="/task")[0] for task_id, task in rows}

    def renew(self) -> None:
        """Extends the lease, if it is this worker's. If it no longer is, `check` says so to whoever trains."""
        with self._lock:
            if self._claim is None or self._is_lost:
                return
            try:
                with transaction(self._sessions) as session:
                    CommonAdaptationRepository(session).renew(self._claim, lease_s=self._lease_s)
            except StaleCommonClaim:
                self._is_lost = True

    def check(self) -> None:
        """Raises `StaleCommonClaim` if the lease was found lost when it was to be renewed; costs no query."""
        if self._is_lost:
            held = self._held()
            raise StaleCommonClaim(held.batch_id, held.group_index, held.attempt)

    def finish(self, *, adapter: AdapterRecord, steps: Sequence[StepFields], usage: Mapping[str, Any]) -> None:
        """Records the adapter for all jobs that take part."""
        recorded = [RecordedStep.of(step) for step in steps]
        with self._lock, transaction(self._sessions) as session:
            CommonAdaptationRepository(session).finish(self._held(), adapter=adapter, steps=recorded, usage=usage)
            self._claim = None

    def fail(self, code: str, message: str) -> None:
        """Ends the adaptation, and every job that takes part, as failed."""
        with self._lock, transaction(self._sessions) as session:
            CommonAdaptationRepository(session).fail(self._held(), code=code, message=message)
            self._claim = None

    def release(self) -> None:
        """Gives it back untrained, for the worker of another job to take."""
        with self._lock, transaction(self._sessions) as session:
            CommonAdaptationRepository(session).release(self._held())
            self._claim = None

    def give_up(self, code: str, message: str) -> None:
        """Gives it back because of what may be this worker's trouble alone; the code is for when it is everybody's."""
        with self._lock, transaction(self._sessions) as session:
            CommonAdaptationRepository(session).give_up(self._held(), code=code, message=message)
            self._claim = None

    def _held(self) -> CommonClaim:
        if self._claim is None:
            raise RuntimeError("the common adaptation is not this worker's")
        return self._claim
