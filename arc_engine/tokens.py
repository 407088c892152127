"""From prompt segments to token ids, with the answer that every token belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from arc_engine.prompts import Segment

CONTEXT: Final = -1


class Tokenizer(Protocol):
    """What we use of a Hugging Face tokenizer."""

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """`ids` are token ids; `answers[i]` is the number of the output that token `i` belongs to, `CONTEXT` for none."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


def tokenize(segments: Sequence[Segment], tokenizer: Tokenizer) -> TokenizedPrompt:
    """Token ids of the segments: a beginning-of-text token if the tokenizer has one, every answer closed by its
    end-of-text token, which counts as part of the answer."""
    ids: list[int] = []
    answers: list[int] = []
    if tokenizer.bos_token_id is not None:
        ids.append(tokenizer.bos_token_id)
        answers.append(CONTEXT)
    for segment in segments:
        piece = tokenizer.encode(segment.text, add_special_tokens=False)
        if segment.answer is not None and tokenizer.eos_token_id is not None:
            piece = [*piece, tokenizer.eos_token_id]
        ids += piece
        answers += [CONTEXT if segment.answer is None else segment.answer] * len(piece)
    return TokenizedPrompt(tuple(ids), tuple(answers))
