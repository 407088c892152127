"""Where base models come from, without a hub: bundled ones, folders, and clear refusals."""

import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from transformers import AutoTokenizer

from arc_engine.base_models import sources
from arc_engine.base_models.folders import copy_companions
from arc_engine.base_models.sources import resolve, resolve_adapter
from arc_engine.errors import BaseModelError, BaseModelUnavailable


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


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "models" / "lora"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).touch()
    return folder


def test_local_names_are_folders_of_the_operators(tiny_base, adapter):
    assert resolve(f"local:{tiny_base.name}", models_dir=tiny_base.parent) == tiny_base
    assert resolve_adapter("local:lora", models_dir=adapter.parent) == adapter


@pytest.mark.parametrize("source", ["local:", "local:..", "local:../etc", "local:/etc", "local:a/b", "local:nowhere"])
def test_local_names_do_not_leave_their_folder(source, tiny_base):
    with pytest.raises(BaseModelError, match="local:"):
        resolve(source, models_dir=tiny_base.parent)


def test_without_an_operators_folder_there_are_no_local_models(tiny_base):
    with pytest.raises(BaseModelError, match="ARCADAPT_MODELS_DIR"):
        resolve(f"local:{tiny_base.name}")


def _answer(status: int) -> HfHubHTTPError:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (_answer(404), True),
        (_answer(401), True),
        (HFValidationError("x"), True),
        (_answer(503), False),
        (_answer(429), False),
        (LocalEntryNotFoundError("offline"), False),
        (TimeoutError(), False),
        (RuntimeError("of a transport library"), False),
    ],
)
def test_a_hub_that_cannot_be_reached_is_another_matter_than_one_that_says_no(error, is_final, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sources, "snapshot_download", fail)
    with pytest.raises(BaseModelError, match="cannot be downloaded") as raised:
        resolve("hub:owner/name")
    assert isinstance(raised.value, BaseModelUnavailable) is not is_final


def test_a_revision_does_not_lead_out_of_the_cache():
    with pytest.raises(BaseModelError, match="not a revision"):
        resolve("hub:owner/name", revision="a/../../b")


def test_an_adapter_is_found_like_a_base_model(adapter, monkeypatch):
    monkeypatch.setattr(sources, "BUNDLED_FOLDER", adapter.parent)
    assert resolve_adapter("bundled:lora") == resolve_adapter(str(adapter)) == adapter


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_its_parts_is_refused(adapter, missing):
    (adapter / missing).unlink()
    with pytest.raises(BaseModelError, match=missing):
        resolve_adapter(str(adapter))


def test_a_hub_id_that_says_so_is_never_a_folder(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(tiny_base, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseModelError, match="cannot be downloaded"):
        resolve("hub:owner/name")


@pytest.mark.parametrize("base", ["tiny_base", "tiny_qwen2"])
def test_what_is_downloaded_and_copied_holds_the_whole_tokenizer_with_its_chat_templates(base, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(base), tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    written = set(tokenizer.save_pretrained(folder))
    assert str(folder / "chat_template.jinja") in written
    assert str(folder / "additional_chat_templates" / "tool_use.jinja") in written
    for name in ("LICENSE", "model.safetensors.index.json", "pytorch_model.bin", "modeling.py"):
        (folder / name).touch()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    downloaded = set(filter_repo_objects(files, allow_patterns=list(sources.HUB_FILES)))
    assert downloaded == files - {"pytorch_model.bin", "modeling.py"}
    copied = tmp_path / "copied"
    copied.mkdir()
    copy_companions(folder, copied)
    found = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    weights_and_configuration = {"config.json", "generation_config.json", "model.safetensors"}
    assert found == downloaded - weights_and_configuration - {"model.safetensors.index.json"}
    assert AutoTokenizer.from_pretrained(copied).chat_template == tokenizer.chat_template
