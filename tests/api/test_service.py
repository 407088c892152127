"""Keys, health, registry, documentation, and the paths behind a proxy."""

import ast
import dataclasses
import gc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

import api.problems
import jobs.errors
from api import asgi
from api.app import create_app
from api.dependencies import SessionDep
from arc_engine.settings import SolveSettings
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.errors import JobsError
from jobs.repositories import BaseModelRepository

Open = Callable[[ServiceConfig], TestClient]


@pytest.fixture
def guarded(open_client: Open, config: ServiceConfig) -> TestClient:
    return open_client(dataclasses.replace(config, api_keys=("first-key", "second-key")))


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic first-key", "Bearer first-key,second-key"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/solve"), ("GET", "/jobs"), ("GET", "/base-models")])
def test_without_a_key_nothing_is_answered(guarded: TestClient, method: str, path: str, header: str | None):
    headers = {"Authorization": header} if header else {}
    answer = guarded.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_opens(guarded: TestClient, task: dict[str, Any], key: str):
    headers = {"Authorization": f"Bearer {key}"}
    job = guarded.post("/solve", json={"task": task}, headers=headers).json()["jobs"][0]
    assert guarded.get(job["links"]["self"], headers=headers).status_code == 200


def test_every_route_but_health_and_docs_is_guarded(guarded: TestClient):
    paths = guarded.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            status = guarded.request(method, path.replace("{job_id}", "x").replace("{batch_id}", "x")).status_code
            assert (status == 401) == (path not in {"/healthz", "/readyz"}), path


def test_health_needs_nothing(open_client: Open, config: ServiceConfig):
    client = open_client(dataclasses.replace(config, database_url="postgresql://127.0.0.1:1/none"))
    assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_when_everything_answers(client: TestClient):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"database": "ok", "migrations": "ok", "broker": "ok"}}


def test_not_ready_names_what_is_down(open_client: Open, config: ServiceConfig):
    down = dataclasses.replace(
        config, database_url="postgresql://me:secret@127.0.0.1:1/none", broker_url="redis://:secret@127.0.0.1:1/0"
    )
    answer = open_client(down).get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"database", "migrations", "broker"}
    assert "secret" not in answer.text


def test_not_ready_before_the_migration(open_client: Open, config: ServiceConfig, new_database: Callable[..., str]):
    client = open_client(dataclasses.replace(config, database_url=new_database(migrated=False)))
    answer = client.get("/readyz")
    assert (answer.status_code, list(answer.json()["checks"].values()).count("ok")) == (503, 2)
    assert "needs" in answer.json()["checks"]["migrations"]


def test_base_models_are_listed_by_name(client: TestClient, database: SessionFactory):
    with transaction(database) as session:
        BaseModelRepository(session).register("a-model", "some/where", revision="abc")
    items = client.get("/base-models").json()["items"]
    assert [item["name"] for item in items] == ["a-model", "arc-mini", "arc-mini-ft"]
    assert (items[0]["source"], items[0]["revision"]) == ("some/where", "abc")
    assert items[1]["source"] == "bundled:arc-mini"


def test_links_carry_a_proxys_prefix(config: ServiceConfig, task: dict[str, Any]):
    with TestClient(create_app(config), root_path="/arc") as client:
        answer = client.post("/arc/solve", json={"task": task})
        assert answer.headers["location"].startswith("/arc/batches/")
        assert client.get(answer.json()["jobs"][0]["links"]["self"]).status_code == 200


def test_the_documents_examples_work(client: TestClient):
    document = client.get("/openapi.json").json()
    body = document["paths"]["/solve"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        assert client.post("/solve", json=example["value"]).status_code == 202
    assert client.get("/docs").status_code == 200


def test_every_reference_of_the_document_resolves(client: TestClient):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(node: Any) -> set[str]:
        match node:
            case dict():
                own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
                return own.union(*(references(child) for child in node.values()))
            case list():
                return set().union(*(references(child) for child in node))
            case _:
                return set()

    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(schemas)
    assert set(schemas["SolveSettings"]["properties"]) == set(SolveSettings.model_fields)
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}


def test_every_code_that_is_raised_has_its_status():
    """A code without a row in the table would be answered 500."""
    package = Path(api.problems.__file__).parent
    calls = [
        node
        for module in package.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem"
    ]
    codes = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert codes
    assert codes <= set(api.problems.STATUS)
    # These are a worker's, or an operator's, to see.
    internal = {"jobs_error", "configuration_error", "stale_claim", "invalid_adapter_zip", "broker_unavailable"}
    internal |= {"stale_common_claim", "common_adaptation_failed"}
    internal |= {"settings_conflict"}  # answered as invalid_request
    raised = {
        kind.code for kind in vars(jobs.errors).values() if isinstance(kind, type) and issubclass(kind, JobsError)
    }
    assert raised - internal <= set(api.problems.STATUS)


def test_the_documents_table_of_errors_is_ours():
    page = (Path(api.problems.__file__).parents[1] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.MULTILINE)
    assert {code: int(status) for status, code in rows} == dict(api.problems.STATUS)


def test_a_fault_of_ours_is_a_problem_too(client: TestClient):
    @client.app.get("/boom")  # type: ignore[attr-defined]
    def boom() -> None:
        raise ZeroDivisionError("secret")

    answer = client.get("/boom")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_a_commit_that_fails_is_not_answered_200(client: TestClient):
    @client.app.get("/boom")  # type: ignore[attr-defined]
    def boom(session: SessionDep) -> None:
        session.execute(text("CREATE TEMP TABLE twice (x int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"))
        session.execute(text("INSERT INTO twice VALUES (1), (1)"))  # found out by the commit only

    assert client.get("/boom").status_code == 500


def test_the_api_loads_neither_torch_nor_transformers():
    program = (
        "import sys, api.app, api.asgi;"
        "print(*sorted({'torch', 'transformers', 'peft', 'vllm', 'tokenizers', 'worker'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_collections_leave_out_what_is_there_from_the_start(config: ServiceConfig, monkeypatch: pytest.MonkeyPatch):
    for name in ("database_url", "broker_url", "artifacts_dir"):
        monkeypatch.setenv(f"ARCADAPT_{name.upper()}", str(getattr(config, name)))
    gc.unfreeze()
    asgi.create()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
