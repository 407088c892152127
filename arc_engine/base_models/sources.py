"""Where a base model comes from: bundled with the package, a local folder, or a model hub."""

import re
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from arc_engine.errors import BaseModelError

BUNDLED_PREFIX: Final = "bundled:"
BUNDLED_FOLDER: Final = Path(__file__).parents[1] / "models"
BUNDLED_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# Weights as safetensors only (a pickle runs code when it is opened), and what a tokenizer is made of.
HUB_FILES: Final = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "merges.txt", "vocab.txt")


def resolve(source: str, *, revision: str | None = None) -> Path:
    """The folder that holds the base model `source`.

    `source` is `bundled:<name>` for a model that the package brings, the path of a local folder, or a hub id
    `<owner>/<name>`, which is downloaded once (at `revision`, if given) and then kept in the hub's own cache. A folder
    that exists wins over a hub id of the same name.

    Raises `BaseModelError` if there is no such model, or if a revision is given for anything but a hub id.
    """
    if not source.startswith(BUNDLED_PREFIX) and not Path(source).is_dir() and HUB_ID.fullmatch(source):
        return _checked(_download(source, revision=revision), source=source)
    if revision is not None:
        raise BaseModelError(f"{source}: only models of a hub have revisions")
    return _checked(_local_folder(source), source=source)


def _local_folder(source: str) -> Path:
    if not source.startswith(BUNDLED_PREFIX):
        return Path(source).absolute()
    name = source.removeprefix(BUNDLED_PREFIX)
    if not BUNDLED_NAME.fullmatch(name):
        raise BaseModelError(f"{source}: not a name of a bundled model")
    return BUNDLED_FOLDER / name


def _download(hub_id: str, *, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(f"{hub_id}: cannot be downloaded: {error}") from error


def _checked(folder: Path, *, source: str) -> Path:
    if not folder.is_dir():
        raise BaseModelError(f"{source}: neither an existing folder nor a hub id <owner>/<name>")
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{source}: {folder} holds no config.json")
    if not any(folder.glob("*.safetensors")):
        raise BaseModelError(f"{source}: {folder} holds no weights in safetensors format")
    return folder
