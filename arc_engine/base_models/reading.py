"""Reading a base model's folder without loading its weights: enough to write prompts and to decode answers."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from arc_engine.errors import BaseModelError
from arc_engine.tokens import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class BaseReading:
    """The tokenizer of the base model in `folder`, and the longest sequence, in tokens, that it has positions for."""

    folder: Path
    tokenizer: Tokenizer
    max_positions: int


def read_base(folder: Path) -> BaseReading:
    """Reads tokenizer and configuration, without network and without running code from the folder.

    Raises `BaseModelError` if either is missing or broken.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return BaseReading(folder, tokenizer, int(config["max_position_embeddings"]))
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(f"{folder} cannot be read: {error}") from error
