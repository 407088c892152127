"""Reading a base model's folder without loading its weights: enough to write prompts and to decode answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer

from arc_engine.errors import BaseModelError
from arc_engine.tokens import Tokenizer

# Every prompt holds digits and line ends, and a tokenizer of another class than the files are for may drop the latter.
PROBE: Final = "I12\n30O"


@dataclass(frozen=True, slots=True, eq=False)
class BaseReading:
    """The tokenizer of the base model in `folder`, and the longest sequence, in tokens, that it has positions for."""

    folder: Path
    tokenizer: Tokenizer
    max_positions: int


def read_base(folder: Path) -> BaseReading:
    """Reads tokenizer and configuration, without network and without running code from the folder.

    Raises `BaseModelError` if either is missing or broken, or the tokenizer cannot write grids or end a text.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise BaseModelError(f"{folder} cannot be read: {error}") from error
    max_positions = getattr(config, "max_position_embeddings", None)  # under whatever name the architecture has it
    if not isinstance(max_positions, int):
        raise BaseModelError(f"{folder}: the configuration has no max_position_embeddings, so no limit of a sequence")
    if tokenizer.eos_token_id is None:
        raise BaseModelError(f"{folder}: the tokenizer has no end-of-text token, so no answer would ever end")
    again = tokenizer.decode(tokenizer.encode(PROBE, add_special_tokens=False), skip_special_tokens=True)
    if again.strip() != PROBE:  # some put a space before the first word
        raise BaseModelError(f"{folder}: the tokenizer turns {PROBE!r} into {again!r}")
    return BaseReading(folder, tokenizer, max_positions)
