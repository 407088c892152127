"""Our way: the local stack as `arcadapt up` starts it, and HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from api.schemas import JobDetail
from arc_engine.datasets.sources import TaskJson
from arc_engine.settings import SolveSettings
from arcadapt.client import Client
from arcadapt.following import first_and_last_loss
from arcadapt.stack.folder import RunningStack, StackFolder
from benchmarks.pipeline_record import Timed
from jobs.states import Status

ROOT: Final = Path(__file__).parents[1]
START_LIMIT_S: Final = 180.0
STOP_LIMIT_S: Final = 60.0
POLL_S: Final = 0.1
COUNTS: Final = {
    "steps": "num_steps",
    "train_tokens": "train_tokens",
    "completions": "num_completions",
    "sampled_tokens": "sampled_tokens",
}
"""What the scripts count, and its name in a job's `usage`."""


class ServiceFailed(Exception):
    """The stack did not come up, or a job did not succeed."""


@contextmanager
def local_stack(folder: Path, *, num_workers: int) -> Iterator[str]:
    """The URL of a stack that is started in the folder, and stopped on the way out."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "up.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCADAPT_")}
    command = [sys.executable, "-m", "arcadapt", "up", "--workers", str(num_workers)]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output
        )
    try:
        yield _announced(process, StackFolder.of(folder), log=log).url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_LIMIT_S)


def _announced(process: "subprocess.Popen[bytes]", folder: StackFolder, *, log: Path) -> RunningStack:
    deadline = time.monotonic() + START_LIMIT_S
    while (running := folder.announced()) is None or running.pid != process.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServiceFailed(f"the stack is not up: see {log}")
        time.sleep(POLL_S)
    return running


def request_to_submission(
    client: Client, tasks: Mapping[str, TaskJson], *, settings: SolveSettings, begun: float | None = None
) -> tuple[Timed, dict[str, Any]]:
    """Posts the tasks, without their test outputs, waits for all jobs and downloads the submission.

    `begun` (seconds since the epoch) is when the clock started, if that was before the request. The stages follow each
    other: `start` of the stack, `queue` until the first job is taken, `training` until the last one is trained,
    `answering` until the last one is answered, `download`. The workers' own seconds, side by side, are in `work`.
    """
    posted = time.time()
    begun = posted if begun is None else begun
    accepted = client.solve({task_id: _without_outputs(task) for task_id, task in tasks.items()}, settings=settings)
    client.wait_for_batch(accepted.batch_id, poll_s=POLL_S)
    submission = client.submission(accepted.batch_id)
    ended = time.time()
    jobs = [client.job(job.id) for job in accepted.jobs]
    failed = [f"{job.task_id}: {job.status}" for job in jobs if job.status is not Status.SUCCEEDED]
    if failed:
        raise ServiceFailed(", ".join(failed))
    timed = Timed(
        seconds=ended - begun,
        stages=_stages(jobs, begun=begun, posted=posted, ended=ended),
        work={name: _total(jobs, name) for name in ("adapt_s", "sample_s")},
        counts={count: int(_total(jobs, name)) for count, name in COUNTS.items()},
    )
    for job in jobs:
        losses = first_and_last_loss(client.losses(job.id))
        if losses is not None:
            timed.last_losses[job.task_id] = losses[1]
    return timed, {task_id: [entry.model_dump() for entry in entries] for task_id, entries in submission.items()}


def _without_outputs(task: TaskJson) -> TaskJson:
    return {"train": task["train"], "test": [{"input": test["input"]} for test in task["test"]]}


def _stages(jobs: Sequence[JobDetail], *, begun: float, posted: float, ended: float) -> dict[str, float]:
    taken = min(_seconds(job.started_at) for job in jobs)
    trained = max(_seconds(job.adapted_at) for job in jobs)
    answered = max(_seconds(job.finished_at) for job in jobs)
    ends = {"start": posted, "queue": taken, "training": trained, "answering": answered, "download": ended}
    begins = [begun, *ends.values()]
    return {name: end - start for (name, end), start in zip(ends.items(), begins, strict=False)}


def _seconds(moment: datetime | None) -> float:
    if moment is None:
        raise ServiceFailed("a job that succeeded lacks the time of a stage")
    return moment.timestamp()


def _total(jobs: Sequence[JobDetail], name: str) -> float:
    """Of what the jobs' `usage` says."""
    return sum(float(str(job.usage[name])) for job in jobs)
