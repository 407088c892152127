"""Hashes of a model folder's files: what says, later and elsewhere, that these are the same weights."""

from pathlib import Path
from typing import Final

from arc_engine.hashing import hash_file

MANIFEST_NAME: Final = "manifest.json"


def hash_folder(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` by its relative path, the manifest itself left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files if path != folder / MANIFEST_NAME}
