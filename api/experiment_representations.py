"""Experiments as clients see them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

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
from jobs.states import FINISHED, Status, status_of


def experiment_summary(experiment: Experiment, counts: Sequence[found.PhaseCount], links: Links) -> ExperimentSummary:
    """An experiment in a list; `counts` may be those of several."""
    own = [count for count in counts if count.experiment_id == experiment.id]
    by_status = _by_status(own)
    return ExperimentSummary(
        id=experiment.id,
        name=experiment.name,
        created_at=experiment.created_at,
        num_cells=len(experiment.cells),
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
    by_cell: dict[str, list[found.PhaseCount]] = defaultdict(list)
    for count in counts:
        by_cell[count.cell].append(count)
    return ExperimentDetail(
        **dict(experiment_summary(experiment, counts, links)),
        document=experiment.document,
        cells=[
            CellDetail(
                name=cell["name"],
                changes=cell["changes"],
                counts=_by_status(by_cell[cell["name"]]),
                steps=sum(count.steps for count in by_cell[cell["name"]]),
                max_steps=sum(count.max_steps for count in by_cell[cell["name"]]),
                batches=_cell_batches(cell["name"], batches, links),
            )
            for cell in experiment.cells
        ],
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


def _by_status(counts: Sequence[found.PhaseCount]) -> dict[Status, int]:
    num_jobs: Counter[Status] = Counter()
    for count in counts:
        num_jobs[status_of(count.phase)] += count.num_jobs
    return {status: num_jobs[status] for status in Status}


def _cell_batches(cell: str, batches: Sequence[found.CellBatch], links: Links) -> list[CellBatch]:
    own = [batch for batch in batches if batch.cell == cell]
    return [CellBatch(id=batch.id, seed=batch.seed, links=links.batch(batch.id)) for batch in own]
