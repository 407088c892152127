"""An evaluation: a dataset answered as one batch, and every answer measured against the truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from api.answer_schemas import TestCandidates
from api.digests import digest
from api.schemas import BatchDetail, BatchJob, JobDetail, JobError
from arc_engine.datasets.sources import TaskJson
from arc_engine.errors import InvalidTaskSource
from arc_engine.evaluation.calibration import Forecast, Reliability, reliability
from arc_engine.evaluation.metrics import Metrics, Predictions, mean, measure
from arc_engine.grids import Grid, parse_grid
from arc_engine.settings import SolveSettings
from arc_engine.tasks import parse_task
from arcadapt.client import Client
from arcadapt.following import JobSight, first_and_last_loss, follow
from jobs.outcomes import adapting_seconds, predictions, sampling_seconds
from jobs.resolving import group_index
from jobs.states import Status

KEY_PREFIX: Final = "evaluate-"

Show = Callable[[Sequence[JobSight]], None]


@dataclass(frozen=True, slots=True)
class InputResult:
    """One test input: the two attempts at it, None where there is none, and how the predictions measure up.

    `confidences` in the attempts are None where the job does not say.
    """

    input: Grid
    truth: Grid
    attempts: tuple[Grid | None, Grid | None]
    metrics: Metrics
    confidences: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of one task.

    `metrics` are means over its test inputs, `last_loss` is that of the last 10 steps. `adapt_s` has its share of what
    several tasks trained in common.
    """

    task_id: str
    job_id: UUID
    status: Status
    error: JobError | None
    metrics: Metrics
    tests: tuple[InputResult, ...]
    last_loss: float | None
    adapt_s: float | None
    sample_s: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished batch, measured. `metrics` are means over the tasks, those without an answer included."""

    name: str
    batch_id: UUID
    settings: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
    metrics: Metrics

    @property
    def failed(self) -> tuple[TaskResult, ...]:
        """The tasks whose job did not succeed; they count as wrong."""
        return tuple(task for task in self.tasks if task.status is not Status.SUCCEEDED)

    @property
    def reliability(self) -> Reliability:
        """How the confidences compare with what was right, over the attempts that were made."""
        return reliability(
            [
                Forecast(confidence, right=attempt == test.truth)
                for task in self.tasks
                for test in task.tests
                for attempt, confidence in zip(test.attempts, test.confidences or (), strict=False)
                if attempt is not None
            ]
        )


def require_truth(tasks: Mapping[str, TaskJson]) -> dict[str, tuple[Grid, ...]]:
    """The true outputs by task. Raises `InvalidTaskSource` naming the tasks that come without them."""
    solutions = {task_id: parse_task(task)[1].outputs for task_id, task in tasks.items()}
    truth = {
        task_id: tuple(output for output in outputs if output is not None) for task_id, outputs in solutions.items()
    }
    without = [task_id for task_id, outputs in solutions.items() if len(truth[task_id]) < len(outputs)]
    if without:
        raise InvalidTaskSource(
            f"{len(without)} of {len(tasks)} tasks have no test outputs to measure against: {', '.join(without[:10])}"
        )
    return truth


def evaluate(
    client: Client,
    tasks: Mapping[str, TaskJson],
    *,
    settings: Mapping[str, Any],
    name: str,
    show: Show,
    again: bool = False,
    timeout_s: float | None = None,
) -> Evaluation:
    """Submits the tasks as one batch, follows it to its end, and measures the answers.

    The same evaluation, submitted a second time, is the batch of the first: what was interrupted goes on, what is
    finished is read. `again` submits anew. Raises `InvalidTaskSource` when a true output is missing, and what the
    client raises.
    """
    truth = require_truth(tasks)
    key = None if again else KEY_PREFIX + digest({"tasks": tasks, "settings": settings, "name": name})
    accepted = client.solve(tasks, settings=settings or None, name=name, idempotency_key=key)
    [batch] = follow(client, [accepted.batch_id], show=show, timeout_s=timeout_s)
    return collect(client, batch, tasks=tasks, truth=truth)


def collect(
    client: Client, batch: BatchDetail, *, tasks: Mapping[str, TaskJson], truth: Mapping[str, tuple[Grid, ...]]
) -> Evaluation:
    """Measures a finished batch of these tasks."""
    settings = SolveSettings.model_validate(batch.settings)
    groups = [group_index(settings, position=position) for position in range(len(batch.jobs))]
    results = tuple(
        _task_result(client, job, tasks[job.task_id], truth[job.task_id], num_sharing=groups.count(group))
        for job, group in zip(batch.jobs, groups, strict=True)
    )
    return Evaluation(
        name=batch.name or str(batch.id),
        batch_id=batch.id,
        settings=batch.settings,
        tasks=results,
        metrics=mean([task.metrics for task in results]),
    )


def _task_result(
    client: Client, job: BatchJob, task: TaskJson, truth: Sequence[Grid], *, num_sharing: int
) -> TaskResult:
    detail = client.job(job.id)
    found = _predictions(detail, client.candidates(job.id).test) if detail.results else [None] * len(truth)
    confidences = [answer.confidences for answer in detail.results.test] if detail.results else [None] * len(truth)
    tests = tuple(
        InputResult(
            input=parse_grid(task["test"][index]["input"]),
            truth=output,
            attempts=(None, None) if predicted is None else predicted.attempts,
            metrics=measure(predicted, output),
            confidences=confidences[index],
        )
        for index, (predicted, output) in enumerate(zip(found, truth, strict=True))
    )
    losses = first_and_last_loss(client.losses(job.id))
    return TaskResult(
        task_id=job.task_id,
        job_id=job.id,
        status=detail.status,
        error=detail.error,
        metrics=mean([test.metrics for test in tests]),
        tests=tests,
        last_loss=None if losses is None else losses[1],
        adapt_s=adapting_seconds(detail.usage, num_sharing=num_sharing),
        sample_s=sampling_seconds(detail.usage),
    )


def _predictions(job: JobDetail, found: Sequence[TestCandidates]) -> list[Predictions]:
    answers = [] if job.results is None else job.results.test
    return [
        predictions(
            {parse_grid(candidate.grid): candidate.votes for candidate in test.candidates},
            attempts=(answer.attempt_1, answer.attempt_2),
            settings=job.settings,
            num_completions=answer.num_completions,
        )
        for answer, test in zip(answers, found, strict=True)
    ]
