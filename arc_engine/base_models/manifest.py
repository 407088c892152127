"""Hashes of a model folder's files: what says, later and elsewhere, that these are the same weights."""

import hashlib
from pathlib import Path
from typing import Final

MANIFEST_NAME: Final = "manifest.json"


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` by its relative path, the manifest itself left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files if path != folder / MANIFEST_NAME}
