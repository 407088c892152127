"""The adapter's download."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.config import ServiceConfig

Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def link(submit: Submit, worker: Any) -> str:
    job = submit("00d62c1b")["jobs"][0]
    worker.succeed(job["id"])
    return job["links"]["adapter"]


def test_the_archive_is_whole_and_hashed(client: TestClient, link: str):
    answer = client.get(link)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="00d62c1b-' in answer.headers["content-disposition"]
    digest = hashlib.sha256(answer.content)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["x-checksum-sha256"] == digest.hexdigest()
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]


def test_a_copy_that_is_current_is_not_sent_again(client: TestClient, link: str):
    etag = client.get(link).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = client.get(link, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(link, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_download_can_be_resumed(client: TestClient, link: str):
    whole = client.get(link)
    first = client.get(link, headers={"Range": "bytes=0-99"})
    rest = client.get(link, headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]})
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-99/{len(whole.content)}"
    assert first.content + rest.content == whole.content
    stale = client.get(link, headers={"Range": "bytes=100-", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, whole.content)


@pytest.mark.parametrize(
    ("range_", "status", "code"),
    [("bytes=9999999-", 416, "range_not_satisfiable"), ("lines=1-2", 400, "invalid_range")],
)
def test_a_bad_range_is_a_problem(client: TestClient, link: str, range_: str, status: int, code: str):
    answer = client.get(link, headers={"Range": range_})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("content-range" in answer.headers) == (status == 416)


def test_there_is_none_before_the_job_is_adapted(client: TestClient, submit: Submit, worker: Any):
    job = submit("a")["jobs"][0]
    worker.train(worker.claim(job["id"]), [0.5])
    answer = client.get(job["links"]["adapter"])
    assert (answer.status_code, answer.json()["code"]) == (404, "no_adapter")


def test_there_is_none_without_adaptation(client: TestClient, submit: Submit, worker: Any):
    job = submit("a", settings={"adaptation": None})["jobs"][0]
    worker.finish_adapting(worker.claim(job["id"]), adapter=False)
    answer = client.get(job["links"]["adapter"])
    assert (answer.status_code, answer.json()["code"]) == (404, "no_adapter")


def test_a_file_that_is_gone_is_said_to_be_gone(client: TestClient, link: str, config: ServiceConfig):
    for archive in config.artifacts_dir.rglob("*.zip"):
        archive.unlink()
    answer = client.get(link)
    assert (answer.status_code, answer.json()["code"]) == (410, "artifact_missing")
