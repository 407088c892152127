"""An experiment's report: scores per cell, mean and spread over seeds."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Final, TypeAlias
from uuid import UUID

from pydantic import JsonValue

from api.experiment_schemas import CellReport, ExperimentReport, FailedJob, JobReport, Statistic
from arc_engine.evaluation.metrics import METRICS, Metrics, Predictions, mean, measure
from arc_engine.grids import Grid
from jobs.claims import parse_solution
from jobs.models import Experiment, Job
from jobs.outcomes import adapting_seconds, predictions, sampling_seconds
from jobs.repositories import ExperimentRepository
from jobs.repositories.experiments import JobOutcome
from jobs.states import TERMINAL, Phase, status_of

MAX_FAILURES: Final = 1000
DIVERGED: Final = "diverged"
_OVER: Final = (Phase.SUCCEEDED, Phase.FAILED)

Shared: TypeAlias = tuple[UUID, int | None]
"""What jobs adapt in common: their batch, and which of its common adaptations."""


def report(experiment: Experiment, repository: ExperimentRepository) -> ExperimentReport:
    """The table as it stands now: jobs that are not finished count for nothing yet."""
    outcomes = repository.outcomes(experiment.id)
    scored = _scores(outcomes, repository)
    by_cell: dict[str, list[JobOutcome]] = defaultdict(list)
    for outcome in outcomes:
        by_cell[outcome.cell].append(outcome)
    return ExperimentReport(
        id=experiment.id,
        name=experiment.name,
        created_at=experiment.created_at,
        finished=all(outcome.job.phase in TERMINAL for outcome in outcomes),
        num_tasks=experiment.num_tasks,
        seeds=experiment.seeds,
        cells=[
            _cell(cell["name"], cell["changes"], by_cell[cell["name"]], seeds=experiment.seeds, scored=scored)
            for cell in experiment.cells
        ],
        failures=[_failure(outcome) for outcome in outcomes if outcome.job.phase is Phase.FAILED][:MAX_FAILURES],
    )


def job_reports(experiment: Experiment, repository: ExperimentRepository) -> list[JobReport]:
    """Every job by itself, as it stands now."""
    outcomes = repository.outcomes(experiment.id)
    scored = _scores(outcomes, repository)
    sharing = _sharing(outcomes)
    return [_job(outcome, scored.get(outcome.job.id), sharing=sharing) for outcome in outcomes]


def _job(outcome: JobOutcome, metrics: Metrics | None, *, sharing: Mapping[Shared, int]) -> JobReport:
    job = outcome.job
    return JobReport(
        id=job.id,
        cell=outcome.cell,
        seed=outcome.seed,
        task_id=job.task_id,
        status=status_of(job.phase),
        error_code=job.error_code,
        final_loss=outcome.final_loss,
        seconds=_seconds(job, sharing) if job.phase is Phase.SUCCEEDED else None,
        **{score: _score(metrics, score) for score in METRICS},
    )


def _cell(
    name: str,
    changes: Mapping[str, JsonValue],
    outcomes: Sequence[JobOutcome],
    *,
    seeds: Sequence[int],
    scored: Mapping[UUID, Metrics],
) -> CellReport:
    def statistic(value: Callable[[JobOutcome], float | None]) -> Statistic:
        return _statistic(outcomes, value, seeds=seeds)

    # What answers a seed would have had is not known, so it has no score: an absent answer is wrong, not left out.
    cut_short = {outcome.seed for outcome in outcomes if outcome.job.phase is Phase.CANCELLED}
    whole = [outcome for outcome in outcomes if outcome.seed not in cut_short]

    def score_named(score: str) -> Statistic:
        return _statistic(whole, lambda outcome: _score(scored.get(outcome.job.id), score), seeds=seeds)

    succeeded = {outcome.job.id for outcome in outcomes if outcome.job.phase is Phase.SUCCEEDED}
    phases = Counter(outcome.job.phase for outcome in outcomes)
    sharing = _sharing(outcomes)
    return CellReport(
        name=name,
        changes=dict(changes),
        num_jobs=len(outcomes),
        finished=sum(phases[phase] for phase in _OVER),
        failed=phases[Phase.FAILED],
        diverged=sum(outcome.job.error_code == DIVERGED for outcome in outcomes),
        cancelled=phases[Phase.CANCELLED],
        final_loss=statistic(lambda outcome: outcome.final_loss if outcome.job.id in succeeded else None),
        seconds=statistic(lambda outcome: _seconds(outcome.job, sharing) if outcome.job.id in succeeded else None),
        **{score: score_named(score) for score in METRICS},
    )


def _statistic(
    outcomes: Iterable[JobOutcome], value: Callable[[JobOutcome], float | None], *, seeds: Sequence[int]
) -> Statistic:
    """Mean over the jobs of each seed, then mean and standard deviation over seeds."""
    values: dict[int, list[float]] = {seed: [] for seed in seeds}
    for outcome in outcomes:
        number = value(outcome)
        if number is not None:
            values[outcome.seed].append(number)
    means = [fmean(values[seed]) if values[seed] else None for seed in seeds]
    known = [number for number in means if number is not None]
    return Statistic(mean=fmean(known) if known else None, std=stdev(known) if len(known) > 1 else None, seeds=means)


def _scores(outcomes: Sequence[JobOutcome], repository: ExperimentRepository) -> dict[UUID, Metrics]:
    """The metrics of every job that is over and has at least one test input whose output is known."""
    scores: dict[UUID, Metrics] = {}
    by_batch: dict[UUID, list[Job]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.job.phase in _OVER:
            by_batch[outcome.job.batch_id].append(outcome.job)
    for batch_id, jobs in by_batch.items():  # batch by batch, because the grids of all would be many
        votes: dict[tuple[UUID, int], dict[Grid, int]] = defaultdict(dict)
        for vote in repository.votes(batch_id):
            votes[vote.job_id, vote.test_index][vote.grid] = vote.votes
        for job in jobs:
            measured = [
                measure(_predictions(job, index, votes[job.id, index]), truth)
                for index, truth in enumerate(parse_solution(job.solution).outputs)
                if truth is not None
            ]
            if measured:
                scores[job.id] = mean(measured)
    return scores


def _predictions(job: Job, test_index: int, votes: Mapping[Grid, int]) -> Predictions | None:
    if job.results is None:
        return None
    answer = job.results["test"][test_index]
    return predictions(
        votes,
        attempts=(answer["attempt_1"], answer["attempt_2"]),
        settings=job.settings,
        num_completions=answer.get("num_completions"),
    )


def _score(metrics: Metrics | None, name: str) -> float | None:
    return None if metrics is None else float(getattr(metrics, name))


def _sharing(outcomes: Iterable[JobOutcome]) -> Counter[Shared]:
    return Counter((outcome.job.batch_id, outcome.job.group_index) for outcome in outcomes)


def _seconds(job: Job, sharing: Mapping[Shared, int]) -> float:
    """Its own adapting and sampling, and its share of the adaptation that it has in common with others."""
    num_sharing = sharing[job.batch_id, job.group_index]
    return (adapting_seconds(job.usage, num_sharing=num_sharing) or 0.0) + (sampling_seconds(job.usage) or 0.0)


def _failure(outcome: JobOutcome) -> FailedJob:
    job = outcome.job
    return FailedJob(
        id=job.id,
        cell=outcome.cell,
        seed=outcome.seed,
        task_id=job.task_id,
        code=job.error_code or "",
        message=job.error_message or "",
    )
