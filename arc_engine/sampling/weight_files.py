"""What safetensors files say of themselves, without torch: the names, shapes and types of their tensors."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open

WEIGHTS: Final = "model.safetensors"
WEIGHTS_INDEX: Final = "model.safetensors.index.json"
LENGTH_BYTES: Final = 8  # the header's length stands before the header, and after that the tensors
EMBEDDING_WORDS: Final = ("embed", "wte", "wpe", "lm_head")

# numpy has no bfloat16: its values are the upper halves of float32 ones.
FLOAT_TYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
BF16_EXPONENT: Final = 0x7F80  # all ones in what is infinite or not a number


class BrokenWeights(Exception):
    """A file that is no whole safetensors file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where in its file a tensor is: `offset` in bytes from the start."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file by name; raises `BrokenWeights` unless the file is whole."""
    try:
        # Opening checks the header against the size of the file and the tensors' places against each other.
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise BrokenWeights(str(error)) from error
    return {
        name: StoredTensor(tensor["dtype"], tuple(tensor["shape"]), LENGTH_BYTES + length + tensor["data_offsets"][0])
        for name, tensor in header.items()
        if name != "__metadata__"
    }


def is_finite(path: Path, tensor: StoredTensor) -> bool:
    """Whether all values of a floating point tensor are finite."""
    values = np.fromfile(path, FLOAT_TYPES[tensor.dtype], count=math.prod(tensor.shape), offset=tensor.offset)
    if tensor.dtype == "BF16":
        return not bool(np.any((values & BF16_EXPONENT) == BF16_EXPONENT))
    return bool(np.isfinite(values).all())


def base_shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Shapes of a base model's tensors by name; none where its weights are no safetensors files.

    Raises `BrokenWeights`.
    """
    index = folder / WEIGHTS_INDEX
    try:
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            names = [WEIGHTS] if (folder / WEIGHTS).is_file() else []
        stamps = tuple((folder / name, (folder / name).stat().st_mtime_ns) for name in names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BrokenWeights(f"{index} cannot be read: {error}") from error
    return _shapes(stamps)


@lru_cache(maxsize=8)  # read for every adapter, while a base's files never change
def _shapes(files: Sequence[tuple[Path, int]]) -> Mapping[str, tuple[int, ...]]:
    return {name: tensor.shape for path, _ in files for name, tensor in stored_tensors(path).items()}


def adaptable_layer_ends(folder: Path) -> list[str] | None:
    """Last parts of the names of a base model's layers that adapters may change: matrices, but no embeddings.

    None where they cannot be told from the names: other files than safetensors, and mixtures of experts.
    """
    matrices = {name for name, shape in base_shapes(folder).items() if name.endswith(".weight") and len(shape) == 2}  # noqa: PLR2004
    ends = {name.removesuffix(".weight").rpartition(".")[2] for name in matrices}
    if any(".experts." in name for name in base_shapes(folder)):
        return None
    return sorted(end for end in ends if not any(word in end for word in EMBEDDING_WORDS)) or None
