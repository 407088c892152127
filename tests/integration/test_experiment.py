"""An experiment over the whole stack: killed in the middle, run again, finished."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from arcadapt import Client
from arcadapt.polling import poll
from jobs.states import Status
from tests.fixtures.stack import RunningService

WAIT_S = 240.0
TASK: dict[str, Any] = {
    "train": [
        {"input": [[1, 0], [0, 2]], "output": [[0, 1], [2, 0]]},
        {"input": [[3, 3], [0, 4]], "output": [[3, 3], [4, 0]]},
    ],
    "test": [{"input": [[7, 0], [0, 8]], "output": [[0, 7], [8, 0]]}],
}
FILE = {
    "name": "killed",
    "tasks": ["tasks.json"],
    "settings": {
        "base_model": "tiny",
        "adaptation": {"max_steps": 40, "batch_size": 2, "learning_rate": 0.01},
        "sampling": {"num_views": 2, "max_new_tokens": 8, "backend": "torch"},
    },
    "grid": {"adaptation.lora_rank": [1, 4]},
    "seeds": [0, 1],
}


def command(file: Path) -> list[str]:
    return [sys.executable, "-m", "arcadapt", "experiment", str(file)]


def test_a_killed_experiment_goes_on_where_it_was(service: RunningService, tmp_path: Path):
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(FILE))
    (tmp_path / "tasks.json").write_text(json.dumps({"a": TASK, "b": TASK}))
    client = Client(service.url)

    process = subprocess.Popen(command(file), cwd=service.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        experiment_id, done = killed_in_the_middle(client, service, process)
    finally:
        process.kill()
        process.communicate()

    print(service.arcadapt("experiment", str(file)))
    experiment = client.experiment(experiment_id)
    assert experiment.finished
    assert experiment.counts[Status.SUCCEEDED] == 8, experiment
    finished_at = {job.id: job.finished_at for job_id in done for job in [client.job(job_id)]}
    assert finished_at == done  # what was finished was not done again
    assert len([item for item in client.experiments() if item.name == "killed"]) == 1

    report = client.experiment_report(experiment_id)
    assert [cell.name for cell in report.cells] == ["lora_rank=1", "lora_rank=4"]
    for cell in report.cells:
        assert (cell.num_jobs, cell.finished, cell.failed) == (4, 4, 0)
        assert all(loss is not None for loss in cell.final_loss.seeds)
        assert cell.final_loss.std is not None
        assert cell.final_loss.seeds[0] != cell.final_loss.seeds[1]
    curves = client.experiment_curves(experiment_id)
    assert all([point.step for point in cell.points] == list(range(1, 41)) for cell in curves.cells)
    assert all(point.num_jobs == 4 for cell in curves.cells for point in cell.points)
    assert {path.name for path in (tmp_path / "results").iterdir()} >= {"report.md", "report.csv", "curves.png"}


def killed_in_the_middle(
    client: Client, service: RunningService, process: "subprocess.Popen[bytes]"
) -> tuple[UUID, dict[UUID, Any]]:
    """Kills the command and the worker as soon as a job is done and another trains; returns the finished jobs."""
    found: list[UUID] = []

    def in_the_middle() -> bool:
        assert process.poll() is None, process.communicate()
        found[:] = [item.id for item in client.experiments() if item.name == "killed"]
        counts = client.experiment(found[0]).counts if found else {}
        return bool(counts) and counts[Status.SUCCEEDED] >= 1 and counts[Status.RUNNING] >= 1

    poll(in_the_middle, every_s=0.05, timeout_s=WAIT_S)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(service.pid("worker"), signal.SIGKILL)
    batches = [batch.id for cell in client.experiment(found[0]).cells for batch in cell.batches]
    jobs = [client.job(job.id) for batch_id in batches for job in client.batch(batch_id).jobs]
    done = {job.id: job.finished_at for job in jobs if job.status is Status.SUCCEEDED}
    assert 1 <= len(done) < 8
    return found[0], done
