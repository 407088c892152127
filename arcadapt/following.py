"""Watching batches while they run: where each job is, and the loss of those that are training right now."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final
from uuid import UUID

from api.schemas import BatchDetail, BatchJob, StepModel
from arcadapt.client import Client
from arcadapt.polling import poll
from jobs.states import FINISHED, Phase

LOSS_WINDOW: Final = 10
"""Single steps are noisy, because every step draws other views: first and last loss are means of this many steps."""


@dataclass(frozen=True, slots=True)
class JobSight:
    """One job as it was just seen. `loss` is that of its latest step while it trains."""

    job: BatchJob
    label: str
    loss: float | None = None


def follow(
    client: Client,
    batch_ids: Sequence[UUID | str],
    *,
    show: Callable[[Sequence[JobSight]], None],
    label: Callable[[BatchDetail, BatchJob], str] = lambda _, job: job.task_id,
    only: UUID | None = None,
    poll_s: float = 0.5,
    timeout_s: float | None = None,
) -> list[BatchDetail]:
    """Shows the jobs of the batches until all are finished, and returns the batches as they then are.

    With `only`, the batches are reduced to that job.
    """
    seen: list[BatchDetail] = []

    def look() -> bool:
        seen[:] = [_reduced(client.batch(batch_id), only=only) for batch_id in batch_ids]
        show([_sight(client, job, label(batch, job)) for batch in seen for job in batch.jobs])
        return all(job.status in FINISHED for batch in seen for job in batch.jobs)

    poll(look, every_s=poll_s, timeout_s=timeout_s)
    return seen


def _reduced(batch: BatchDetail, *, only: UUID | None) -> BatchDetail:
    if only is None:
        return batch
    return batch.model_copy(update={"jobs": [job for job in batch.jobs if job.id == only], "scores": None})


def _sight(client: Client, job: BatchJob, label: str) -> JobSight:
    if job.phase is not Phase.ADAPTING or not job.progress.step:
        return JobSight(job, label)
    latest = client.losses(job.id, after=job.progress.step - 1)
    return JobSight(job, label, loss=latest[-1].loss if latest else None)


def first_and_last_loss(steps: Sequence[StepModel]) -> tuple[float, float] | None:
    """Mean loss of the first and of the last `LOSS_WINDOW` steps, or of the halves where there are fewer steps."""
    if not steps:
        return None
    window = max(1, min(LOSS_WINDOW, len(steps) // 2))
    losses = [step.loss for step in steps]
    return fmean(losses[:window]), fmean(losses[-window:])
