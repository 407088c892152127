"""What jobs share, and base models with an adapter of their own, through the whole real stack."""

import time
from pathlib import Path
from typing import Any

import pytest

from api.schemas import JobDetail
from arcadapt import Client
from jobs.states import Status
from tests.fixtures.stack import RunningService
from tests.worker.desk import TASK

SETTINGS: dict[str, Any] = {"base_model": "tiny", "sampling": {"backend": "torch", "num_views": 2, "max_new_tokens": 8}}
ADAPTATION: dict[str, Any] = {"max_steps": 3, "batch_size": 2, "lora_rank": 2}
WAIT_S = 240.0


@pytest.fixture
def client(service: RunningService) -> Client:
    return Client(service.url)


def finished(client: Client, adaptation: dict[str, Any], **more: Any) -> list[JobDetail]:
    accepted = client.solve({"a": TASK, "b": TASK}, settings={**SETTINGS, **more, "adaptation": adaptation})
    jobs = client.wait([job.id for job in accepted.jobs], timeout_s=WAIT_S)
    assert [job.status for job in jobs] == [Status.SUCCEEDED] * 2, [job.error for job in jobs]
    return jobs


def test_a_warm_start_then_its_adapter_is_trained_further(
    client: Client, service: RunningService, tiny_base: Path, tmp_path: Path
):
    warm = finished(client, {**ADAPTATION, "start": "warm", "warmup": {"steps": 2, "batch_size": 4}})
    curves = [client.losses(job.id) for job in warm]
    assert [step.stage for step in curves[0]] == ["common"] * 2 + ["task"] * 3
    assert [step.loss for step in curves[0][:2]] == [step.loss for step in curves[1][:2]]

    archive = client.adapter(warm[0].id, tmp_path / "adapter.zip")
    service.arcadapt("models", "register", "tuned", str(tiny_base), "--adapter", str(archive))
    continued = finished(client, {"max_steps": 3, "batch_size": 2, "start": "continue"}, base_model="tuned")
    assert continued[0].settings["adaptation"]["lora_rank"] == 2
    assert client.losses(continued[0].id)[0].loss < curves[0][0].loss
    finished(client, ADAPTATION, base_model="tuned")
    assert client.base_model("tuned").merge_state == "merged"


def test_a_worker_looks_at_a_base_model_as_soon_as_it_is_registered(client: Client):
    client.register_base_model("again", "bundled:arc-mini")
    client.register_base_model("nowhere", "bundled:nowhere")
    deadline = time.monotonic() + WAIT_S
    while {client.base_model(name).merge_state for name in ("again", "nowhere")} != {"merged", "failed"}:
        assert time.monotonic() < deadline, "no worker has looked"
        time.sleep(0.2)
    assert "bundled:nowhere" in (client.base_model("nowhere").error or "")
