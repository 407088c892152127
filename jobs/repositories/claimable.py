"""Which jobs a worker may claim."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Exists, Select, and_, exists, false, func, or_, select
from sqlalchemy.orm import aliased

from jobs.models import CommonAdaptationRow, Job
from jobs.repositories.base import now
from jobs.repositories.common_adaptations import OVER
from jobs.states import WAITING_PHASE, Phase


def waiting(to: Phase, job_id: UUID | None = None) -> Select[Job]:
    """The jobs that wait to be taken to phase `to`, the oldest first; or the one that is named, if it does."""
    jobs = select(Job).where(Job.phase == WAITING_PHASE[to]).order_by(Job.created_at, Job.position)
    return jobs if job_id is None else jobs.where(Job.id == job_id)


def seen_to_elsewhere() -> Exists:
    """Whether the job takes part in a common adaptation that is not over, and that another job's worker is at.

    Seconds pass between a worker's claim of a job and that of the adaptation: so it is jobs that are asked for.
    """
    other = aliased(Job)
    common = CommonAdaptationRow
    return exists().where(
        common.batch_id == Job.batch_id,
        common.group_index == Job.group_index,
        common.state.not_in(OVER),
        other.batch_id == Job.batch_id,
        other.group_index == Job.group_index,
        other.phase == Phase.ADAPTING,
        other.lease_expires_at > now(),
    )


def trained_together_with(job_id: UUID) -> Exists:
    """Whether a trainer can adapt the job together with that one: same model in memory, same precision and
    checkpointing of it, nothing that either shares with its batch."""
    other = aliased(Job)
    own_training = [
        condition
        for job in (Job, other)
        for condition in (job.group_index.is_(None), job.settings["adaptation"].astext.is_not(None))
    ]
    return exists().where(other.id == job_id, *own_training, _in_company(other, _trainer_of))


def answered_together_with(job_id: UUID) -> Exists:
    """Whether one call to a sampler can answer the job together with that one: same model in memory, same backend."""
    other = aliased(Job)
    return exists().where(other.id == job_id, _in_company(other, _sampler_of))


def answered_by_engine() -> ColumnElement[bool]:
    """Whether the job is one that vLLM answers where it is installed, as `arc_engine.sampling.backends` chooses."""
    backend, method = (Job.settings[("sampling", name)].astext for name in ("backend", "method"))
    return func.coalesce(or_(backend == "vllm", and_(backend == "auto", method != "dfs")), false())


def _in_company(other: Any, needs: Callable[[Any], tuple[ColumnElement[Any], ...]]) -> ColumnElement[bool]:  # noqa: ANN401
    """Whether the job, and `other`, an alias, may be worked on together, having equal needs.

    A job that was taken from a lost worker, or from company that took too long, is worked on alone: if it is to blame,
    no other job pays for it again.
    """
    same = [mine.is_not_distinct_from(its) for mine, its in zip(needs(Job), needs(other), strict=True)]
    return and_(Job.requeues == 0, other.requeues == 0, *same)


def _weights_of(job: Any) -> tuple[ColumnElement[Any], ...]:  # noqa: ANN401 - Job, or an alias of it
    """The base model as it was registered, merged or not."""
    start = func.coalesce(job.settings[("adaptation", "start")].astext, "new")
    return job.settings["base_model"], job.versions["base_model"], start == "continue"


def _trainer_of(job: Any) -> tuple[ColumnElement[Any], ...]:  # noqa: ANN401 - as above
    options = (job.settings[("adaptation", name)] for name in ("precision", "gradient_checkpointing"))
    return *_weights_of(job), *options


def _sampler_of(job: Any) -> tuple[ColumnElement[Any], ...]:  # noqa: ANN401 - as above
    """What a sampler is chosen by: the weights, the backend, and whether the job searches depth first, which only one
    backend can."""
    backend, method = (job.settings[("sampling", name)] for name in ("backend", "method"))
    return *_weights_of(job), backend, method.astext == "dfs"
