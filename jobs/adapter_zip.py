"""The archive that an adapter is kept and downloaded as.

The same files give the same bytes, so that an ETag means something. Weights are stored, not deflated: they do not
shrink.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arc_engine.hashing import hash_file
from jobs.errors import InvalidAdapterZip

MANIFEST: Final = "manifest.json"
ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
MAX_UNPACKED_BYTES: Final = 8 << 30

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
_MODE: Final = 0o100644 << 16


def pack(folder: Path, target: Path, *, manifest: Mapping[str, Any]) -> None:
    """Writes the adapter in `folder` to the archive `target`. The manifest gains `files`: their sha256 by name."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=True) as archive:
        hashes = {name: _add(archive, name, folder / name) for name in ADAPTER_FILES}
        text = json.dumps({**manifest, "files": hashes}, indent=2, sort_keys=True) + "\n"
        archive.writestr(_entry(MANIFEST), text)


def unpack(source: Path, folder: Path) -> Mapping[str, Any]:
    """Writes an archive's files into `folder` and returns the manifest.

    Raises `InvalidAdapterZip` unless it holds exactly the files of an adapter, with the hashes that its manifest names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(source) as archive:
            _check_names(archive)
            manifest = json.loads(archive.read(MANIFEST))
            for name in ADAPTER_FILES:
                with archive.open(name) as reader, (folder / name).open("wb") as writer:
                    shutil.copyfileobj(reader, writer)
    except (zipfile.BadZipFile, ValueError) as error:
        raise InvalidAdapterZip(str(error)) from error
    hashes = {name: hash_file(folder / name) for name in ADAPTER_FILES}
    if not isinstance(manifest, dict) or manifest.get("files") != hashes:
        raise InvalidAdapterZip("the files are not those that the manifest names")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return manifest


def _check_names(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = sorted(entry.filename for entry in entries)
    if names != sorted((*ADAPTER_FILES, MANIFEST)):
        raise InvalidAdapterZip(f"expected {', '.join(ADAPTER_FILES)} and {MANIFEST}, found {', '.join(names)}")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise InvalidAdapterZip("the files are too large for an adapter")


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> str:
    with source.open("rb") as reader, archive.open(_entry(name), "w", force_zip64=True) as writer:
        shutil.copyfileobj(reader, writer)
    return hash_file(source)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.external_attr = _MODE
    return entry
