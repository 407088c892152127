"""The tokenizer of our own small base models: one token per character.

Digits, line ends and all of printable ASCII are tokens, so every grid encoder and prompt can be written in it.
"""

from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS: Final = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
CHARACTERS: Final = ("\n", *(chr(code) for code in range(0x20, 0x7F)))
VOCABULARY: Final = {token: number for number, token in enumerate((*SPECIAL_TOKENS.values(), *CHARACTERS))}


def build_tokenizer(*, model_max_length: int) -> PreTrainedTokenizerFast:
    """A character tokenizer of 100 tokens; `model_max_length` in tokens. Adds no special tokens by itself."""
    model = Tokenizer(WordLevel(dict(VOCABULARY), SPECIAL_TOKENS["unk_token"]))
    model.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    model.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
        **SPECIAL_TOKENS,
    )


def save_tokenizer(directory: Path, *, model_max_length: int) -> None:
    """Writes the tokenizer files, which `AutoTokenizer.from_pretrained` loads."""
    build_tokenizer(model_max_length=model_max_length).save_pretrained(str(directory))
