"""`arcadapt evaluate` from nothing: a stack of its own, killed in the middle, and run again."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arcadapt import Client
from arcadapt.errors import ApiError, ServerUnreachable
from arcadapt.stack.folder import StackFolder
from jobs.states import Status

PATIENCE_S = 300.0
TASKS = {
    name: {"train": [{"input": [[n]], "output": [[7, 7]]} for n in (1, 2, 3)], "test": [{"input": [[4]], "output": it}]}
    for name, it in {"constant": [[7, 7]], "impossible": [[1, 2, 3]]}.items()
}
SETTINGS = {"adaptation": {"max_steps": 40}, "sampling": {"num_views": 2, "max_new_tokens": 8, "backend": "torch"}}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that PostgreSQL may enter where tests run as root."""
    with tempfile.TemporaryDirectory(prefix="arcadapt-evaluate-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "tasks.json").write_text(json.dumps(TASKS))
        (Path(folder) / "settings.json").write_text(json.dumps(SETTINGS))
        yield Path(folder)


def start(place: Path) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARCADAPT_")}
    command = ["evaluate", "tasks.json", "--settings", "settings.json", "--out", "out", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "arcadapt", *command],
        cwd=place,
        env={**inherited, "ARCADAPT_LEASE_S": "5"},  # what the killed worker held is taken over soon
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running_jobs(place: Path) -> list[Any]:
    running = StackFolder.of(place).announced()
    if running is None:
        return []
    with Client(running.url) as client:
        try:
            return list(client.jobs(status=Status.RUNNING))
        except (ServerUnreachable, ApiError):
            return []


def test_an_evaluation_that_was_killed_goes_on_and_is_reported(place: Path):
    first = start(place)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (under_way := running_jobs(place)):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        first.kill()
        first.communicate()

    second = start(place)
    try:
        out, err = second.communicate(timeout=PATIENCE_S)
    finally:
        second.kill()
    assert second.returncode == 0, err
    report = json.loads(out)
    assert report["batch_id"] == str(under_way[0].batch_id)
    assert report == json.loads((place / "out" / "report.json").read_text())
    assert [task["status"] for task in report["tasks"]] == ["succeeded", "succeeded"]
    constant, impossible = (task["metrics"] for task in report["tasks"])
    assert constant["pass_at_2"] == 1
    assert (impossible["pass_at_2"], impossible["correct_size"]) == (0, 0)
    assert report["metrics"]["pass_at_2"] == 0.5
    assert (place / "out" / "picture.png").stat().st_size > 1000
    assert StackFolder.of(place).announced() is None  # what was started was stopped
