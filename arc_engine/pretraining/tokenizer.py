"""The tokenizer of our own small base models: one token per character, and those that an encoder has of its own.

Digits, line ends and all of printable ASCII are tokens, so every grid encoder and prompt can be written in it.
"""

from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from arc_engine.encoders import COORDINATE_TOKENS, CoordinateEncoder, parse_encoder
from arc_engine.grids import MAX_SIDE, NUM_COLOURS
from arc_engine.tokens import GRID_ENCODER_KEY

SPECIAL_TOKENS: Final = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
CHARACTERS: Final = ("\n", *(chr(code) for code in range(0x20, 0x7F)))
VOCABULARY: Final = {token: number for number, token in enumerate((*SPECIAL_TOKENS.values(), *CHARACTERS))}
WITH_COORDINATES: Final = VOCABULARY | {
    token: number for number, token in enumerate(COORDINATE_TOKENS, start=len(VOCABULARY))
}
FIRST_CELL: Final = len(WITH_COORDINATES) - MAX_SIDE * NUM_COLOURS
"""From here on, tokens that name a column and a colour."""
_CHARACTER: Final = r"[\s\S]"
_COORDINATES: Final = r"1:|\n(?:[2-9]|[12]\d|30):|[a-zA-D]\d"


def vocabulary(grid_encoder: str) -> dict[str, int]:
    """The tokens, by number, of a model that reads grids in that encoder."""
    return dict(WITH_COORDINATES if has_coordinates(grid_encoder) else VOCABULARY)


def build_tokenizer(grid_encoder: str = "MinimalGridEncoder()", *, model_max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer with the tokens of `vocabulary`; `model_max_length` in tokens. Adds no special tokens by itself.

    It says in which encoder grids are written for it.
    """
    model = Tokenizer(WordLevel(vocabulary(grid_encoder), SPECIAL_TOKENS["unk_token"]))
    pattern = f"{_COORDINATES}|{_CHARACTER}" if has_coordinates(grid_encoder) else _CHARACTER
    model.pre_tokenizer = Split(Regex(pattern), behavior="isolated")
    model.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
        **{GRID_ENCODER_KEY: grid_encoder},
        **SPECIAL_TOKENS,
    )


def save_tokenizer(directory: Path, *, model_max_length: int) -> None:
    """Writes the tokenizer files, which `AutoTokenizer.from_pretrained` loads."""
    build_tokenizer(model_max_length=model_max_length).save_pretrained(str(directory))


def has_coordinates(grid_encoder: str) -> bool:
    """Whether that encoder has tokens of its own."""
    return isinstance(parse_encoder(grid_encoder), CoordinateEncoder)
