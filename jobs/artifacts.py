"""Files that jobs leave behind, on a disk that the API and the workers share."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from arc_engine.hashing import hash_file
from jobs.errors import ArtifactMissing

_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A file in the store."""

    key: str
    sha256: str
    size_bytes: int


def adapter_key(job_id: UUID, attempt: int) -> str:
    """Where the adapter that this attempt trained is kept. Attempts never share a key."""
    return f"adapters/{job_id}/{attempt}.zip"


def common_adapter_key(batch_id: UUID, group_index: int, attempt: int) -> str:
    """Where the adapter that several jobs of a batch share is kept."""
    return f"adapters/common/{batch_id}/{group_index}-{attempt}.zip"


class ArtifactStore:
    """Whole files under keys that this service makes; a key is never a client's text."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, key: str, source: Path) -> StoredArtifact:
        """Copies a file into the store. A reader sees all of it or nothing, after a power cut too."""
        target = self._place(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            with source.open("rb") as reader, temporary.open("xb") as writer:
                shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
                writer.flush()
                os.fsync(writer.fileno())
            stored = StoredArtifact(key, hash_file(temporary), temporary.stat().st_size)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for folder in (target.parent, *target.parent.parents):
            _sync_folder(folder)  # a new file is as durable as the folder entries that lead to it
            if folder == self._root:
                break
        return stored

    def path(self, key: str) -> Path:
        """The file under this key, to read; raises `ArtifactMissing`."""
        place = self._place(key)
        if not place.is_file():
            raise ArtifactMissing(key)
        return place

    def delete(self, key: str) -> None:
        """Removes the file; harmless when there is none."""
        self._place(key).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not an artifact key: {key!r}")
        return self._root / key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
