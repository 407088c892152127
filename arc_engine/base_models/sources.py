"""Where a base model, or its adapter, comes from: bundled with the package, a local folder, or a model hub."""

import re
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from arc_engine.base_models.plain_lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from arc_engine.errors import BaseModelError, BaseModelUnavailable

BUNDLED_PREFIX: Final = "bundled:"
BUNDLED_FOLDER: Final = Path(__file__).parents[1] / "models"
LOCAL_PREFIX: Final = "local:"
HUB_PREFIX: Final = "hub:"
ASK_AGAIN: Final = (408, 429)
"""What an HTTP server answers that was slow, or is asked too often."""
FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# Weights as safetensors only (a pickle runs code when it is opened), what a tokenizer is made of, and the licence.
HUB_FILES: Final = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    "LICENSE*",
    "NOTICE*",
)


def is_name(source: str) -> bool:
    """Whether it says itself what kind of name it is, and is no path, whatever lies on this machine."""
    return source.startswith((BUNDLED_PREFIX, LOCAL_PREFIX, HUB_PREFIX))


def resolve(source: str, *, revision: str | None = None, models_dir: Path | None = None) -> Path:
    """The folder that holds the base model `source`.

    `source` is `bundled:<name>` for a model that the package brings; `local:<name>` for a folder in `models_dir`, which
    is how people who may not name paths speak of local models; the path of a local folder; or a hub id
    `<owner>/<name>`, which is downloaded once (at `revision`, if given) and then kept in the hub's own cache. A folder
    that exists wins over a hub id of the same name, but not over one with `hub:` before it.

    Raises `BaseModelError` if there is no such model, or if a revision is given for anything but a hub id.
    """
    folder = _folder(source, revision=revision, models_dir=models_dir)
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{source}: {folder} holds no config.json")
    if not any(folder.glob("*.safetensors")):
        raise BaseModelError(f"{source}: {folder} holds no weights in safetensors format")
    return folder


def resolve_adapter(source: str, *, revision: str | None = None, models_dir: Path | None = None) -> Path:
    """The folder that holds the LoRA adapter `source`, which is named like a base model; raises `BaseModelError`."""
    folder = _folder(source, revision=revision, models_dir=models_dir)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise BaseModelError(f"{source}: {folder} holds no {name}")
    return folder


def _folder(source: str, *, revision: str | None, models_dir: Path | None) -> Path:
    hub_id = source.removeprefix(HUB_PREFIX)
    if HUB_ID.fullmatch(hub_id) and (hub_id != source or not Path(source).is_dir()):
        return _download(hub_id, revision=revision)
    if revision is not None:
        raise BaseModelError(f"{source}: only models of a hub have revisions")
    folder = _local_folder(source, models_dir=models_dir)
    if not folder.is_dir():
        raise BaseModelError(f"{source}: neither an existing folder nor a hub id <owner>/<name>")
    return folder


def _local_folder(source: str, *, models_dir: Path | None) -> Path:
    if source.startswith(BUNDLED_PREFIX):
        return BUNDLED_FOLDER / _folder_name(source.removeprefix(BUNDLED_PREFIX), source=source)
    if source.startswith(LOCAL_PREFIX):
        if models_dir is None:
            raise BaseModelError(f"{source}: this machine has no folder of models; set ARCADAPT_MODELS_DIR")
        return models_dir.absolute() / _folder_name(source.removeprefix(LOCAL_PREFIX), source=source)
    return Path(source).absolute()


def _folder_name(name: str, *, source: str) -> str:
    if not FOLDER_NAME.fullmatch(name):
        raise BaseModelError(f"{source}: not the name of a folder of models")
    return name


def _download(hub_id: str, *, revision: str | None) -> Path:
    if ".." in (revision or "").split("/"):  # the hub's cache makes a path of it
        raise BaseModelError(f"{hub_id}: {revision!r} is not a revision")
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's client lets errors through of libraries that differ from version to version
        kind = BaseModelError if _is_final(error) else BaseModelUnavailable
        raise kind(f"{hub_id}: cannot be downloaded: {error}") from error


def _is_final(error: Exception) -> bool:
    """Whether asking again later is in vain: the hub has understood, and has no such thing or does not give it out."""
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", None)
        return status in range(400, 500) and status not in ASK_AGAIN
    return isinstance(error, HFValidationError)
