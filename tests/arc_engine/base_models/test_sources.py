"""Where base models come from, without a hub: bundled ones, folders, and clear refusals."""

import shutil

import pytest

from arc_engine.base_models import sources
from arc_engine.base_models.sources import resolve
from arc_engine.errors import BaseModelError


def test_a_local_folder(tiny_base):
    assert resolve(str(tiny_base)) == tiny_base


def test_a_relative_folder_becomes_absolute(tiny_base, monkeypatch):
    monkeypatch.chdir(tiny_base.parent)
    assert resolve(tiny_base.name) == tiny_base


def test_a_folder_wins_over_a_hub_id_of_the_same_name(tiny_base, tmp_path, monkeypatch):
    shutil.copytree(tiny_base, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/name") == tmp_path / "owner" / "name"


def test_a_bundled_model_lies_in_the_package(tiny_base, tmp_path, monkeypatch):
    shutil.copytree(tiny_base, tmp_path / "small")
    monkeypatch.setattr(sources, "BUNDLED_FOLDER", tmp_path)
    assert resolve("bundled:small") == tmp_path / "small"


@pytest.mark.parametrize("source", ["bundled:", "bundled:..", "bundled:../../etc", "bundled:/etc", "bundled:no-such"])
def test_bundled_names_do_not_leave_their_folder(source):
    with pytest.raises(BaseModelError, match="bundled:"):
        resolve(source)


@pytest.mark.parametrize("source", ["", "no-such-folder", "/no/such/folder", "a/b/c", "owner/name; rm -rf /"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError):
        resolve(source)


def test_a_revision_is_for_hub_ids_only(tiny_base):
    with pytest.raises(BaseModelError, match="revisions"):
        resolve(str(tiny_base), revision="main")


def test_a_hub_that_cannot_be_reached_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BaseModelError, match="owner/no-such-model: cannot be downloaded"):
        resolve("owner/no-such-model", revision="main")


@pytest.mark.parametrize(
    ("missing", "message"), [("config.json", "no config.json"), ("model.safetensors", "safetensors")]
)
def test_a_folder_without_its_parts_is_refused(tiny_base, tmp_path, missing, message):
    folder = shutil.copytree(tiny_base, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(BaseModelError, match=message):
        resolve(str(folder))
