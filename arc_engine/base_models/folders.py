"""Folders of models: how they appear, and what they hold beside weights."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from arc_engine.errors import BaseModelError

CHAT_TEMPLATE_FILES: Final = ("chat_template*", "additional_chat_templates/*")
TOKENIZER_FILES: Final = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    *CHAT_TEMPLATE_FILES,
)
LICENCE_FILES: Final = ("LICENSE*", "NOTICE*")


@contextmanager
def appearing_whole(out_folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out_folder` at the end of the context, or is removed if that raises.

    Raises `BaseModelError` if `out_folder` exists.
    """
    if out_folder.exists():
        raise BaseModelError(f"{out_folder} exists already")
    out_folder.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out_folder.parent, prefix=f".{out_folder.name}-"))
    try:
        folder.chmod(0o755)
        yield folder
        folder.rename(out_folder)
    except BaseException:
        shutil.rmtree(folder)
        raise


def copy_companions(
    base_folder: Path, folder: Path, *, patterns: tuple[str, ...] = TOKENIZER_FILES + LICENCE_FILES
) -> None:
    """Copies to `folder` what a base model has beside its weights and their configuration."""
    for pattern in patterns:
        for path in base_folder.glob(pattern):
            copy = folder / path.relative_to(base_folder)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)


def stored_dtype(folder: Path) -> torch.dtype:
    """Precision in which the folder's weights are stored; the first floating point tensor speaks for all."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}.get(
                    file.get_slice(name).get_dtype()
                )
                if dtype is not None:
                    return dtype
    raise BaseModelError(f"{folder} holds no weights in float32, float16 or bfloat16")
