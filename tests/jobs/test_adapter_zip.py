"""The archive that an adapter is downloaded as."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.adapter_zip import ADAPTER_FILES, MANIFEST, pack, unpack
from jobs.errors import InvalidAdapterZip

pytestmark = pytest.mark.fast


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 16}')
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "secrets.txt").write_text("not for the archive")
    return folder


def test_unpacks_to_what_was_packed(adapter: Path, tmp_path: Path):
    pack(adapter, tmp_path / "a.zip", manifest={"job_id": "x"})
    manifest = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted((*ADAPTER_FILES, MANIFEST))
    for name in ADAPTER_FILES:
        content = (adapter / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == content
        assert manifest["files"][name] == hashlib.sha256(content).hexdigest()
    assert manifest["job_id"] == "x"
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == manifest


def test_the_same_files_give_the_same_bytes(adapter: Path, tmp_path: Path):
    pack(adapter, tmp_path / "one.zip", manifest={"a": 1, "b": 2})
    for name in ADAPTER_FILES:
        os.utime(adapter / name, (10**9, 10**9))
        (adapter / name).chmod(0o600)
    pack(adapter, tmp_path / "two.zip", manifest={"b": 2, "a": 1})
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_any_unzip_can_read_it(adapter: Path, tmp_path: Path):
    pack(adapter, tmp_path / "a.zip", manifest={})
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*ADAPTER_FILES, MANIFEST]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def _rewritten(source: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.update({"../evil": b""}),
        lambda files: files.update({"adapter_model.bin": b""}),
        lambda files: files.pop(MANIFEST),
        lambda files: files.pop("adapter_config.json"),
        lambda files: files.update({"adapter_config.json": b'{"r": 17}'}),
        lambda files: files.update({MANIFEST: b"not json"}),
        lambda files: files.update({MANIFEST: b"[]"}),
        lambda files: files.update({MANIFEST: b"{}"}),
    ],
)
def test_anything_else_is_refused(adapter: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None]):
    pack(adapter, tmp_path / "a.zip", manifest={})
    _rewritten(tmp_path / "a.zip", change)
    with pytest.raises(InvalidAdapterZip):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_what_is_no_zip_is_refused(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"PK or not")
    with pytest.raises(InvalidAdapterZip):
        unpack(tmp_path / "a.zip", tmp_path / "out")
