"""What commands print: results on standard output, as tables or as JSON; progress on standard error."""

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.answer_schemas import TestAnswer
from api.schemas import BaseModelDetail, BatchDetail, JobDetail, JobSummary, StepModel
from arcadapt.following import first_and_last_loss
from jobs.states import Status

STYLES = {
    Status.QUEUED: "dim",
    Status.RUNNING: "cyan",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
}
BARS = "▁▂▃▄▅▆▇█"


def results() -> Console:
    """The console for results; names of people's own choice may hold brackets, which are no markup."""
    return Console(highlight=False, markup=False)


def progress() -> Console:
    """The console for everything that is not the result; without markup too."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(_plain(document), indent=2) + "\n")


def _plain(document: object) -> Any:  # noqa: ANN401 - whatever JSON can say
    match document:
        case BaseModel():
            return document.model_dump(mode="json")
        case dict():
            return {name: _plain(value) for name, value in document.items()}
        case list() | tuple():
            return [_plain(value) for value in document]
    return document


def status_text(status: Status, phase: str) -> Text:
    """A status in its colour, with the phase where that says more."""
    shown = phase if status is Status.RUNNING else status.value
    return Text(shown, style=STYLES[status])


def seconds(value: float | None) -> str:
    """A duration, short; empty where there is none."""
    return "" if value is None else f"{value:.1f} s"


def right(solved: bool | None) -> str:  # noqa: FBT001 - it is the value to show
    """Whether an answer is right, in a word."""
    return "unknown" if solved is None else "yes" if solved else "no"


def loss_range(steps: Sequence[StepModel]) -> str:
    """First to last loss."""
    losses = first_and_last_loss(steps)
    return "" if losses is None else f"{losses[0]:.3f} → {losses[1]:.3f}"


def jobs_table(jobs: Sequence[JobSummary]) -> Table:
    """Jobs as a list."""
    table = Table("job", "task", "status", "step", "created", box=None, header_style="bold", pad_edge=False)
    for job in jobs:
        step = f"{job.progress.step}/{job.progress.max_steps}" if job.progress.max_steps else ""
        created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(str(job.id), job.task_id, status_text(job.status, job.phase), step, created)
    return table


def job_table(job: JobDetail) -> Table:
    """One job with everything that a person wants to know first."""
    table = Table.grid(padding=(0, 2, 0, 0))
    rows: dict[str, str | Text] = {
        "job": str(job.id),
        "batch": str(job.batch_id),
        "task": job.task_id,
        "status": status_text(job.status, job.phase),
        "step": f"{job.progress.step}/{job.progress.max_steps}",
        "eta": seconds(job.progress.eta_s),
        "base model": str(job.settings["base_model"]),
        "usage": ", ".join(
            f"{name} {value}" for name, value in job.usage.items() if not isinstance(value, dict | list)
        ),
        "error": Text(f"{job.error.code}: {job.error.message}", style="red") if job.error else "",
    }
    for index, answer in enumerate(job.results.test if job.results else ()):
        rows[f"test {index}"] = f"right: {right(answer.correct)}, confidence {confidence_text(answer)}"
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="bold"), value)
    return table


def confidence_text(answer: TestAnswer) -> str:
    """How sure to be of the attempts: together, and each where there are two."""
    if answer.confidences is None or answer.attempt_2 is None:
        return f"{answer.confidence:.0%}"
    return f"{answer.confidence:.0%} ({' + '.join(f'{each:.0%}' for each in answer.confidences)})"


def batch_table(batch: BatchDetail, *, losses: Sequence[str]) -> Table:
    """A finished batch: what became of each task."""
    table = Table("task", "job", "status", "loss", "right", box=None, header_style="bold", pad_edge=False)
    for job, loss in zip(batch.jobs, losses, strict=True):
        status = status_text(job.status, job.phase)
        if job.error is not None:
            status = Text(f"{job.status.value}: {job.error.code}", style=STYLES[job.status])
        table.add_row(job.task_id, str(job.id), status, loss, right(job.solved))
    return table


def models_table(models: Sequence[BaseModelDetail]) -> Table:
    """Base models as a list."""
    table = Table("name", "source", "revision", "adapter", "state", box=None, header_style="bold", pad_edge=False)
    for model in models:
        table.add_row(model.name, model.source, model.revision or "", model.adapter_source or "", model.merge_state)
    return table


def sparkline(values: Sequence[float], *, width: int) -> str:
    """The values as a line of bars, averaged into at most `width` of them."""
    if not values:
        return ""
    num_bars = min(width, len(values))
    edges = [len(values) * i // num_bars for i in range(num_bars + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)
