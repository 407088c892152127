"""Hashes of folders."""

import hashlib

import pytest

from arc_engine.base_models.manifest import hash_folder

pytestmark = pytest.mark.fast


def test_every_file_but_the_manifest_is_hashed_by_its_relative_path(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "manifest.json").write_text("{}")
    assert hash_folder(tmp_path) == {
        "a": hashlib.sha256(b"one").hexdigest(),
        "inner/b": hashlib.sha256(b"two").hexdigest(),
    }
