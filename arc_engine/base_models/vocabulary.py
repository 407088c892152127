"""The tokens of a tokenizer that prompts are written with, and the same tokenizer without the others.

Every tokenizer that `tokenizers` knows chooses among the tokens it has: by rank (BPE), by probability (Unigram), by
length (WordPiece). Without tokens that a choice did not fall on, and with the parts that BPE made its tokens of, the
choice is the same, so a text whose tokens are kept is still written in the same tokens.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from tokenizers.pre_tokenizers import ByteLevel

from arc_engine.errors import BaseModelError

# What any text can be spelled with, in the notations of byte-level BPE, SentencePiece and plain characters.
LETTERS: Final = frozenset(ByteLevel.alphabet()) | {chr(code) for code in range(0x20, 0x7F)} | {"\n", "\u2581"}
BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")

TokenizerJson = dict[str, Any]


def kept_tokens(document: TokenizerJson, *, used: Iterable[int], special: Iterable[int]) -> list[int]:
    """Ids, in rising order, of the `used` and `special` tokens, of what these are made of, and of single characters.

    A used token in which a digit stands with anything else is left out, so that in the remaining vocabulary every cell
    of a grid is a token of its own; its characters are kept. `document` is what `tokenizers` writes as
    `tokenizer.json`. Raises `BaseModelError` for tokenizers of kinds that we do not know.
    """
    vocabulary = _vocabulary(document)
    text_of = {number: text for text, number in vocabulary.items()}
    kept = {number for text, number in vocabulary.items() if text in LETTERS or BYTE.fullmatch(text)}
    special_ids = set(special) | _ids_of_post_processor(document.get("post_processor"))
    words = [text_of[number] for number in used if number in text_of and number not in special_ids | kept]
    ranks = _merge_ranks(document)
    for word in words:
        if len(word) == 1 or not any(char.isdigit() for char in word):
            kept |= {vocabulary[part] for part in (word, *_parts(word, ranks)) if part in vocabulary}
        else:
            kept |= {vocabulary[char] for char in word if char in vocabulary}
    unknown = document["model"].get("unk_token")
    kept |= {vocabulary[unknown]} if unknown in vocabulary else set()
    unknown_id = document["model"].get("unk_id")
    kept |= {unknown_id} if unknown_id is not None else set()
    return sorted(kept | special_ids)


def without_others(document: TokenizerJson, kept: Sequence[int]) -> TokenizerJson:
    """The tokenizer with the tokens `kept` only, numbered by their position in it."""
    new_id = {old: new for new, old in enumerate(kept)}
    model = dict(document["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {text: new_id[old] for text, old in model["vocab"].items() if old in new_id}
    else:  # Unigram: pairs of piece and score, in the order of their ids
        model["vocab"] = [model["vocab"][old] for old in kept if old < len(model["vocab"])]
        model["unk_id"] = None if model.get("unk_id") is None else new_id[model["unk_id"]]
    if "merges" in model:
        model["merges"] = [
            [left, right]
            for left, right in map(_two_parts, model["merges"])
            if left in model["vocab"] and right in model["vocab"] and left + right in model["vocab"]
        ]
    return {
        **document,
        "model": model,
        "added_tokens": [
            {**token, "id": new_id[token["id"]]} for token in document["added_tokens"] if token["id"] in new_id
        ],
        "post_processor": _renumbered(document.get("post_processor"), new_id),
        "truncation": None,
        "padding": None,
    }


def _vocabulary(document: TokenizerJson) -> dict[str, int]:
    """All tokens by their text, added ones included."""
    model = document["model"]
    if (model.get("continuing_subword_prefix") and model["type"] == "BPE") or model.get("end_of_word_suffix"):
        raise BaseModelError("tokenizers with marks for parts of words (BPE) cannot be trimmed")
    vocab = model["vocab"]
    vocabulary = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    return vocabulary | {token["content"]: token["id"] for token in document["added_tokens"]}


def _two_parts(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _merge_ranks(document: TokenizerJson) -> dict[tuple[str, str], int]:
    return {_two_parts(merge): rank for rank, merge in enumerate(document["model"].get("merges", ()))}


def _parts(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Everything that BPE has in hand on its way from the characters of `word` to `word`."""
    now = list(word)
    parts = list(now)
    while len(now) > 1:
        pairs = [(ranks[pair], i) for i, pair in enumerate(pairwise(now)) if pair in ranks]
        if not pairs:
            return parts
        _, place = min(pairs)
        now[place : place + 2] = [now[place] + now[place + 1]]
        parts.append(now[place])
    return parts


def _ids_of_post_processor(processor: Mapping[str, Any] | None) -> set[int]:
    """Ids of the tokens that a tokenizer puts around a text."""
    if processor is None:
        return set()
    match processor["type"]:
        case "ByteLevel":
            return set()
        case "TemplateProcessing":
            return {number for token in processor["special_tokens"].values() for number in token["ids"]}
        case "BertProcessing" | "RobertaProcessing":
            return {processor["sep"][1], processor["cls"][1]}
        case "Sequence":
            return set().union(*map(_ids_of_post_processor, processor["processors"]))
    raise BaseModelError(f"tokenizers with a post-processor {processor['type']} cannot be trimmed")


def _renumbered(processor: Mapping[str, Any] | None, new_id: Mapping[int, int]) -> dict[str, Any] | None:
    """The post-processor with its tokens' new ids."""
    if processor is None:
        return None
    fields: dict[str, Any] = json.loads(json.dumps(processor))
    for token in fields.get("special_tokens", {}).values():
        token["ids"] = [_new_id(number, new_id) for number in token["ids"]]
    for name in ("sep", "cls"):
        if name in fields:
            fields[name] = [fields[name][0], _new_id(fields[name][1], new_id)]
    if "processors" in fields:
        fields["processors"] = [_renumbered(part, new_id) for part in fields["processors"]]
    return fields


def _new_id(old: int, new_id: Mapping[int, int]) -> int:
    if old not in new_id:
        raise BaseModelError(
            f"the tokenizer puts a token around texts, number {old}, that the model has no embedding of"
        )
    return new_id[old]
