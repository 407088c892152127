"""Experiments as clients see them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.experiment_schemas import (
    CellBatch,
    CellCurve,
    CellDetail,
    CurvePoint,
    ExperimentCurves,
    ExperimentDetail,
    ExperimentSummary,
)
from api.links import Links
from jobs.models import Experiment
from jobs.repositories import experiments as found
from jobs.states import FINISHED, Phase, Status, status_of


def experiment_summary(
    experiment: Experiment, links: Links, *, num_cells: int, totals: Mapping[Phase, int]
) -> ExperimentSummary:
    """An experiment in a list; `totals` are its jobs by phase. Looks neither into its document nor its cells."""
    by_status = _by_status(totals.items())
    return ExperimentSummary(
        id=experiment.id,
        name=experiment.name,
        created_at=experiment.created_at,
        num_cells=num_cells,
        num_tasks=experiment.num_tasks,
        seeds=experiment.seeds,
        counts=by_status,
        finished=not any(num_jobs for status, num_jobs in by_status.items() if status not in FINISHED),
        links=links.experiment(experiment.id),
    )


def experiment_detail(
    experiment: Experiment, batches: Sequence[found.CellBatch], counts: Sequence[found.PhaseCount], links: Links
) -> ExperimentDetail:
    """An experiment with its cells."""
    counts_of: dict[str, list[found.PhaseCount]] = defaultdict(list)
    batches_of: dict[str, list[CellBatch]] = defaultdict(list)
    totals: Counter[Phase] = Counter()
    for count in counts:
        counts_of[count.cell].append(count)
        totals[count.phase] += count.num_jobs
    for batch in batches:
        batches_of[batch.cell].append(CellBatch(id=batch.id, seed=batch.seed, links=links.batch(batch.id)))
    return ExperimentDetail(
        **dict(experiment_summary(experiment, links, num_cells=len(experiment.cells), totals=totals)),
        document=experiment.document,
        cells=[_cell(cell, counts_of[cell["name"]], batches_of[cell["name"]]) for cell in experiment.cells],
    )


def experiment_curves(
    experiment: Experiment, means: Sequence[found.MeanLoss], *, steps_per_point: int
) -> ExperimentCurves:
    """Loss curves, cells in the order of the request."""
    points: dict[str, list[CurvePoint]] = defaultdict(list)
    for mean in means:
        points[mean.cell].append(CurvePoint(step=mean.step, loss=mean.loss, std=mean.std, num_jobs=mean.num_jobs))
    return ExperimentCurves(
        id=experiment.id,
        name=experiment.name,
        steps_per_point=steps_per_point,
        cells=[CellCurve(name=cell["name"], points=points[cell["name"]]) for cell in experiment.cells],
    )


def _cell(cell: Mapping[str, Any], counts: Sequence[found.PhaseCount], batches: Sequence[CellBatch]) -> CellDetail:
    return CellDetail(
        name=cell["name"],
        changes=cell["changes"],
        counts=_by_status((count.phase, count.num_jobs) for count in counts),
        steps=sum(count.steps for count in counts),
        max_steps=sum(count.max_steps for count in counts),
        batches=list(batches),
    )


def _by_status(phases: Iterable[tuple[Phase, int]]) -> dict[Status, int]:
    num_jobs: Counter[Status] = Counter()
    for phase, number in phases:
        num_jobs[status_of(phase)] += number
    return {status: num_jobs[status] for status in Status}
