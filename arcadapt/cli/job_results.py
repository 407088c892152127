"""What the commands about jobs do once typer has read their arguments."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from rich.console import Console

from api.schemas import BatchDetail, JobDetail, SolveResponse, StepModel
from arc_engine.datasets.sources import TaskJson
from arcadapt.cli.live import LiveJobs
from arcadapt.cli.output import batch_table, loss_range, print_json, progress, results, sparkline
from arcadapt.client import Client
from arcadapt.drawing import Picture, Strip
from arcadapt.errors import ApiError, ArcadaptError
from arcadapt.following import follow
from jobs.states import Status

MOST_DRAWN: Final = 3
"""Answers to more tasks than this are too many to draw."""


def print_accepted(accepted: SolveResponse, *, as_json: bool) -> None:
    """What `solve --no-wait` says."""
    if as_json:
        print_json(accepted)
        return
    console = results()
    console.print(f"batch {accepted.batch_id}")
    for job in accepted.jobs:
        console.print(f"job {job.id}  {job.task_id}  {job.status.value}")


def batch_of(client: Client, job_or_batch: str) -> tuple[UUID, UUID | None]:
    """The batch that an id leads to, and the one job of it that was meant, if one was."""
    try:
        return client.batch(job_or_batch).id, None
    except ApiError as error:
        if error.code != "not_found":
            raise
    job = client.job(job_or_batch)
    return job.batch_id, job.id


def follow_batch(
    client: Client, batch_id: UUID, *, only: UUID | None = None, timeout_s: float | None = None
) -> BatchDetail:
    """Shows live progress until the batch, or its job `only`, is finished; returns it with the jobs asked for."""
    with LiveJobs(progress()) as live:
        [batch] = follow(client, [batch_id], show=live.show, only=only, timeout_s=timeout_s)
    return batch


def all_succeeded(batch: BatchDetail) -> bool:
    """Whether there is nothing to complain about."""
    return all(job.status is Status.SUCCEEDED for job in batch.jobs)


def print_batch(
    client: Client, batch: BatchDetail, *, as_json: bool, tasks: Mapping[str, TaskJson] | None = None
) -> None:
    """The results of a finished batch; of a few tasks, the grids too."""
    details = [client.job(job.id) for job in batch.jobs]
    if as_json:
        print_json({"batch_id": str(batch.id), "scores": batch.scores, "jobs": details})
        return
    console = results()
    losses = [loss_range(client.losses(job.id)) for job in batch.jobs]
    console.print(batch_table(batch, losses=losses))
    if batch.scores is not None:
        console.print(f"{batch.scores.num_solved} of {batch.scores.num_tasks} tasks solved")
    if tasks is not None and len(details) <= MOST_DRAWN:
        for job in details:
            draw_answers(console, job, tasks[job.task_id])


def draw_answers(console: Console, job: JobDetail, task: TaskJson) -> None:
    """Per test input of a task: the input, the true output where it is known, and the two attempts."""
    for index, answer in enumerate(job.results.test if job.results else ()):
        test = task["test"][index]
        truth = (Picture("truth", test["output"]),) if test.get("output") else ()
        attempts = (Picture("attempt 1", answer.attempt_1), Picture("attempt 2", answer.attempt_2))
        console.print(f"\n{job.task_id}, test {index}", style="bold")
        console.print(Strip((Picture("input", test["input"]), *truth, *attempts)))


def print_losses(steps: Sequence[StepModel]) -> None:
    """The course of the loss in a few lines."""
    console = results()
    if not steps:
        console.print("no steps recorded")
        return
    console.print(sparkline([step.loss for step in steps], width=min(console.width, 100)))
    console.print(f"{len(steps)} steps in {steps[-1].elapsed_s:.1f} s, loss {loss_range(steps)} (means of 10 steps)")


def download_adapter(client: Client, job_id: str, target: Path, *, as_json: bool) -> None:
    """Fetches the adapter's zip and says what it is."""
    try:
        path = client.adapter(job_id, target)
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        raise ArcadaptError(f"{target}: {error.strerror}") from error
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if as_json:
        print_json({"path": str(path), "size_bytes": len(content), "sha256": sha256})
    else:
        results().print(f"{path}: {len(content)} bytes, sha256 {sha256}", soft_wrap=True)


def write_submission(client: Client, batch_id: str, target: Path | None, *, partial: bool) -> None:
    """Writes Kaggle's document to a file or to standard output."""
    entries = client.submission(batch_id, partial=partial)
    document = {task_id: [entry.model_dump(mode="json") for entry in answers] for task_id, answers in entries.items()}
    if target is None:
        print_json(document)
        return
    try:
        target.write_text(json.dumps(document))
    except OSError as error:
        raise ArcadaptError(f"{target}: {error.strerror}") from error
    results().print(f"{target}: {len(document)} tasks", soft_wrap=True)
