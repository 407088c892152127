"""Experiments over HTTP: what is refused and where, what is stored, what the table says."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Worker

Body = dict[str, Any]


@pytest.fixture
def body(task: Body) -> Body:
    return {
        "name": "ranks",
        "tasks": {"a": task, "b": task},
        "settings": {"adaptation": {"max_steps": 3}},
        "grid": {"adaptation.lora_rank": [1, 8]},
        "seeds": [3, 4],
    }


def create(client: TestClient, body: Body, **headers: str) -> Body:
    answer = client.post("/experiments", json=body, headers=headers)
    assert answer.status_code in {200, 202}, answer.text
    return answer.json()


def jobs_of(client: TestClient, experiment: Body) -> list[Body]:
    ids = [batch["id"] for cell in experiment["cells"] for batch in cell["batches"]]
    return [job for batch_id in ids for job in client.get(f"/batches/{batch_id}").json()["jobs"]]


def test_every_cell_runs_every_task_under_every_seed(client: TestClient, body: Body):
    experiment = create(client, body)
    assert [cell["name"] for cell in experiment["cells"]] == ["lora_rank=1", "lora_rank=8"]
    for cell, rank in zip(experiment["cells"], (1, 8), strict=True):
        assert cell["counts"]["queued"] == 4
        assert cell["max_steps"] == 12
        assert [batch["seed"] for batch in cell["batches"]] == [3, 4]
        for batch in cell["batches"]:
            settings = client.get(batch["links"]["self"]).json()["settings"]
            assert settings["adaptation"]["lora_rank"] == rank
            assert settings["adaptation"]["max_steps"] == 3
            assert settings["adaptation"]["seed"] == settings["sampling"]["seed"] == batch["seed"]
    assert client.get(experiment["links"]["self"]).json() == experiment
    assert [item["id"] for item in client.get("/experiments").json()["items"]] == [experiment["id"]]


def test_a_full_report(client: TestClient, body: Body, worker: Worker):
    experiment = create(client, body)
    for job in jobs_of(client, experiment):
        worker.succeed(job["id"])
    report = client.get(experiment["links"]["report"]).json()
    print(client.get(experiment["links"]["report"], params={"format": "markdown"}).text)
    print(client.get(experiment["links"]["report"], params={"format": "csv"}).text)
    print(client.get(experiment["links"]["curves"]).json())
    assert report["finished"]
