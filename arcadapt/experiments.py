"""Experiments as people write them, a YAML file that names its tasks, and the files that come of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.digests import digest
from api.experiment_schemas import ExperimentDetail, ExperimentReport
from api.experiment_tables import as_csv, as_markdown
from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import TaskJson
from arc_engine.errors import InvalidTaskSource
from arcadapt.client import Client
from arcadapt.curves import draw_curves
from arcadapt.errors import ArcadaptError, InvalidOverride
from arcadapt.overrides import read_settings
from arcadapt.polling import poll

RESULTS: Final = "results"
"""The folder beside the experiment's file in which its results land."""
DIVERGED: Final = "diverged"
KEY_PREFIX: Final = "experiment-"


class _File(BaseModel):
    """What is ours to read; all other fields are the server's, which says where they are wrong."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    tasks: list[TaskSource | str] = Field(min_length=1)


def read_experiment(path: Path) -> dict[str, Any]:
    """The document for `POST /experiments` that the file describes, tasks and all.

    Without a `name` it gets the file's. Raises `InvalidOverride` for a file that cannot be read, `InvalidTaskSource`
    for tasks that cannot.
    """
    document = read_settings(path)
    try:
        sources = _File.model_validate(document).tasks
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidOverride(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    tasks: dict[str, TaskJson] = {}
    for named in sources:
        source = TaskSource(source=named) if isinstance(named, str) else named
        found = source.load(path.parent)
        twice = sorted(found.keys() & tasks.keys())
        if twice:
            raise InvalidTaskSource(f"{path}: {source.source}: task {twice[0]} is in an earlier source too")
        tasks |= found
    return {"name": path.stem, **document, "tasks": tasks}


def start(client: Client, document: Mapping[str, Any], *, retry_failed: bool = False) -> ExperimentDetail:
    """Submits the experiment, or finds it where it was submitted before and lets go on what is missing of it."""
    experiment = client.create_experiment(document, idempotency_key=KEY_PREFIX + digest(document))
    return client.resume_experiment(experiment.id, failed="all" if retry_failed else "lost")


def follow(
    client: Client,
    experiment_id: UUID,
    *,
    show: Callable[[ExperimentDetail], None],
    poll_s: float = 1.0,
    timeout_s: float | None = None,
) -> None:
    """Shows the experiment until every job is finished; what `show` raises ends it."""

    def look() -> bool:
        experiment = client.experiment(experiment_id)
        show(experiment)
        return experiment.finished

    poll(look, every_s=poll_s, timeout_s=timeout_s)


def write_results(client: Client, experiment_id: UUID, folder: Path) -> ExperimentReport:
    """Writes report.json, report.csv, report.md, jobs.csv, curves.json and curves.png; returns the report."""
    report, curves = client.experiment_report(experiment_id), client.experiment_curves(experiment_id)
    jobs = client.experiment_jobs_table(experiment_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n")
        (folder / "report.csv").write_text(as_csv(report))
        (folder / "report.md").write_text(as_markdown(report))
        (folder / "jobs.csv").write_text(jobs)
        (folder / "curves.json").write_text(curves.model_dump_json() + "\n")
        draw_curves(curves, folder / "curves.png")
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise ArcadaptError(f"{folder}: {error.strerror}") from error
    return report


def went_well(report: ExperimentReport) -> bool:
    """Whether every job came to its end; to diverge is one, and what the experiment is about."""
    failed = any(failure.code != DIVERGED for failure in report.failures)
    return report.finished and not failed and not any(cell.cancelled for cell in report.cells)
