"""Files that jobs leave behind."""

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.artifacts import ArtifactStore, adapter_key
from jobs.errors import ArtifactMissing

pytestmark = pytest.mark.fast


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.write_bytes(b"weights" * 100_000)
    return source


def test_what_was_written_can_be_read_and_is_described(store: ArtifactStore, source: Path):
    key = adapter_key(uuid4(), 1)
    stored = store.write(key, source)
    assert store.path(key).read_bytes() == source.read_bytes()
    assert stored.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (stored.key, stored.size_bytes) == (key, source.stat().st_size)


def test_attempts_do_not_share_a_key():
    job_id = uuid4()
    assert adapter_key(job_id, 1) != adapter_key(job_id, 2)


def test_a_second_write_replaces_the_first(store: ArtifactStore, source: Path):
    store.write("a/b.zip", source)
    source.write_bytes(b"new")
    store.write("a/b.zip", source)
    assert store.path("a/b.zip").read_bytes() == b"new"


def test_nothing_is_left_of_a_write_that_failed(store: ArtifactStore, source: Path, monkeypatch, tmp_path: Path):
    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.artifacts.os.fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        store.write("a/b.zip", source)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
    with pytest.raises(ArtifactMissing):
        store.path("a/b.zip")


def test_deleting_twice_is_harmless(store: ArtifactStore, source: Path):
    store.write("a/b.zip", source)
    store.delete("a/b.zip")
    store.delete("a/b.zip")
    with pytest.raises(ArtifactMissing):
        store.path("a/b.zip")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "A", "a b", "a\0", "a\n", ".hidden", "a/.b"]
)
def test_only_keys_of_our_own_making_are_taken(store: ArtifactStore, source: Path, key: str):
    for use in (lambda: store.write(key, source), lambda: store.path(key), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="not an artifact key"):
            use()
