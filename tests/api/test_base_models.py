"""Base models over HTTP: no client names a path on our machines, and a worker is told to get them ready."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from fastapi.testclient import TestClient

from arc_engine.base_models.sources import BUNDLED_FOLDER
from arc_engine.errors import BaseModelError
from arc_engine.settings import BUNDLED_BASE_MODELS
from jobs.claims import BaseModelSource
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.doorbells import Doorbell, celery_app
from jobs.repositories import BaseModelRepository
from worker.base_folders import BaseFolders
from worker.preparing import prepare

Open = Callable[[ServiceConfig], TestClient]


def pointers(answer: Any) -> list[str]:
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    return [fault["pointer"] for fault in answer.json()["errors"]]


def test_a_base_model_is_registered_and_a_worker_told(client: TestClient, broker_url: str):
    body = {"name": "team/tuned", "source": "owner/model", "revision": "main", "adapter": "bundled:lora"}
    answer = client.post("/base-models", json=body)
    assert (answer.status_code, answer.headers["location"]) == (202, "/base-models/team/tuned")
    model = client.get(answer.headers["location"]).json()
    assert model == answer.json()
    assert (model["source"], model["revision"], model["adapter_source"]) == ("hub:owner/model", "main", "bundled:lora")
    assert (model["merge_state"], model["error"], model["adapter_config"]) == ("needs_merge", None, None)
    assert Doorbell(celery_app(broker_url)).num_waiting("prepare") == 1


def test_nobody_by_this_name(client: TestClient):
    answer = client.get("/base-models/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "../models",
        "models",
        "./a/b",
        "a/b/c",
        "local:../etc",
        "local:a/b",
        "bundled:..",
        "hub:x",
        "file:///etc",
        "",
    ],
)
@pytest.mark.parametrize("field", ["source", "adapter"])
def test_paths_are_refused(client: TestClient, source: str, field: str):
    answer = client.post("/base-models", json={"name": "x", "source": "bundled:arc-mini", field: source})
    assert pointers(answer) == [f"/{field}"]
    assert client.get("/base-models/x").status_code == 404


def test_a_hub_id_is_never_a_folder_of_the_worker(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "model").symlink_to(tiny_base)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot be downloaded"):
        BaseFolders(tmp_path / "work").unmerged(BaseModelSource("hub:owner/model"))


def test_revisions_are_of_hub_models(client: TestClient):
    for more in ({"revision": "main"}, {"adapter": "bundled:a", "adapter_revision": "main"}, {"adapter_revision": "1"}):
        assert pointers(client.post("/base-models", json={"name": "x", "source": "bundled:arc-mini", **more})) == [""]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a/../b"),
        ("name", "a/.."),
        ("name", "a//b"),
        ("source", "owner/.."),
        ("revision", "a/../../b"),
        ("adapter_revision", "refs/.."),
    ],
)
def test_no_name_leads_upwards(client: TestClient, field: str, value: str):
    body = {"name": "x", "source": "owner/model", "adapter": "owner/lora"}
    assert pointers(client.post("/base-models", json={**body, field: value})) == [f"/{field}"]


@pytest.mark.parametrize("adapter", ["local:lora.zip", "hub:owner/lora.zip", "bundled:lora.zip"])
def test_a_named_adapter_is_never_an_archive_of_the_worker(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / adapter
    archive.parent.mkdir(exist_ok=True)
    with ZipFile(archive, "w") as file:
        file.writestr("adapter_config.json", "{}")
    with pytest.raises(BaseModelError, match=r"cannot be downloaded|neither an existing|no folder of models"):
        BaseFolders(tmp_path / "work").adapter(BaseModelSource("bundled:arc-mini", adapter_source=adapter))
    assert not (tmp_path / "work" / "base-adapters").exists()


def test_local_models_are_those_of_the_operators_folder(
    open_client: Open, config: ServiceConfig, database: SessionFactory, tiny_base: Path
):
    body = {"name": "mine", "source": f"local:{tiny_base.name}"}
    assert pointers(open_client(config).post("/base-models", json=body)) == ["/source"]

    client = open_client(dataclasses.replace(config, models_dir=tiny_base.parent))
    assert client.post("/base-models", json=body).status_code == 202
    bases = BaseFolders(config.work_dir, tiny_base.parent)
    prepare("mine", sessions=database, bases=bases)
    assert client.get("/base-models/mine").json()["merge_state"] == "merged"
    assert bases.unmerged(BaseModelSource(body["source"])) == tiny_base


def test_what_a_worker_cannot_use_says_why(client: TestClient, config: ServiceConfig, database: SessionFactory):
    client.post("/base-models", json={"name": "lost", "source": "bundled:lost"})
    prepare("lost", sessions=database, bases=BaseFolders(config.work_dir))
    model = client.get("/base-models/lost").json()
    assert model["merge_state"] == "failed"
    assert "bundled:lost" in model["error"]


def test_continue_without_an_adapter_is_refused_with_its_place(client: TestClient, task: dict[str, Any]):
    answer = client.post("/solve", json={"task": task, "settings": {"adaptation": {"start": "continue"}}})
    assert pointers(answer) == ["/settings/adaptation/start"]


@pytest.mark.parametrize("name", BUNDLED_BASE_MODELS)
def test_nobody_changes_for_all_what_a_bundled_name_means(client: TestClient, name: str):
    before = client.get(f"/base-models/{name}").json()
    answer = client.post("/base-models", json={"name": name, "source": "owner/model"})
    assert (answer.status_code, answer.json()["code"]) == (409, "reserved_name")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/name"]
    assert client.get(f"/base-models/{name}").json() == before


def test_the_bundled_names_are_those_of_the_package(client: TestClient):
    assert sorted(path.name for path in BUNDLED_FOLDER.iterdir()) == sorted(BUNDLED_BASE_MODELS)
    named = {model["name"] for model in client.get("/base-models").json()["items"]}
    assert named == set(BUNDLED_BASE_MODELS)


def test_a_name_registered_anew_waits_to_be_looked_at_again(client: TestClient, database: SessionFactory):
    with transaction(database) as session:
        BaseModelRepository(session).register("again", "/models/one")
    assert client.get("/base-models/again").json()["merge_state"] == "merged"
    client.post("/base-models", json={"name": "again", "source": "bundled:arc-mini"})
    assert client.get("/base-models/again").json()["merge_state"] == "needs_merge"
    with transaction(database) as session:
        assert "again" in BaseModelRepository(session).waiting()
